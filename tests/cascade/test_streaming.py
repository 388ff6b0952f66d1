"""Answers in pieces: drafts held, released, given up; tiers that break; who is billed."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from route_builders import CHAT, policy, scripted

from benchmarks.mock_stream import DONE, HANG, StreamServer, chunk, chunks
from cascade.policy import Scorer
from cascade.routed import Outcome, Reason
from cascade.router import Cascade
from cascade.rulebook import Wish
from curator.engines.base import StreamingEngine
from curator.engines.http import HTTPEngine
from curator.engines.retry import RetryEngine, RetryPolicy
from curator.engines.sampled import sample
from curator.engines.scripted import Streamed
from curator.errors import GoldlessError, OverloadedError, RateLimitError, RefusalError, ServerError
from curator.types import ChatRequest, Completion, Delta, GenerateRequest, Sampling, Usage

pytestmark = pytest.mark.anyio

PREFIX = Scorer(signals=("prefix_probability:2",), weights=(1.0,))
SURE, UNSURE = -0.01, -3.0
LONG = GenerateRequest(CHAT.messages, Sampling(max_tokens=16))


def words(*texts, logprob=SURE, end="stop", then=()):
    """A draft of one token per piece."""
    return Streamed([*(Delta(text=text, logprobs=(logprob,)) for text in texts), *then, Delta(finish_reason=end)])


def cascade_of(small, strong="42, surely", *, scorer=None, limit=0.8, asked=LONG, **settings):
    """Small before strong: a script each, or an engine."""
    tiers = {
        name: script if hasattr(script, "identity") else scripted(name, generate=lambda request, said=script: said)
        for name, script in (("small", small), ("strong", strong))
    }
    return Cascade(tiers, policy(tiers, asked, {"text": [limit]}, scorer=scorer), **settings), tiers


async def read(stream):
    """Pieces, and the error at their end."""
    found = []
    async with aclosing(stream.pieces()) as pieces:
        try:
            while (piece := await anext(pieces, None)) is not None:
                found.append(piece)
        except GoldlessError as error:
            return found, error
    return found, None


def text(pieces):
    return "".join(piece.text for piece in pieces)


async def answered(cascade, request=LONG):
    stream = cascade.route_stream(request)
    found, error = await read(stream)
    assert error is None
    return text(found), stream.routed


async def test_a_sure_draft_is_served_after_it_is_whole():
    cascade, tiers = cascade_of(words("4", "2"))
    said, routed = await answered(cascade)
    (served,) = routed.answers
    assert (said, served.answer.samples[0].text) == ("42", "42")
    assert (served.tier, served.outcome, served.certified) == ("small", Outcome.ACCEPTED, True)
    assert not tiers["strong"].requests
    assert [attempt.judgements[0].reason for attempt in routed.attempts] == [Reason.REACHED]
    assert routed.usage == Usage(2, 2)


async def test_no_piece_of_a_rejected_draft_is_seen():
    cascade, _ = cascade_of(words("4", "1", logprob=-0.5))
    said, routed = await answered(cascade)
    assert said == "42, surely"
    assert (routed.answers[0].tier, routed.answers[0].outcome) == ("strong", Outcome.TEACHER)
    assert [attempt.judgements[0].reason for attempt in routed.attempts] == [Reason.BELOW, Reason.LAST]
    assert routed.usage == Usage(4, 4, calls=2)


@pytest.mark.parametrize("scorer", [None, PREFIX])
@pytest.mark.parametrize("logprob", [SURE, -0.3, UNSURE])
async def test_streaming_serves_what_waiting_serves(scorer, logprob):
    cascade, _ = cascade_of(words(*"abcdef", logprob=logprob), scorer=scorer)
    said, streamed = await answered(cascade)
    waited = await cascade.route_text(LONG)
    assert said == waited.answers[0].answer.samples[0].text
    for one, other in zip(streamed.answers, waited.answers, strict=True):
        assert (one.tier, one.outcome, one.certified, one.confidence) == (
            other.tier,
            other.outcome,
            other.certified,
            pytest.approx(other.confidence, nan_ok=True),
        )


async def test_the_last_tier_is_passed_on_as_it_comes():
    async with StreamServer([chunk("It"), HANG]) as server:
        cascade, tiers = cascade_of("no signal", HTTPEngine(server.url, "strong"))
        async with aclosing(cascade.route_stream(LONG).pieces()) as pieces:
            assert (await anext(pieces)).text == "It"
        await tiers["strong"].aclose()


async def test_a_prefix_gate_releases_while_the_draft_is_written():
    async with StreamServer([chunk("4", logprobs=[SURE]), chunk("2", logprobs=[SURE]), HANG]) as server:
        cascade, tiers = cascade_of(HTTPEngine(server.url, "small"), scorer=PREFIX)
        stream = cascade.route_stream(LONG)
        async with aclosing(stream.pieces()) as pieces:
            assert [(await anext(pieces)).text for _ in range(2)] == ["4", "2"]
        # The client is gone: so is the connection, and what came is billed.
        await server.until(lambda: server.gone == 1)
        await tiers["small"].aclose()
    assert stream.routed is None
    (attempt,) = stream.attempts
    assert (attempt.usage.output_tokens, attempt.estimated, attempt.error) == (2, True, "CancelledError")


async def test_a_hopeless_draft_is_stopped_at_once_and_billed_as_far_as_it_is_known():
    told = {"prompt_tokens": 7, "completion_tokens": 2}
    script = [chunk("4", logprobs=[UNSURE]), chunk("1", logprobs=[UNSURE], usage=told), HANG]
    for scorer, exact in ((PREFIX, False), (None, True)):
        async with StreamServer(script) as server:
            cascade, tiers = cascade_of(HTTPEngine(server.url, "small"), scorer=scorer)
            said, routed = await answered(cascade)
            await server.until(lambda server=server: server.gone == 1)
            await tiers["small"].aclose()
        assert said == "42, surely"
        draft, _ = routed.attempts
        assert (draft.judgements[0].reason, draft.judgements[0].answer) == (Reason.BELOW, None)
        assert draft.judgements[0].score < 0.8
        assert (draft.estimated, draft.error) == (not exact, "")
        assert draft.usage == (Usage(7, 2) if exact else Usage(len("How many?") // 4, 1))


@pytest.mark.parametrize("when", [0, 1])
async def test_a_lower_tier_that_breaks_is_escalated(when):
    broken = Streamed([*[Delta(text="4", logprobs=(SURE,))] * when, ServerError("it broke")])
    cascade, _ = cascade_of(broken)
    said, routed = await answered(cascade)
    assert said == "42, surely"
    draft, _ = routed.attempts
    assert (draft.error, draft.judgements[0].reason) == ("ServerError", Reason.FAILED)
    assert (draft.estimated, draft.usage.output_tokens) == (bool(when), when)


async def test_a_draft_that_breaks_after_it_was_released_is_an_error():
    cascade, tiers = cascade_of(words("4", "2", then=[ServerError("it broke")]), scorer=PREFIX)
    stream = cascade.route_stream(LONG)
    found, error = await read(stream)
    assert (text(found), str(error)) == ("42", "it broke")
    assert not any(piece.finish_reason for piece in found)
    assert stream.routed is None
    assert [attempt.error for attempt in stream.attempts] == ["ServerError"]
    assert not tiers["strong"].requests


async def test_the_last_tier_that_breaks_in_the_middle_is_an_error_behind_its_pieces():
    cascade, _ = cascade_of(words("4", logprob=UNSURE), Streamed(["It", " is", ServerError("it broke")]))
    stream = cascade.route_stream(LONG)
    found, error = await read(stream)
    assert (text(found), str(error)) == ("It is", "it broke")
    assert not any(piece.finish_reason for piece in found)
    assert [attempt.tier for attempt in stream.attempts] == ["small", "strong"]
    assert stream.attempts[1].estimated


async def test_the_last_tier_that_fails_at_once_is_replaced_by_the_draft():
    drafted = words("4", "1", logprob=-0.5)
    cascade, tiers = cascade_of(drafted, Streamed([ServerError("down")]))
    said, routed = await answered(cascade)
    assert (said, routed.answers[0].outcome, routed.answers[0].certified) == ("41", Outcome.FALLBACK, False)
    assert len(tiers["small"].requests) == 1
    cascade, _ = cascade_of(drafted, Streamed([ServerError("down")]), fallback=False)
    _, error = await read(cascade.route_stream(LONG))
    assert str(error) == "down"


async def test_a_draft_that_was_given_up_is_asked_for_again_where_the_last_tier_fails():
    cascade, tiers = cascade_of(words(*"abcdefgh", logprob=UNSURE), Streamed([ServerError("down")]))
    said, routed = await answered(cascade)
    assert (said, routed.answers[0].outcome) == ("abcdefgh", Outcome.FALLBACK)
    assert [attempt.tier for attempt in routed.attempts] == ["small", "strong", "small"]
    assert tiers["small"].aborted == 1


async def test_invalid_answers_are_escalated_however_sure():
    pytest.importorskip("jsonschema")
    schema = GenerateRequest(CHAT.messages, CHAT.sampling, schema={"type": "object"})
    for draft, tier in (("{}", "strong"), ("42", "small")):
        cascade, _ = cascade_of(words(*draft), '{"n": 42}', asked=schema, scorer=PREFIX)
        said, routed = await answered(cascade, schema)
        assert said == ('{"n": 42}' if tier == "small" else "{}")
        assert routed.answers[0].tier != tier


async def test_a_tool_call_must_fit_its_tool():
    pytest.importorskip("jsonschema")
    parameters = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    tool = {"type": "function", "function": {"name": "add", "parameters": parameters}}
    asked = ChatRequest(CHAT.messages, CHAT.sampling, tools=(tool,))
    for arguments, tier in (('{"n": 1}', "small"), ('{"n": "1"}', "strong"), ('{"n": 1', "strong")):
        call = {"index": 0, "id": "a", "type": "function", "function": {"name": "add", "arguments": arguments}}
        drafted = Streamed([Delta(tool_calls=(call,), logprobs=(SURE,)), Delta(finish_reason="tool_calls")])
        cascade, _ = cascade_of(drafted, asked=asked)
        _, routed = await answered(cascade, asked)
        assert routed.answers[0].tier == tier


async def test_refusals_go_on_to_the_last_tier_whose_own_is_passed_on():
    declining = Streamed([Delta(text="I cannot", finish_reason="refusal")])
    cascade, _ = cascade_of(declining)
    said, routed = await answered(cascade)
    assert (said, routed.attempts[0].judgements[0].reason) == ("42, surely", Reason.REFUSED)
    cascade, _ = cascade_of(declining, declining)
    stream = cascade.route_stream(LONG)
    found, _ = await read(stream)
    assert [(piece.text, piece.finish_reason) for piece in found] == [("I cannot", "refusal")]
    assert (stream.routed.answers[0].outcome, stream.routed.answers[0].answer) == (Outcome.REFUSED, None)
    raising = Streamed([RefusalError("no")])
    cascade, _ = cascade_of(raising, raising)
    said, routed = await answered(cascade)
    assert (said, routed.answers[0].outcome) == ("", Outcome.REFUSED)
    with pytest.raises(RefusalError):
        await anext(cascade.stream(LONG))


@pytest.mark.parametrize("end", ["refusal", "content_filter"])
async def test_a_draft_that_ends_badly_after_it_was_released_is_not_certified(end):
    cascade, tiers = cascade_of(words("4", "2", end=end), scorer=PREFIX)
    _, routed = await answered(cascade)
    assert not routed.answers[0].certified
    assert "before it turned out" in routed.answers[0].note
    assert not tiers["strong"].requests


async def test_a_draft_without_log_probabilities_is_escalated():
    cascade, _ = cascade_of("no signal")
    said, routed = await answered(cascade)
    assert (said, routed.attempts[0].judgements[0].reason) == ("42, surely", Reason.UNKNOWN)


@pytest.mark.parametrize("scorer", [None, PREFIX])
async def test_a_tier_that_does_not_stream_is_judged_by_all_that_it_says(scorer):
    class Plain:
        def __init__(self):
            inner = scripted("small", generate=[Completion((sample("41", "stop", [SURE] * 3),), Usage(2, 1))])
            self.identity, self.capabilities, self.concurrency = inner.identity, inner.capabilities, 1
            self.generate = inner.generate

    cascade, _ = cascade_of(RetryEngine(Plain()), scorer=scorer)
    said, routed = await answered(cascade)
    assert (said, routed.answers[0].tier) == ("41", "small")


async def test_what_was_tried_again_is_billed_with_the_attempt():
    flaky = scripted("strong", generate=["42"], faults=[RateLimitError("slow"), ServerError("500")])
    cascade, _ = cascade_of("no signal", RetryEngine(flaky, RetryPolicy(base=0.0, cap=0.0)))
    _, routed = await answered(cascade)
    strong = routed.attempts[1]
    assert [tried.error for tried in strong.tries] == ["RateLimitError", "ServerError"]
    assert strong.usage.calls == 3


async def test_a_caller_may_choose_the_tier():
    cascade, tiers = cascade_of(words("4", "2"))
    stream = cascade.route_stream(LONG, Wish("strong"))
    assert text((await read(stream))[0]) == "42, surely"
    assert not tiers["small"].requests
    assert not stream.routed.answers[0].certified


class Full:
    """A cap that is reached."""

    def __init__(self, draft):
        self.serves_draft, self.settled, self.open = draft, [], False

    def request(self):
        pass

    def take(self):
        return None if self.open else OverloadedError("the cap is reached", retry_after=1)

    def settle(self, cost):
        self.settled.append(cost)


async def test_a_cap_keeps_requests_from_the_last_tier():
    drafted = words("4", "1", logprob=-0.5)
    cascade, tiers = cascade_of(drafted, cap=Full(draft=True))
    said, routed = await answered(cascade)
    assert (said, routed.answers[0].outcome, routed.answers[0].note) == ("41", Outcome.FALLBACK, "the cap is reached")
    assert not tiers["strong"].requests
    cascade, _ = cascade_of(drafted, cap=Full(draft=False))
    assert isinstance((await read(cascade.route_stream(LONG)))[1], OverloadedError)
    cap = Full(draft=True)
    cap.open = True
    cascade, _ = cascade_of(drafted, cap=cap)
    await answered(cascade)
    assert cap.settled == [None]


async def test_it_is_an_engine_that_streams_and_nests():
    inner, _ = cascade_of(words("4", "1", logprob=UNSURE), "42, surely")
    assert isinstance(inner, StreamingEngine)
    pieces = [piece async for piece in inner.stream(LONG)]
    assert text(pieces) == "42, surely"
    assert pieces[-1].usage.calls == 2
    outer, _ = cascade_of("no signal", inner)
    said, routed = await answered(outer)
    assert said == "42, surely"
    assert routed.usage.calls == 3


async def test_cancelling_the_reader_stops_the_tier_and_keeps_the_bill():
    async with StreamServer([chunk("It"), HANG]) as server:
        cascade, tiers = cascade_of("no signal", HTTPEngine(server.url, "strong"))
        stream = cascade.route_stream(LONG)
        task = asyncio.create_task(read(stream))
        await server.until(lambda: len(server.bodies) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until(lambda: server.gone == 1)
        await tiers["strong"].aclose()
    assert [(attempt.tier, attempt.error) for attempt in stream.attempts] == [
        ("small", ""),
        ("strong", "CancelledError"),
    ]


async def test_two_streams_over_one_server_do_not_mix():
    def answer(body):
        said = body["messages"][-1]["content"]
        return [step for letter in said for step in (chunk(letter), 0.001)] + chunks()[-3:] + [DONE]

    async with StreamServer(answer) as server:
        cascade, tiers = cascade_of("no signal", HTTPEngine(server.url, "strong"))
        asked = [GenerateRequest((type(CHAT.messages[0])("user", letter * 20),), CHAT.sampling) for letter in "abcd"]
        found = await asyncio.gather(*(answered(cascade, request) for request in asked))
        await tiers["strong"].aclose()
    assert [said for said, _ in found] == [letter * 20 for letter in "abcd"]
