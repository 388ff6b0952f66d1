"""Streamed chunks, against the official client's types."""

from __future__ import annotations

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from cascade.wire.chat import parse
from cascade.wire.chunks import Chunks
from cascade.wire.faults import fault
from cascade.wire.sse import DONE, data
from curator.errors import InvalidOutputError, ServerError
from curator.types import Delta, Sample, Usage
from tests.cascade.wire.wire_builders import STAMP, as_json, as_stream, official, texts

ASKED = {"model": "cascade", "messages": [{"role": "user", "content": "hi"}], "stream": True, "logprobs": True}
BLOCK = {"tier": "strong"}
WHOLE = texts(Sample("hello"), usage=Usage(5, 2))


def streamed(deltas, routed=WHOLE, **change):
    chunks = Chunks(STAMP, parse({**ASKED, **change}))
    bodies = [body for delta in deltas for body in chunks.piece(delta)] + chunks.end(routed, BLOCK)
    checked = [ChatCompletionChunk.model_validate(as_json(body), strict=True) for body in bodies]
    with official(as_stream(*map(data, bodies), DONE)) as client:
        read = list(client.chat.completions.create(model="cascade", messages=[], stream=True))
    assert read == checked
    return read


def test_a_stream_is_role_pieces_finish():
    token = {"token": "he", "logprob": -0.5}
    found = streamed([Delta(text="he", tokens=(token,)), Delta(text="llo"), Delta(finish_reason="stop")])
    first, *pieces, last = found
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert [piece.choices[0].delta.content for piece in pieces] == ["he", "llo"]
    assert pieces[0].choices[0].logprobs.content[0].token == "he"
    assert [chunk.choices[0].finish_reason for chunk in found] == [None, None, None, "stop"]
    assert last.model_extra["goldless"] == BLOCK
    assert {(chunk.id, chunk.created, chunk.model) for chunk in found} == {("id-1", STAMP.created, "cascade")}
    assert all(chunk.usage is None for chunk in found)


def test_usage_comes_last_and_only_to_who_asked():
    *pieces, last = streamed([Delta(text="hi", finish_reason="length")], stream_options={"include_usage": True})
    assert (last.choices, last.usage.prompt_tokens, last.usage.completion_tokens) == ([], 5, 2)
    assert all("usage" in piece.model_fields_set and piece.usage is None for piece in pieces)
    assert last.model_extra["goldless"] == BLOCK


def test_samples_come_interleaved_and_finish_each():
    found = streamed([Delta(1, "b"), Delta(0, "a", finish_reason="stop"), Delta(1, finish_reason="length")], n=2)
    choices = [chunk.choices[0] for chunk in found]
    assert [choice.index for choice in choices if choice.delta.role] == [1, 0]
    assert [(choice.index, choice.finish_reason) for choice in choices[-2:]] == [(0, "stop"), (1, "length")]


def test_calls_that_come_whole_are_told_apart():
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    _, piece, _ = streamed([Delta(tool_calls=(call, call), finish_reason="tool_calls"), Delta(usage=Usage(1))])
    assert [one.index for one in piece.choices[0].delta.tool_calls] == [0, 1]


def test_tool_calls_are_streamed_as_fragments():
    parts = [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]
    parts += [{"index": 0, "function": {"arguments": "{}"}}]
    found = streamed([Delta(tool_calls=(parts[0],)), Delta(tool_calls=(parts[1],), finish_reason="tool_calls")])
    assert [chunk.choices[0].delta.tool_calls[0].function.arguments for chunk in found[1:3]] == ["", "{}"]
    assert found[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("deltas", "routed", "said"),
    [([], texts(), "The model declined to answer."), ([Delta(0, "No.", finish_reason="refusal")], WHOLE, "No.")],
)
def test_a_refusal_is_streamed_as_one(deltas, routed, said):
    found = streamed(deltas, routed)
    assert [chunk.choices[0].delta.refusal for chunk in found if chunk.choices[0].delta.refusal] == [said]
    assert not any(chunk.choices[0].delta.content for chunk in found)
    assert found[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("deltas", [[], [Delta(text="he")], [Delta(0, "a", finish_reason="stop"), Delta(1, "b")]])
def test_a_stream_that_broke_never_ends_as_an_answer(deltas):
    with pytest.raises(InvalidOutputError):
        streamed(deltas)


def test_an_error_in_a_stream_is_raised_by_the_official_client():
    chunks = Chunks(STAMP, parse(ASKED))
    events = [data(body) for body in chunks.piece(Delta(text="he"))] + [data(fault(ServerError("down")).body())]
    with official(as_stream(*events)) as client, pytest.raises(openai.APIError, match="server failed"):
        list(client.chat.completions.create(model="cascade", messages=[], stream=True))
