"""Response bodies and events, against the official client's types and its accumulator."""

from __future__ import annotations

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from cascade.wire.answers import ResponseEvents, reply
from cascade.wire.extras import text_block
from cascade.wire.faults import fault
from cascade.wire.responses import parse
from cascade.wire.sse import event
from curator.errors import InvalidOutputError, RateLimitError, ServerError
from curator.types import Delta, Sample, Usage
from tests.cascade.wire.test_wire_responses import BODY
from tests.cascade.wire.wire_builders import STAMP, as_json, as_stream, official, texts

TOKEN = {"token": "hé", "logprob": -0.1, "top_logprobs": [{"token": "ha", "logprob": -3.0}]}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
DONE = texts(Sample("hello"), usage=Usage(5, 2, 1))
EVENT = TypeAdapter(ResponseStreamEvent)


def answered(routed, body=BODY):
    found = as_json(reply(STAMP, parse(body), routed, text_block(routed, "USD")))
    assert found["goldless"]["tier"] == "strong"
    return Response.model_validate(found, strict=True)


def streamed(deltas, routed=DONE):
    """The events, each checked against its type, as the official client reads them; and what it adds them up to."""
    events = ResponseEvents(STAMP, parse(BODY))
    bodies = events.start() + [one for delta in deltas for one in events.piece(delta)]
    bodies += events.end(routed, {"tier": "strong"})
    found = [EVENT.validate_python(as_json(body), strict=True) for body in bodies]
    assert [event.sequence_number for event in found] == list(range(len(found)))
    with (
        official(as_stream(*map(event, bodies))) as client,
        client.responses.stream(model="cascade", input="hi") as stream,
    ):
        read = list(stream)
    assert [one.type for one in read] == [one.type for one in found]
    return found, read[-1].response


def test_a_text_is_read_by_the_official_client():
    found = answered(texts(Sample("hello", tokens=(TOKEN,)), usage=Usage(5, 2, 1)))
    assert (found.id, found.status, found.output_text) == ("id-1", "completed", "hello")
    (message,) = found.output
    logprob = message.content[0].logprobs[0]
    assert (logprob.token, logprob.bytes, logprob.top_logprobs[0].token) == ("hé", [104, 195, 169], "ha")
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.total_tokens) == (5, 2, 7)
    assert (found.store, found.previous_response_id, found.max_output_tokens) == (False, None, 7)
    assert (found.tools[0].name, found.tool_choice.name, found.text.format.name) == ("look", "look", "a")
    assert (found.instructions, found.metadata, found.parallel_tool_calls) == ("Be brief.", {"job": "1"}, False)


def test_calls_are_items_of_their_own():
    found = answered(texts(Sample("I look.", "tool_calls", tool_calls=(CALL, {**CALL, "id": "c2"}))))
    assert [item.type for item in found.output] == ["message", "function_call", "function_call"]
    assert (found.output[1].call_id, found.output[1].arguments, found.output[1].status) == (
        "c1",
        '{"a": 1}',
        "completed",
    )
    only = answered(texts(Sample("", "tool_calls", tool_calls=(CALL,))))
    assert [item.type for item in only.output] == ["function_call"]
    assert len({item.id for item in found.output}) == 3


@pytest.mark.parametrize(
    ("reason", "cut"), [("length", "max_output_tokens"), ("abort", "max_output_tokens"), ("content_filter",) * 2]
)
def test_a_cut_answer_is_incomplete(reason, cut):
    found = answered(texts(Sample("hel", reason)))
    assert (found.status, found.incomplete_details.reason, found.output[0].status) == ("incomplete", cut, "incomplete")


@pytest.mark.parametrize(
    ("samples", "said"), [((), "The model declined to answer."), ((Sample("No.", "refusal"),), "No.")]
)
def test_a_refusal_is_the_apis_refusal(samples, said):
    found = answered(texts(*samples))
    assert (found.output[0].content[0].refusal, found.status) == (said, "completed")


def test_an_empty_answer_is_an_empty_message():
    found = answered(texts(Sample("")))
    assert (found.output_text, found.output[0].type) == ("", "message")


def test_a_streamed_text_adds_up_to_the_answer():
    events, final = streamed(
        [Delta(text="he", tokens=(TOKEN,)), Delta(text="llo", finish_reason="stop"), Delta(usage=Usage(1))]
    )
    assert [event.type.removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert (final.output_text, final.usage.total_tokens, final.status) == ("hello", 7, "completed")
    assert events[4].logprobs[0].token == "hé"
    assert events[-1].response.model_extra["goldless"] == {"tier": "strong"}


def test_streamed_calls_add_up_too():
    parts = [{"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}]
    parts += [{"index": 0, "function": {"arguments": '{"a"'}}, {"index": 0, "function": {"arguments": ": 1}"}}]
    parts += [{"index": 1, "id": "c2", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
    deltas = [Delta(text="I look."), *(Delta(tool_calls=(part,)) for part in parts), Delta(finish_reason="tool_calls")]
    events, final = streamed(deltas)
    assert [(item.type, getattr(item, "arguments", None)) for item in final.output] == [
        ("message", None),
        ("function_call", '{"a": 1}'),
        ("function_call", "{}"),
    ]
    assert [event.delta for event in events if event.type.endswith("arguments.delta")] == ['{"a"', ": 1}", "{}"]


def test_calls_that_come_whole_are_told_apart():
    _, final = streamed([Delta(tool_calls=(CALL, {**CALL, "id": "c2"}), finish_reason="tool_calls")])
    assert [item.call_id for item in final.output] == ["c1", "c2"]


@pytest.mark.parametrize(
    ("deltas", "routed", "said"),
    [([], texts(), "The model declined to answer."), ([Delta(0, "No.", finish_reason="refusal")], DONE, "No.")],
)
def test_a_refusal_is_streamed_as_one(deltas, routed, said):
    events, final = streamed(deltas, routed)
    assert final.output[0].content[0].refusal == said
    assert {"response.refusal.delta", "response.refusal.done"} <= {event.type for event in events}


def test_a_cut_stream_ends_incomplete():
    events, final = streamed([Delta(text="hel", finish_reason="length")])
    assert events[-1].type == "response.incomplete"
    assert (final.incomplete_details.reason, final.output_text) == ("max_output_tokens", "hel")


@pytest.mark.parametrize("deltas", [[], [Delta(text="he")]])
def test_a_stream_that_broke_never_ends_as_an_answer(deltas):
    events = ResponseEvents(STAMP, parse(BODY))
    pieces = [one["type"] for delta in deltas for one in events.piece(delta)]
    with pytest.raises(InvalidOutputError):
        events.end(DONE, {})
    assert not any(kind.endswith(("done", "completed")) for kind in pieces)


@pytest.mark.parametrize(
    ("error", "code"), [(ServerError("down"), "server_error"), (RateLimitError("slow"), "rate_limit_exceeded")]
)
def test_a_stream_that_broke_ends_as_a_failure(error, code):
    events = ResponseEvents(STAMP, parse(BODY))
    bodies = [*events.start(), *events.piece(Delta(text="he")), *events.fail(fault(error))]
    last = EVENT.validate_python(as_json(bodies[-1]), strict=True)
    assert (last.type, last.response.status, last.response.error.code) == ("response.failed", "failed", code)
    assert last.response.output[0].status == "incomplete"
