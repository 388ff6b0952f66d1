"""The wire shapes, against the official `openai` client and a real System One server."""

from __future__ import annotations

import math

import openai
import orjson
import pytest
from openai.types import Decision as OpenAIDecision
from openai.types.chat import ChatCompletion
from sparrow_decider import Decider
from sparrow_process import serving_sparrow

from benchmarks import mock_routes
from benchmarks.mock_server import MockServer
from curator.engines.chat import lettered
from curator.engines.http import HTTPEngine
from curator.engines.matching import Matcher, read_first, read_spelled, separable
from curator.errors import InvalidOutputError, RequestRejectedError
from curator.types import DecideRequest, GenerateRequest, Message, Option, Question, Sampling, Template

pytestmark = pytest.mark.anyio

MOOD = Question("mood", "choice", "What is the mood?", (Option("positive", "glad words"), Option("negative")))
TRUE = Question(
    "refund", "predicate", "The user wants money back.", (Option("true", "asks"), Option("false", "asks not"))
)
URGENT = Question(
    "urgency", "score", "How urgent?", (Option("can wait"), Option("today", "within hours"), Option("now"))
)
ROW = DecideRequest("User: I was charged twice for order 1182", (MOOD, TRUE, URGENT))


async def both(ours, theirs, speaks):
    """The request body that we send and the one that the official client sends."""
    async with MockServer(speaks=speaks) as server:
        engine = HTTPEngine(server.url, "gpt-6-luna", dialect=speaks[0])
        async with openai.AsyncOpenAI(base_url=server.url, api_key="key", max_retries=0) as client:
            result = await ours(engine)
            reply = await theirs(client)
        await engine.aclose()
    return server.requests[0], server.requests[-1], result, reply


async def test_decisions_are_asked_exactly_as_the_official_client_asks():
    async def theirs(client):
        return await client.decisions.create(
            model="gpt-6-luna",
            input=ROW.state,
            questions=[
                {
                    "type": "choice",
                    "name": "mood",
                    "instructions": "What is the mood?",
                    "choices": [{"value": "positive", "description": "glad words"}, {"value": "negative"}],
                },
                {
                    "type": "predicate",
                    "name": "refund",
                    "instructions": "The user wants money back.\nTrue means: asks\nFalse means: asks not",
                },
                {
                    "type": "score",
                    "name": "urgency",
                    "instructions": "How urgent?",
                    "levels": [
                        {"label": "can wait"},
                        {"label": "today", "description": "within hours"},
                        {"label": "now"},
                    ],
                },
            ],
        )

    sent, expected, result, reply = await both(lambda engine: engine.decide(ROW), theirs, ["decisions"])
    assert sent == expected
    choice, predicate, score = reply.answers
    mood, refund, urgency = result.answers
    assert mood.probabilities == pytest.approx([item.probability for item in choice.probabilities])
    assert refund.probabilities[0] == pytest.approx(predicate.probability)
    assert urgency.probabilities == pytest.approx([item.probability for item in score.probabilities])
    assert result.usage.cached_tokens == reply.usage.input_tokens_details.cached_tokens


async def test_chat_is_asked_exactly_as_the_official_client_asks():
    sampling = Sampling(0.5, 0.9, 7, 11, ("END",))

    async def ours(engine):
        return await engine.generate(GenerateRequest((Message("user", "hi"),), sampling, n=2))

    async def theirs(client):
        return await client.chat.completions.create(
            model="gpt-6-luna",
            messages=[{"role": "user", "content": "hi"}],
            max_tokens=7,
            temperature=0.5,
            top_p=0.9,
            n=2,
            seed=11,
            stop=["END"],
            logprobs=True,
        )

    sent, expected, result, reply = await both(ours, theirs, ["chat"])
    assert sent == expected
    assert [sample.text for sample in result.samples] == [choice.message.content for choice in reply.choices]


@pytest.mark.parametrize("asked", [{"logprobs": True, "top_logprobs": 5}, {"response_format": None}, {"n": 2}])
def test_the_mock_tells_the_truth_about_chat(asked):
    schema = {"json_schema": {"schema": {"properties": {"answer": {"enum": ["a", "b"]}}}}}
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **asked}
    if "response_format" in asked:
        body["response_format"] = schema
    said = ChatCompletion.model_validate(mock_routes.chat(body, ("yes", "no")), strict=True)
    assert said.choices[0].message.content in ("yes", "no", '{"answer":"a"}', '{"answer":"b"}')


