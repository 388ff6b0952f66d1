"""Chat completion bodies, against the official client's types."""

from __future__ import annotations

import pytest
from hypothesis import given
from openai.types.chat import ChatCompletion

from cascade.wire.chat import MAX_TOKENS, parse, reply
from cascade.wire.extras import text_block
from cascade.wire.reading import FieldError
from curator.types import Message, Sample, Sampling, Usage
from tests.cascade.wire.wire_builders import STAMP, almost, as_json, read_or_refused, texts

LOOK = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}, "strict": True}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
TOKEN = {"token": "hi", "logprob": -0.1}

BODY = {
    "model": "cascade",
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "see "}, {"type": "image_url", "image_url": {"url": "u"}}],
        },
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "content": "found"},
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "user", "content": "go on", "name": "ann"},
    ],
    "stream": True,
    "stream_options": {"include_usage": True},
    "n": 2,
    "max_completion_tokens": 7,
    "temperature": 0,
    "top_p": 0.5,
    "stop": ["END"],
    "seed": 3,
    "logprobs": True,
    "top_logprobs": 2,
    "tools": [LOOK],
    "tool_choice": {"type": "function", "function": {"name": "look"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
    "parallel_tool_calls": False,
    "metadata": {"job": "1"},
}


def answered(body, routed):
    return as_json(reply(STAMP, parse(body), routed, text_block(routed, "USD")))


def official(body):
    return ChatCompletion.model_validate(body, strict=True)


def test_every_field_finds_its_place():
    call = parse(BODY)
    request = call.request
    assert (call.model, call.stream, call.include_usage) == ("cascade", True, True)
    assert request.sampling == Sampling(0.0, 0.5, 7, 3, ("END",))
    assert (request.n, request.logprobs, request.schema, request.tools) == (2, 2, SCHEMA, (LOOK,))
    assert request.tool_choice == BODY["tool_choice"]
    assert request.turns == tuple(BODY["messages"])
    kept = {"response_format", "parallel_tool_calls", "metadata"}
    assert request.extra == {key: BODY[key] for key in kept}


def test_messages_are_the_text_of_the_turns():
    assert parse(BODY).request.messages == (
        Message("system", "Be brief."),
        Message("user", "see "),
        Message("assistant", '[{"id":"c1","type":"function","function":{"name":"look","arguments":"{}"}}]'),
        Message("user", "found"),
        Message("assistant", "No."),
        Message("user", "go on"),
    )


def test_what_a_body_leaves_out_is_the_apis_default():
    call = parse({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stop": None, "user": None})
    assert call.request.sampling == Sampling(1.0, 1.0, MAX_TOKENS)
    assert (call.request.n, call.request.logprobs, call.request.schema, call.request.extra) == (1, None, None, {})
    assert not call.stream
    assert parse({**BODY, "max_tokens": 9, "max_completion_tokens": None}, 50).request.sampling.max_tokens == 9


def test_any_object_is_a_json_object():
    request = parse({**BODY, "response_format": {"type": "json_object"}}).request
    assert request.schema == {"type": "object"}
    assert request.extra["response_format"] == {"type": "json_object"}


def test_the_official_client_reads_the_answer():
    tokens = ({**TOKEN, "bytes": [104], "top_logprobs": [{**TOKEN, "bytes": None}]}, TOKEN)
    sample = Sample("hi", "length", tokens=tokens)
    body = answered(BODY, texts(sample, Sample("", "tool_calls", tool_calls=(CALL,)), usage=Usage(5, 2, 1)))
    found = official(body)
    first, second = found.choices
    assert (found.id, found.created, found.model, found.system_fingerprint) == ("id-1", STAMP.created, "cascade", None)
    assert (first.message.content, first.finish_reason, first.index) == ("hi", "length", 0)
    assert [token.token for token in first.logprobs.content] == ["hi", "hi"]
    assert (second.message.content, second.finish_reason, second.index) == (None, "tool_calls", 1)
    assert second.message.tool_calls[0].function.name == "look"
    assert (found.usage.prompt_tokens, found.usage.completion_tokens, found.usage.total_tokens) == (5, 2, 7)
    assert found.usage.prompt_tokens_details.cached_tokens == 1
    assert body["goldless"]["usage"] == {"input_tokens": 30, "output_tokens": 3, "cached_tokens": 12, "calls": 2}


def test_log_probabilities_are_only_sent_to_who_asked():
    body = answered({**BODY, "logprobs": None, "top_logprobs": None}, texts(Sample("hi", tokens=(TOKEN,))))
    assert body["choices"][0]["logprobs"] is None
    assert answered(BODY, texts(Sample("hi")))["choices"][0]["logprobs"] is None


@pytest.mark.parametrize(
    ("samples", "said"),
    [((), "The model declined to answer."), ((Sample("I can't.", "refusal"),), "I can't.")],
)
def test_a_refusal_is_the_apis_refusal(samples, said):
    message = official(answered(BODY, texts(*samples))).choices[0]
    assert (message.message.refusal, message.message.content, message.finish_reason) == (said, None, "stop")


@pytest.mark.parametrize("reason", ["abort", "error", "repetition"])
def test_an_answer_that_ended_in_another_way_was_cut_short(reason):
    assert official(answered(BODY, texts(Sample("hi", reason)))).choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"model": ""}, "model"),
        ({"model": 3}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "function", "content": "x", "name": "y"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]}, "messages[0].tool_calls[0].function"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
        ),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"n": 1.0}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"seed": 2**63}, "seed"),
        ({"stop": 3}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": True}, "stream_options"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"logprobs": False}, "logprobs"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"tools": [{"type": "web"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"tool_choice": {}}, "tool_choice.type"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "response_format.json_schema.schema",
        ),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"functions": [{"name": "f"}]}, "functions"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(change, path):
    with pytest.raises(FieldError) as found:
        parse({**BODY, **change})
    assert found.value.path == path
    assert str(found.value).startswith(path)


@pytest.mark.parametrize("body", [None, [], "x", 3, True])
def test_a_body_that_is_no_object_is_refused(body):
    with pytest.raises(FieldError, match=r"^body .* a JSON object"):
        parse(body)


def test_a_body_that_cannot_be_written_again_is_refused():
    deep: object = "x"
    for _ in range(260):
        deep = [deep]
    with pytest.raises(FieldError, match="nested too deep"):
        parse({**BODY, "metadata": deep})


@given(almost(BODY, ["type", "role", "content", "text", "function", "tool", "assistant", "json_schema", "none"]))
def test_any_body_is_read_or_refused(body):
    if call := read_or_refused(parse, body):
        assert len(call.request.messages) == len(call.request.turns)
        assert call.request.n >= 1
