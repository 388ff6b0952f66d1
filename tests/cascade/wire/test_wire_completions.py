"""Bodies of the API before chat, against the official client's types."""

from __future__ import annotations

import pytest
from hypothesis import given
from openai.types import Completion as OpenAICompletion

from cascade.wire.completions import TextChunks, parse, reply
from cascade.wire.reading import FieldError
from curator.errors import InvalidOutputError
from curator.types import Delta, Message, Sample, Sampling, Usage
from tests.cascade.wire.wire_builders import STAMP, almost, as_json, read_or_refused, texts

BODY = {
    "model": "cascade",
    "prompt": ["one", "two"],
    "n": 2,
    "best_of": 2,
    "max_tokens": 5,
    "temperature": 0.5,
    "stop": "\n",
    "logprobs": 1,
    "presence_penalty": 0.1,
    "echo": False,
}
TOKENS = (
    {"token": "hé", "logprob": -0.1, "top_logprobs": [{"token": "hé", "logprob": -0.1}]},
    {"token": "y", "logprob": -0.2, "top_logprobs": [{"token": "y", "logprob": -0.2}, {"token": "z", "logprob": -3.0}]},
)
BLOCK = {"tier": "strong"}
DONE = texts(Sample("hey"), usage=Usage(5, 2))


def official(body):
    return OpenAICompletion.model_validate(as_json(body), strict=True)


def streamed(deltas, routed=DONE, **change):
    chunks = TextChunks(STAMP, parse({**BODY, "prompt": "one", "stream": True, **change}))
    bodies = [body for delta in deltas for body in chunks.piece(delta)] + chunks.end(routed, BLOCK)
    return [as_json(body) for body in bodies]


def test_every_prompt_is_a_request_of_its_own():
    call = parse(BODY)
    assert [request.messages for request in call.requests] == [(Message("user", "one"),), (Message("user", "two"),)]
    first = call.requests[0]
    assert first.sampling == Sampling(0.5, 1.0, 5, stop=("\n",))
    assert (first.n, first.logprobs, first.extra) == (2, 1, {"presence_penalty": 0.1})
    assert parse({"model": "m", "prompt": "x"}).requests[0].sampling.max_tokens == 16


def test_the_official_client_reads_all_samples_in_order():
    usage = Usage(3, 1)
    routed = [texts(Sample("a", tokens=TOKENS), Sample("b", "length"), usage=usage), texts(usage=usage)]
    found = official(reply(STAMP, parse(BODY), routed, [BLOCK, BLOCK]))
    assert [(one.index, one.text, one.finish_reason) for one in found.choices] == [
        (0, "a", "stop"),
        (1, "b", "length"),
        (2, "", "content_filter"),
    ]
    logprobs = found.choices[0].logprobs
    assert (logprobs.tokens, logprobs.token_logprobs, logprobs.text_offset) == (["hé", "y"], [-0.1, -0.2], [0, 2])
    assert logprobs.top_logprobs[1] == {"y": -0.2, "z": -3.0}
    assert found.usage.total_tokens == 26  # 4 of the first prompt's answer, 22 of the attempt that refused


def test_a_stream_finishes_at_its_end_and_counts_offsets():
    deltas = [Delta(text="hé", tokens=TOKENS[:1]), Delta(text="y", tokens=TOKENS[1:], finish_reason="stop")]
    *pieces, last, usage = streamed(deltas, stream_options={"include_usage": True})
    assert [piece["choices"][0]["text"] for piece in pieces] == ["hé", "y"]
    assert [piece["choices"][0]["logprobs"]["text_offset"] for piece in pieces] == [[0], [2]]
    assert [piece["choices"][0]["finish_reason"] for piece in pieces] == [None, None]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]["total_tokens"], usage["goldless"]) == ([], 7, BLOCK)


@pytest.mark.parametrize(
    ("deltas", "routed"), [([], texts()), ([Delta(text="no", finish_reason="refusal")], texts(Sample("no", "refusal")))]
)
def test_a_refusal_is_filtered_content(deltas, routed):
    (only,) = streamed(deltas, routed)
    assert (only["choices"][0]["text"], only["choices"][0]["finish_reason"]) == ("", "content_filter")


@pytest.mark.parametrize("deltas", [[], [Delta(text="he")]])
def test_a_stream_that_broke_never_ends_as_an_answer(deltas):
    with pytest.raises(InvalidOutputError):
        streamed(deltas)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"stream": True}, "prompt"),
        ({"echo": True}, "echo"),
        ({"suffix": "x"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(change, path):
    with pytest.raises(FieldError) as found:
        parse({**BODY, **change})
    assert found.value.path == path


@given(almost(BODY, ["prompt", "stream", "json_object", "type"]))
def test_any_body_is_read_or_refused(body):
    if call := read_or_refused(parse, body):
        assert call.requests