def test_the_mock_tells_the_truth_about_decisions():
    questions = [
        {"type": "predicate", "instructions": "x"},
        {"type": "choice", "choices": [{"value": "a"}, {"value": "b"}]},
    ]
    body = {"model": "m", "input": "please refuse", "questions": questions}
    assert OpenAIDecision.model_validate(mock_routes.decisions(body, ()), strict=True).answers[0].type == "refusal"
    body["input"] = "fine"
    said = OpenAIDecision.model_validate(mock_routes.decisions(body, ()), strict=True)
    assert [answer.type for answer in said.answers] == ["predicate", "choice"]


@pytest.fixture(scope="module")
def sparrow():
    """The URL of a real System One server."""
    with serving_sparrow() as (_, url):
        yield url


@pytest.mark.parametrize("dialect", ["systemone", "auto"])
async def test_a_real_systemone_server_answers_as_its_own_library_does(sparrow, dialect):
    engine = HTTPEngine(sparrow, "sparrow-nano", dialect=dialect)
    result = await engine.decide(ROW)
    await engine.aclose()
    questions = {
        "mood": {
            "type": "choice",
            "instructions": MOOD.instructions,
            "criteria": {"positive": "glad words", "negative": None},
        },
        "refund": {
            "type": "noul",
            "instructions": TRUE.instructions,
            "criteria": {"true": "asks", "false": "asks not"},
        },
        "urgency": {
            "type": "score",
            "instructions": URGENT.instructions,
            "criteria": ["can wait", "today: within hours", "now"],
        },
    }
    expected = Decider.load().ask(ROW.state, questions)
    mood, refund, urgency = result.answers
    assert mood.probabilities == pytest.approx(list(expected["mood"]["probabilities"].values()), abs=2e-4)
    assert refund.probabilities[0] == pytest.approx(expected["refund"]["noul"], abs=2e-4)
    assert urgency.probabilities == pytest.approx(list(expected["urgency"]["probabilities"].values()), abs=2e-4)
    assert {answer.readout for answer in result.answers} == {"systemone"}


async def test_a_real_systemone_server_says_what_is_wrong(sparrow):
    one = Question("q", "choice", "Which?", (Option("only"),))
    engine = HTTPEngine(sparrow, "sparrow-nano", dialect="systemone")
    with pytest.raises(RequestRejectedError, match="answered 422: a choice question needs criteria"):
        await engine.decide(DecideRequest("x", (one,)))
    await engine.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        {"type": "score", "probabilities": []},
        {"type": "choice", "probabilities": [{"value": "positive", "probability": 3.0}]},
        {"type": "choice", "probabilities": [{"value": "joyful", "probability": 1.0}]},
        {"type": "choice", "probabilities": []},
        {"type": "choice", "probabilities": [{"value": "positive", "probability": "high"}]},
        {"type": "choice"},
        {},
    ],
)
async def test_untrue_decisions_are_invalid(answer):
    async with MockServer(replies={"/v1/decisions": {"answers": [answer]}}) as server:
        engine = HTTPEngine(server.url, "m", dialect="decisions")
        with pytest.raises(InvalidOutputError):
            await engine.decide(DecideRequest("x", (MOOD,)))
        await engine.aclose()


async def test_a_rounded_zero_stays_finite():
    chances = [{"value": "positive", "probability": 1.0}, {"value": "negative", "probability": 0.0}]
    reply = {"answers": [{"type": "choice", "probabilities": chances}]}
    async with MockServer(replies={"/v1/decisions": reply}) as server:
        engine = HTTPEngine(server.url, "m", dialect="decisions")
        answer = (await engine.decide(DecideRequest("x", (MOOD,)))).answers[0]
        await engine.aclose()
    assert all(map(math.isfinite, answer.logprobs))
    assert answer.top == 0


def chance(token, p, **more):
    return {"token": token, "logprob": math.log(p), **more}


