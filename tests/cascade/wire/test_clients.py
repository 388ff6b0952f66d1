"""The official clients on one side, our readers and writers on the other, and only a network missing between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import httpx2
import openai
import orjson
import pytest
import typesafe_sdk
from pydantic import BaseModel

from cascade.wire import answers, chat, completions, decisions, models, responses, systemone
from cascade.wire.chunks import Chunks
from cascade.wire.extras import decision_block, text_block
from cascade.wire.faults import fault
from cascade.wire.reading import FieldError
from cascade.wire.sse import DONE, data, event
from curator.types import Delta, Message, Sample
from tests.cascade.wire.wire_builders import STAMP, as_stream, decision, escalated, served, texts


class Mood(BaseModel):
    mood: Literal["good", "bad"]


MOOD = texts(Sample('{"mood": "good"}'))
PIECES = [Delta(text='{"mood": '), Delta(text='"good"}'), Delta(finish_reason="stop")]
TOOL = openai.pydantic_function_tool(Mood, name="note")


class Gateway:
    """Answers as a gateway would whose cascade always says the same. `calls` is what it has read."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path
        if path == "/v1/models":
            return httpx2.Response(200, json=models.listing(["small", "strong"], STAMP.created))
        try:
            return getattr(self, path.removeprefix("/v1/").replace("/", "_"))(orjson.loads(request.content))
        except FieldError as error:
            dialect = "systemone" if path == "/v1/systemone" else "openai"
            found = fault(error)
            return httpx2.Response(found.status_in(dialect), json=found.body(dialect))

    def chat_completions(self, body) -> httpx2.Response:
        call = self._read(chat.parse(body))
        block = text_block(MOOD, "USD")
        if not call.stream:
            return httpx2.Response(200, json=chat.reply(STAMP, call, MOOD, block))
        chunks = Chunks(STAMP, call)
        bodies = [one for piece in PIECES for one in chunks.piece(piece)] + chunks.end(MOOD, block)
        return as_stream(*map(data, bodies), DONE)

    def completions(self, body) -> httpx2.Response:
        call = self._read(completions.parse(body))
        return httpx2.Response(200, json=completions.reply(STAMP, call, [MOOD] * len(call.requests), None))

    def responses(self, body) -> httpx2.Response:
        call = self._read(responses.parse(body))
        block = text_block(MOOD, "USD")
        if not call.stream:
            return httpx2.Response(200, json=answers.reply(STAMP, call, MOOD, block))
        events = answers.ResponseEvents(STAMP, call)
        bodies = events.start() + [one for piece in PIECES for one in events.piece(piece)] + events.end(MOOD, block)
        return as_stream(*map(event, bodies))

    def decisions(self, body) -> httpx2.Response:
        call = self._read(decisions.parse(body))
        routed = self._decide(call.request)
        block = decision_block(routed, "USD", call.names)
        return httpx2.Response(200, json=decisions.reply(STAMP, call, routed, block))

    def systemone(self, body) -> httpx2.Response:
        call = self._read(systemone.parse(body))
        routed = self._decide(call.request)
        block = decision_block(routed, "USD", [question.name for question in call.request.questions])
        return httpx2.Response(200, json=systemone.reply(STAMP, call, routed, block))

    def _decide(self, request):
        return escalated(*(served(decision(0.25, 0.75), question.name) for question in request.questions))

    def _read(self, call):
        self.calls.append(call)
        return call


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with httpx2.Client(transport=httpx2.MockTransport(gateway)) as http:
        yield openai.OpenAI(api_key="k", base_url="http://gateway/v1", http_client=http, max_retries=0)


@pytest.fixture
def system_one(gateway: Gateway) -> Iterator[typesafe_sdk.TypeSafeClient]:
    transport, patience = httpx2.MockTransport(gateway), typesafe_sdk.RetryPolicy(max_retries=0)
    with typesafe_sdk.TypeSafeClient(
        api_key="k", base_url="http://gateway", transport=transport, retry=patience, model="cascade"
    ) as client:
        yield client


def test_chat_with_a_pydantic_model(client, gateway):
    asked = [{"role": "system", "content": "Judge."}, {"role": "user", "content": "fine"}]
    found = client.chat.completions.parse(model="cascade", messages=asked, response_format=Mood)
    assert found.choices[0].message.parsed == Mood(mood="good")
    assert found.goldless["tier"] == "strong"
    request = gateway.calls[0].request
    assert request.messages == (Message("system", "Judge."), Message("user", "fine"))
    assert request.schema["properties"]["mood"]["enum"] == ["good", "bad"]


