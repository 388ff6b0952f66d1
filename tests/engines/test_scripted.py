"""The public test double."""

from __future__ import annotations

import pytest
from stream_reader import read

from curator.engines.base import Engine, EngineIdentity, StreamingEngine
from curator.engines.scripted import ScriptedEngine, Streamed
from curator.errors import ConfigError, RateLimitError, ServerError
from curator.types import (
    ChatRequest,
    Completion,
    DecideRequest,
    Decisions,
    Delta,
    Demonstration,
    GenerateRequest,
    Message,
    Option,
    Question,
    Sample,
    Template,
    Usage,
)

pytestmark = pytest.mark.anyio

MOOD = Question("mood", "choice", "Mood?", (Option("good"), Option("bad")))
TRUE = Question("true", "predicate", "True?", (Option("yes"), Option("no")))
HI = GenerateRequest((Message("system", "Be brief."), Message("user", "hi")), n=2)


def row(state, *questions):
    return DecideRequest(state, questions or (MOOD,))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("bad", (0.0, 1.0)),
        ({"good": 0.3, "bad": 0.7}, (0.3, 0.7)),
        ({"bad": 1}, (0.0, 1.0)),
        ((0.25, 0.75), (0.25, 0.75)),
        ({"mood": "good"}, (1.0, 0.0)),
        ({"mood": {"good": 0.1, "bad": 0.9}}, (0.1, 0.9)),
    ],
)
async def test_answers_may_be_written_in_many_ways(answer, expected):
    for script in (lambda request: answer, {"fine": answer}, [answer]):
        decided = (await ScriptedEngine(decide=script).decide(row("fine"))).answers[0]
        assert decided.probabilities == pytest.approx(expected, abs=1e-6)
        assert decided.readout == "scripted"


async def test_several_questions_are_answered_by_name():
    engine = ScriptedEngine(decide={"fine": {"mood": None, "true": True}})
    mood, true = (await engine.decide(row("fine", MOOD, TRUE))).answers
    assert mood is None
    assert true.top == 0
    with pytest.raises(ConfigError, match="does not answer the question 'true'"):
        await ScriptedEngine(decide=[{"mood": "good"}]).decide(row("fine", MOOD, TRUE))


async def test_texts_are_repeated_or_taken_as_they_are():
    engine = ScriptedEngine(generate=["one", ["a", "b"], Completion((Sample("ready"),))])
    texts = [[sample.text for sample in (await engine.generate(HI)).samples] for _ in range(3)]
    assert texts == [["one", "one"], ["a", "b"], ["ready"]]
    keyed = ScriptedEngine(generate={"hi": "hello"})
    assert (await keyed.generate(HI)).samples[0].text == "hello"


async def test_requests_are_recorded_and_faults_raised_at_their_call():
    engine = ScriptedEngine(decide=["good", "bad"], generate=["x"], faults={1: RateLimitError("slow")})
    await engine.decide(row("a"))
    with pytest.raises(RateLimitError):
        await engine.decide(row("b"))
    assert (await engine.decide(row("c"))).answers[0].top == 1
    await engine.generate(HI)
    assert [getattr(request, "state", "chat") for request in engine.requests] == ["a", "b", "c", "chat"]


@pytest.mark.parametrize(
    ("script", "match"),
    [
        ({"other": "good"}, "no answer for 'fine'"),
        ([], "only 0 answers"),
        (["great"], "'great', which is no option of 'mood'"),
        ([(0.2, 0.3, 0.5)], "2 probabilities"),
    ],
)
async def test_a_script_that_does_not_fit_says_so(script, match):
    with pytest.raises(ConfigError, match=match):
        await ScriptedEngine(decide=script).decide(row("fine"))


async def test_it_is_an_engine_with_the_capabilities_of_its_script():
    engine = ScriptedEngine(decide=["good"], identity=EngineIdentity("scripted", "a"), concurrency=3)
    assert isinstance(engine, Engine)
    assert engine.capabilities == {"decide"}
    assert (engine.identity.model, engine.concurrency) == ("a", 3)
    with pytest.raises(ConfigError, match="no script for generate"):
        await engine.generate(HI)
    with pytest.raises(ConfigError, match="no script for decide"):
        await ScriptedEngine(generate=["x"]).decide(row("fine"))
    with pytest.raises(ConfigError, match="needs answers"):
        ScriptedEngine()


async def test_preview_shows_the_whole_prompt_and_closing_is_noted():
    engine = ScriptedEngine(decide=[Decisions(())])
    request = DecideRequest("fine", (MOOD,), Template(letters=True), (Demonstration("sad", {"mood": "bad"}),))
    preview = (await engine.preview(request))[0]
    assert "sad" in preview.prompt
    assert preview.scored == (("good", ("A",)), ("bad", ("B",)))
    assert not engine.requests
    await engine.aclose()
    await engine.aclose()
    assert engine.closed


async def test_a_text_streams_word_by_word():
    engine = ScriptedEngine(generate=[" one\ntwo  three ", ["a", "b"], Completion((Sample("whole", "length"),))])
    assert isinstance(engine, StreamingEngine)
    found = [[piece async for piece in engine.stream(HI)] for _ in range(3)]
    words, both, whole = found
    assert [(piece.index, piece.text) for piece in words[:4]] == [(0, " one"), (0, "\ntwo"), (0, "  three "), (0, "")]
    assert words[-1].usage == Usage(3, 6)
    assert [piece.finish_reason for piece in both] == [None, "stop", None, "stop", None]
    assert whole[0] == Delta(text="whole", finish_reason="length", whole=Sample("whole", "length"))
    assert engine.aborted == 0


async def test_pieces_come_as_they_are_written_and_fail_where_they_say():
    pieces = [Delta(text="a", logprobs=(-0.5,)), "b", ServerError("broken")]
    engine = ScriptedEngine(generate=lambda request: Streamed(pieces, delay=0.001))
    found, error = await read(engine.stream(HI))
    assert ([piece.text for piece in found], str(error)) == (["a", "b"], "broken")
    with pytest.raises(ServerError, match="broken"):
        await engine.generate(HI)
    assert len(engine.requests) == 2
    whole = await ScriptedEngine(generate=[Streamed(pieces[:2])]).generate(HI)
    assert whole.samples[0].text == "ab"
    assert whole.samples[0].logprob == -0.5


async def test_faults_come_before_the_first_piece_and_closed_streams_are_counted():
    engine = ScriptedEngine(generate=["one two"] * 2, faults=[RateLimitError("slow")])
    with pytest.raises(RateLimitError):
        await anext(engine.stream(HI))
    pieces = engine.stream(HI)
    await anext(pieces)
    await pieces.aclose()
    assert engine.aborted == 1
    with pytest.raises(ConfigError, match="no script for generate"):
        await anext(ScriptedEngine(decide=["good"]).stream(HI))


async def test_a_chat_request_is_answered_like_any_other():
    engine = ScriptedEngine(generate=["a", "b"])
    assert (await engine.generate(ChatRequest(HI.messages))).samples[0].text == "a"
    assert (await engine.generate(HI)).samples[0].text == "b"
