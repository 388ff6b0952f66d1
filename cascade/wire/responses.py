"""`POST /v1/responses`: the request body. `answers.py` has the body and the events that answer it.

Stateless: the whole conversation is the input of each request. What needs a store (`store`, `previous_response_id`,
`conversation`, `background`, `prompt`) or a tool of OpenAI's own is refused, and so is a field that nobody here knows:
unlike a chat body, the body is not what the servers behind are sent. Source: openai-python 3.57
`types/responses/response_create_params.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cascade.wire.chat import MAX_TOKENS, MOST_TOKENS, read_message, read_sampling
from cascade.wire.reading import FieldError, Fields, read_body
from curator.types import ChatRequest, Json, JsonObject

LOGPROBS: Final = "message.output_text.logprobs"

_STORED: Final = ("store", "previous_response_id", "conversation", "background", "prompt")
_PASSED: Final = ("parallel_tool_calls", "service_tier", "user", "safety_identifier", "prompt_cache_key")
"""Fields that chat completions call the same."""

_READ: Final = frozenset(
    {"model", "input", "instructions", "tools", "tool_choice", "text", "max_output_tokens", "temperature", "top_p"}
    | {"top_logprobs", "include", "stream", "stream_options", "metadata", "reasoning", "truncation", *_STORED, *_PASSED}
)
_TOOL_FIELDS: Final = frozenset({"type", "name", "description", "parameters", "strict"})
_ROLES: Final = ("user", "assistant", "system", "developer")
_TEXTS: Final = ("input_text", "output_text")


@dataclass(frozen=True, slots=True)
class ResponsesCall:
    """A request as it was read. `echo` holds the fields that a response repeats."""

    request: ChatRequest
    model: str
    stream: bool = False
    echo: JsonObject = field(default_factory=dict)


def parse(body: Json, max_tokens: int = MAX_TOKENS) -> ResponsesCall:
    """The call that a body makes; `max_tokens` is for a body that names no limit. Raises: FieldError."""
    fields = read_body(body)
    fields.refuse(_STORED, "nothing is kept here; send the whole conversation as the input")
    fields.know(_READ)
    if fields.values.get("truncation") not in (None, "disabled"):
        raise fields.wrong("truncation", '"disabled"')
    turns, limit = _turns(fields), fields.whole("max_output_tokens", 1, MOST_TOKENS)
    tools = fields.objects("tools")
    form = _response_format(fields)
    request = ChatRequest(
        messages=tuple(read_message(Fields(turn, "input")) for turn in turns),
        sampling=read_sampling(fields, limit or max_tokens),
        schema=_schema(form),
        turns=tuple(turns),
        tools=tuple(_chat_tool(tool) for tool in tools),
        tool_choice=_tool_choice(fields),
        logprobs=_logprobs(fields),
        extra=_extra(fields, form),
    )
    echo = _echo(fields, request, tools)
    return ResponsesCall(request, fields.need_text("model"), bool(fields.flag("stream")), echo)


def _turns(fields: Fields) -> list[JsonObject]:
    """The conversation as chat messages, the instructions first."""
    turns: list[JsonObject] = []
    if told := fields.text("instructions"):
        turns.append({"role": "system", "content": told})
    said = fields.values.get("input")
    if isinstance(said, str):
        return [*turns, {"role": "user", "content": said}]
    for item in fields.need_objects("input"):
        _add(turns, item)
    return turns


def _add(turns: list[JsonObject], item: Fields) -> None:
    kind = item.values.get("type", "message")
    if kind == "message":
        turns.append(_message(item))
    elif kind == "function_call":
        _add_call(turns, item)
    elif kind == "function_call_output":
        turns.append({"role": "tool", "tool_call_id": item.need_text("call_id"), "content": _output(item)})
    else:
        raise item.wrong("type", '"message", "function_call" or "function_call_output"')


def _add_call(turns: list[JsonObject], item: Fields) -> None:
    """Calls that follow each other, or a text of the model's, are one turn: its tools' results follow all of them."""
    said = item.text("arguments")
    if said is None:
        raise item.wrong("arguments", "a string")
    call: JsonObject = {
        "id": item.need_text("call_id"),
        "type": "function",
        "function": {"name": item.need_text("name"), "arguments": said},
    }
    if turns and turns[-1]["role"] == "assistant":
        before = turns[-1].get("tool_calls")
        turns[-1] = {**turns[-1], "tool_calls": [*before, call] if isinstance(before, list) else [call]}
    else:
        turns.append({"role": "assistant", "content": None, "tool_calls": [call]})


def _message(item: Fields) -> JsonObject:
    role, content = item.values.get("role"), item.values.get("content")
    if role not in _ROLES:
        raise item.wrong("role", f"one of {', '.join(_ROLES)}")
    if isinstance(content, str):
        return {"role": role, "content": content}
    return {"role": role, "content": [_part(part) for part in item.need_objects("content")]}


def _part(part: Fields) -> Json:
    kind = part.need_text("type")
    if kind in _TEXTS:
        return {"type": "text", "text": _text(part, "text")}
    if kind == "refusal":
        return {"type": "refusal", "refusal": _text(part, "refusal")}
    if kind == "input_image":
        detail = part.text("detail")
        shown: JsonObject = {"url": part.need_text("image_url")}
        return {"type": "image_url", "image_url": {**shown, "detail": detail} if detail else shown}
    raise part.wrong("type", "one of input_text, output_text, refusal, input_image")


def _text(part: Fields, key: str) -> str:
    text = part.text(key)
    if text is None:
        raise part.wrong(key, "a string")
    return text


def _output(item: Fields) -> str:
    output = item.values.get("output")
    if isinstance(output, str):
        return output
    parts = item.need_objects("output")
    for part in parts:
        if part.values.get("type") not in _TEXTS:
            raise part.wrong("type", '"input_text"')
    return "".join(_text(part, "text") for part in parts)


def _chat_tool(tool: Fields) -> JsonObject:
    """The tool as chat completions have it."""
    if tool.values.get("type") != "function":
        raise tool.wrong("type", '"function": tools run at the client')
    tool.need_text("name")
    tool.inner("parameters")
    kept = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {key: tool.values[key] for key in kept if tool.values.get(key) is not None}}


def _tool_choice(fields: Fields) -> Json:
    choice = fields.values.get("tool_choice")
    if choice in (None, "none", "auto", "required"):
        return choice
    chosen = fields.need_inner("tool_choice")
    if chosen.values.get("type") != "function":
        raise chosen.wrong("type", '"function"')
    return {"type": "function", "function": {"name": chosen.need_text("name")}}


def _logprobs(fields: Fields) -> int | None:
    top, asked = fields.whole("top_logprobs", 0, 20), fields.items("include")
    for place, what in enumerate(asked):
        # There is no reasoning to encrypt: an answer without it is complete.
        if what not in (LOGPROBS, "reasoning.encrypted_content"):
            raise FieldError(f"include[{place}]", f"is not supported here; {LOGPROBS} is")
    return (top or 0) if LOGPROBS in asked else None


def _response_format(fields: Fields) -> JsonObject | None:
    """`response_format` of chat completions, from `text.format`."""
    text = fields.inner("text")
    form = text.inner("format") if text else None
    if form is None or form.values.get("type") == "text":
        return None
    if form.values.get("type") == "json_object":
        return {"type": "json_object"}
    if form.values.get("type") != "json_schema":
        raise form.wrong("type", '"text", "json_object" or "json_schema"')
    form.need_text("name")
    form.need_inner("schema")
    inner: JsonObject = form.others({"type"})
    return {"type": "json_schema", "json_schema": inner}


def _schema(form: JsonObject | None) -> JsonObject | None:
    if form is None:
        return None
    inner = form.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, dict) else None
    return schema if isinstance(schema, dict) else {"type": "object"}


def _extra(fields: Fields, form: JsonObject | None) -> JsonObject:
    """What else the servers behind are sent, by the names of chat completions."""
    found: JsonObject = {key: fields.values[key] for key in _PASSED if fields.values.get(key) is not None}
    if form is not None:
        found["response_format"] = form
    if (reasoning := fields.inner("reasoning")) and (effort := reasoning.text("effort")):
        found["reasoning_effort"] = effort
    if reasoning:
        reasoning.know({"effort"})
    if (text := fields.inner("text")) and (verbosity := text.text("verbosity")):
        found["verbosity"] = verbosity
    return found


def _echo(fields: Fields, request: ChatRequest, tools: Sequence[Fields]) -> JsonObject:
    parallel, metadata = fields.flag("parallel_tool_calls"), fields.inner("metadata")
    shown: list[Json] = [
        {"strict": None, "parameters": None, **tool.others(tool.values.keys() - _TOOL_FIELDS)} for tool in tools
    ]
    text = fields.inner("text")
    return {
        "instructions": fields.text("instructions"),
        "max_output_tokens": fields.whole("max_output_tokens", 1, MOST_TOKENS),
        "metadata": metadata.values if metadata else {},
        "parallel_tool_calls": True if parallel is None else parallel,
        "temperature": request.sampling.temperature,
        "text": {"format": {"type": "text"}, **(text.others(()) if text else {})},
        "tool_choice": fields.values.get("tool_choice") or "auto",
        "tools": shown,
        "top_p": request.sampling.top_p,
        "top_logprobs": fields.whole("top_logprobs", 0, 20) or 0,
    }