def test_chat_in_a_stream(client, gateway):
    asked = [{"role": "user", "content": "fine"}]
    usage = {"include_usage": True}
    with client.chat.completions.stream(
        model="cascade", messages=asked, response_format=Mood, tools=[TOOL], stream_options=usage
    ) as stream:
        found = stream.get_final_completion()
    assert (found.choices[0].message.parsed, found.usage.completion_tokens) == (Mood(mood="good"), 2)
    assert gateway.calls[0].request.tools[0]["function"]["name"] == "note"


def test_completions(client, gateway):
    found = client.completions.create(model="cascade", prompt=["one", "two"], max_tokens=3)
    assert [one.text for one in found.choices] == ['{"mood": "good"}'] * 2
    assert gateway.calls[0].requests[1].messages == (Message("user", "two"),)


def test_responses_with_a_pydantic_model(client, gateway):
    found = client.responses.parse(model="cascade", input="fine", instructions="Judge.", text_format=Mood)
    assert found.output_parsed == Mood(mood="good")
    assert gateway.calls[0].request.schema["properties"]["mood"]["enum"] == ["good", "bad"]


def test_responses_in_a_stream(client):
    with client.responses.stream(model="cascade", input="fine", text_format=Mood) as stream:
        said = "".join(one.delta for one in stream if one.type == "response.output_text.delta")
        assert stream.get_final_response().output_parsed == Mood(mood="good")
    assert said == '{"mood": "good"}'


def test_a_conversation_goes_on_from_an_answers_own_output(client, gateway):
    first = client.responses.create(model="cascade", input="fine")
    client.responses.create(model="cascade", input=[*first.output, {"role": "user", "content": "why?"}])
    assert [turn["role"] for turn in gateway.calls[1].request.turns] == ["assistant", "user"]
    with pytest.raises(openai.BadRequestError) as seen:
        client.responses.create(model="cascade", input="why?", previous_response_id=first.id)
    assert seen.value.param == "previous_response_id"


def test_decisions(client, gateway):
    asked = [
        {"type": "predicate", "name": "refund", "instructions": "Money back?"},
        {"type": "choice", "instructions": "Tone?", "choices": [{"value": "calm"}, {"value": "angry"}]},
        {"type": "score", "name": "urgency", "instructions": "Urgent?", "levels": [{"label": "no"}, {"label": "yes"}]},
    ]
    found = client.decisions.create(model="cascade", input="I was charged twice", questions=asked)
    refund, tone, urgency = found.answers
    assert (refund.probability, tone.choice, tone.name) == (pytest.approx(0.25), "angry", None)
    assert (urgency.score, urgency.probabilities[1].label) == (pytest.approx(0.75), "yes")
    assert gateway.calls[0].request.state == "I was charged twice"


def test_system_one(system_one, gateway):
    asked = {
        "billing": typesafe_sdk.Noul(instructions="About billing?", criteria={"true": "money"}),
        "tone": typesafe_sdk.Choice(criteria={"calm": None, "angry": "shouts"}),
        "urgency": typesafe_sdk.Score(instructions="How urgent?", criteria=["low", {"level": "high"}]),
    }
    found = system_one.system_one(state={"message": "charged twice"}, questions=asked)
    assert (found.nouls["billing"].noul, found.choices["tone"].choice) == (pytest.approx(0.25), "angry")
    assert found.scores["urgency"].legend == {0: "low", 1: {"level": "high"}}
    assert gateway.calls[0].request.state == '{"message":"charged twice"}'


def test_both_list_the_models(client, system_one):
    wanted = ["cascade", "cascade:small", "cascade:strong"]
    assert [model.id for model in client.models.list()] == wanted
    assert [model.name for model in system_one.models.list().models] == wanted


def test_both_say_what_is_wrong(client, system_one):
    with pytest.raises(openai.BadRequestError, match="temperature must be a number from 0 to 2, not 3"):
        client.chat.completions.create(model="cascade", messages=[{"role": "user", "content": "hi"}], temperature=3)
    with pytest.raises(typesafe_sdk.TypeSafeUnprocessableEntityError, match=r"questions.q.criteria"):
        system_one.system_one(state="hi", questions={"q": typesafe_sdk.Choice(criteria={"only": None})})
