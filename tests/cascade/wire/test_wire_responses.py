"""Request bodies of the Responses API."""

from __future__ import annotations

import pytest
from hypothesis import given

from cascade.wire.reading import FieldError
from cascade.wire.responses import parse
from curator.types import Message, Sampling
from tests.cascade.wire.wire_builders import almost, read_or_refused

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object"}, "strict": True}
FUNCTION = {"name": "look", "parameters": {"type": "object"}, "strict": True}
CALL = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}

BODY = {
    "model": "cascade",
    "instructions": "Be brief.",
    "input": [
        {"role": "developer", "content": "In English."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "see"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "I look.", "annotations": []}]},
        CALL,
        {**CALL, "call_id": "c2"},
        {"type": "function_call_output", "call_id": "c1", "output": "found"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "too"}]},
        {"role": "user", "content": "go on"},
    ],
    "tools": [TOOL],
    "tool_choice": {"type": "function", "name": "look"},
    "text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA, "strict": True}, "verbosity": "low"},
    "reasoning": {"effort": "low"},
    "max_output_tokens": 7,
    "temperature": 0,
    "top_p": 0.5,
    "top_logprobs": 2,
    "include": ["message.output_text.logprobs"],
    "parallel_tool_calls": False,
    "metadata": {"job": "1"},
    "store": False,
    "stream": True,
}


def test_every_field_finds_its_place():
    call = parse(BODY)
    request = call.request
    assert (call.model, call.stream) == ("cascade", True)
    assert request.sampling == Sampling(0.0, 0.5, 7)
    assert (request.n, request.logprobs, request.schema) == (1, 2, SCHEMA)
    assert request.tools == ({"type": "function", "function": FUNCTION},)
    assert request.tool_choice == {"type": "function", "function": {"name": "look"}}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}}
    assert request.extra == {
        "parallel_tool_calls": False,
        "response_format": form,
        "reasoning_effort": "low",
        "verbosity": "low",
    }


def test_the_conversation_becomes_chat_turns():
    calls = [{"id": name, "type": "function", "function": {"name": "look", "arguments": "{}"}} for name in ("c1", "c2")]
    assert parse(BODY).request.turns == (
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "In English."},
        {"role": "user", "content": [{"type": "text", "text": "see"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}], "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "found"},
        {"role": "tool", "tool_call_id": "c2", "content": "too"},
        {"role": "user", "content": "go on"},
    )


def test_a_call_without_a_text_before_it_is_a_turn_of_its_own():
    turns = parse({**BODY, "input": [{"role": "user", "content": "see"}, CALL]}).request.turns
    assert (turns[-1]["content"], len(turns[-1]["tool_calls"])) == (None, 1)


def test_a_text_is_one_user_message_and_the_rest_the_apis_default():
    call = parse({"model": "m", "input": "hi", "store": None})
    assert call.request.messages == (Message("user", "hi"),)
    assert (call.request.schema, call.request.logprobs, call.request.extra) == (None, None, {})
    assert call.echo["tool_choice"] == "auto"
    assert parse({"model": "m", "input": "hi"}, 99).request.sampling.max_tokens == 99


def test_images_and_refusals_are_kept():
    parts = [{"type": "input_image", "image_url": "https://example.com/a.png", "detail": "low"}]
    said = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No"}]},
    ]
    first, second = parse({**BODY, "instructions": None, "input": said}).request.turns
    assert first["content"][0]["image_url"] == {"url": "https://example.com/a.png", "detail": "low"}
    assert second["content"] == [{"type": "refusal", "refusal": "No"}]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"model": None}, "model"),
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].image_url"),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input[0].type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{**CALL, "arguments": None}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"max_tool_calls": 3}, "max_tool_calls"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema"),
        ({"reasoning": {"summary": "auto"}}, "reasoning.summary"),
        ({"include": ["file_search_call.results"]}, "include[0]"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(change, path):
    with pytest.raises(FieldError) as found:
        parse({**BODY, **change})
    assert found.value.path == path


@given(almost(BODY, ["type", "role", "message", "function_call", "input_text", "user", "format", "summary"]))
def test_any_body_is_read_or_refused(body):
    if call := read_or_refused(parse, body):
        assert len(call.request.messages) == len(call.request.turns)