def test_tokens_are_matched_by_what_they_begin():
    matcher = Matcher(["positive", "negative", "neutral"])
    options = {
        text: matcher.options({"token": text, "logprob": 0.0}) for text in ("pos", " Pos", "Ne", "neg", "x", "", " ")
    }
    assert options == {"pos": (0,), " Pos": (0,), "Ne": (1, 2), "neg": (1,), "x": (), "": (), " ": ()}
    assert Matcher(["A", "B"]).options({"token": "B.", "logprob": 0.0}) == (1,)
    assert Matcher(["A", "B"]).options({"token": "a", "logprob": 0.0}) == ()
    assert Matcher(["US", "us too"])._fold
    assert not Matcher(["Polish", "polish"])._fold


def test_half_a_character_is_matched_by_its_bytes():
    matcher = Matcher(["好评", "差评"])
    first = "好".encode()[:2]
    assert matcher.options({"token": "�", "logprob": 0.0, "bytes": list(first)}) == (0,)
    assert matcher.options({"token": "�", "logprob": 0.0, "bytes": [0xFF]}) == ()


def test_first_tokens_add_up_and_what_is_not_listed_gets_the_rest():
    matcher = Matcher(["positive", "negative", "mixed"])
    listed = [chance("pos", 0.5), chance(" Positive", 0.2), chance("neg", 0.2), chance("Well", 0.05)]
    logprobs, mass = read_first(matcher, listed)
    assert list(map(math.exp, logprobs)) == pytest.approx([0.7, 0.2, 0.05])
    assert mass == pytest.approx(0.9)
    assert read_first(matcher, [chance("Well", 0.9)]) is None
    shared, _ = read_first(Matcher(["neutral", "negative"]), [chance("ne", 0.8)])
    assert list(map(math.exp, shared)) == pytest.approx([0.4, 0.4])


def test_spelled_options_are_read_token_by_token():
    labels = ["card lost", "card late", "other"]
    tokens = [
        chance('{"', 1.0),
        chance('answer":"', 1.0),
        chance("card", 0.7, top_logprobs=[chance("card", 0.7), chance("other", 0.2)]),
        chance(" l", 1.0, top_logprobs=[chance(" l", 1.0)]),
        chance("ost", 0.6, top_logprobs=[chance("ost", 0.6), chance("ate", 0.4)]),
        chance('"}', 1.0),
        chance("<|im_end|>", 1.0),
    ]
    logprobs = read_spelled(Matcher(labels), tokens, len('{"answer":"'))
    assert list(map(math.exp, logprobs)) == pytest.approx([0.42, 0.28, 0.2])
    masked = [chance("yes", 1.0, top_logprobs=[{"token": "no", "logprob": -9999.0}])]
    assert read_spelled(Matcher(["yes", "no", "maybe"]), masked, 0) == pytest.approx([0.0, -20.0, -20.0])
    joined = [chance('{"answer":"no', 0.9, top_logprobs=[chance('{"answer":"yes', 0.1)]), chance('"}', 1.0)]
    assert list(map(math.exp, read_spelled(Matcher(["yes", "no"]), joined, len('{"answer":"')))) == pytest.approx(
        [0.1, 0.9]
    )


@pytest.mark.parametrize(
    ("labels", "can"),
    [
        (["positive", "negative", "neutral"], True),
        (["no", "no relation"], False),
        (["card lost", "card late"], False),
        (["A", "B"], True),
        (["Yes", "yes"], False),
        (["差评", "好评"], True),
    ],
)
def test_options_are_separable_by_their_beginning(labels, can):
    assert separable(labels) is can


def test_letters_keep_the_users_words():
    template = Template(question="{instructions}\n{options}\nPick one.", described="* {label} ({description})")
    changed = lettered(template)
    assert changed.question == "{instructions}\n{options}\nPick one.\nAnswer with the letter of one option only."
    assert (changed.option, changed.described) == ("{code}. {label}", "{code}. * {label} ({description})")
    assert lettered(changed) == changed


async def test_the_body_stays_json_whatever_the_state():
    async with MockServer() as server:
        engine = HTTPEngine(server.url, "m", dialect="chat")
        for preview in await engine.preview(DecideRequest('"}\\', (MOOD,))):
            assert orjson.loads(preview.prompt)["messages"][-1]["content"].endswith('only.\n\n"}\\')
        await engine.aclose()
