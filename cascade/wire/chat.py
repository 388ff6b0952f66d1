"""`POST /v1/chat/completions`: the request body, and the body that answers it. `chunks.py` has the streamed pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cascade.routed import Routed
from cascade.wire.bodies import DECLINED, Stamp, chat_usage, finish_reason, samples_of, served_usage
from cascade.wire.extras import BLOCK
from cascade.wire.reading import Fields, as_fields, json_text, read_body, wrong
from curator.types import ChatRequest, Completion, Json, JsonObject, Message, Role, Sample, Sampling

MAX_TOKENS: Final = 1024
"""What a request that names no limit may generate: money is reserved for it before it is sent."""

MOST_SAMPLES: Final = 128
MOST_TOKENS: Final = 2**31 - 1
SEEDS: Final = (-(2**63), 2**63 - 1)

ROLES: Final[dict[str, Role]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "user",
}
"""The API's roles, and what a model without a tool protocol reads them as."""

_READ: Final = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "n",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "stop",
        "seed",
        "logprobs",
        "top_logprobs",
        "tools",
        "tool_choice",
    }
)
"""Fields that become ours; all others are kept as they are."""


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A request as it was read. `include_usage` asks for a last chunk with the usage."""

    request: ChatRequest
    model: str
    stream: bool = False
    include_usage: bool = False


def parse(body: Json, max_tokens: int = MAX_TOKENS) -> ChatCall:
    """The call that a body makes; `max_tokens` is for a body that names no limit.

    Fields that nobody here knows are kept in `ChatRequest.extra`, for the servers behind. `response_format` is kept
    there too, beside the schema that is read from it, since servers take more of it (its name, `strict`).
    Raises: FieldError.
    """
    fields = read_body(body)
    fields.refuse(("audio", "functions", "function_call"), "ask for text, and for tools by `tools`")
    if any(item != "text" for item in fields.items("modalities")):
        raise fields.wrong("modalities", '["text"]')
    messages = fields.need_objects("messages")
    request = ChatRequest(
        messages=tuple(read_message(message) for message in messages),
        sampling=read_sampling(fields, _limit(fields) or max_tokens),
        schema=read_schema(fields.inner("response_format")),
        n=fields.whole("n", 1, MOST_SAMPLES) or 1,
        turns=tuple(message.values for message in messages),
        tools=tuple(_tool(tool) for tool in fields.objects("tools")),
        tool_choice=_tool_choice(fields),
        logprobs=_logprobs(fields),
        extra=fields.others(_READ),
    )
    return ChatCall(request, fields.need_text("model"), bool(fields.flag("stream")), asks_usage(fields))


def asks_usage(fields: Fields) -> bool:
    """Whether a stream is to end with its usage."""
    options = fields.inner("stream_options")
    return bool(options and options.flag("include_usage"))


def read_sampling(fields: Fields, max_tokens: int) -> Sampling:
    """The sampling fields that chat completions and completions share; the API's defaults where they are left out."""
    temperature, top_p = fields.number("temperature", 0, 2), fields.number("top_p", 0, 1)
    return Sampling(
        temperature=1.0 if temperature is None else temperature,
        top_p=1.0 if top_p is None else top_p,
        max_tokens=max_tokens,
        seed=fields.whole("seed", *SEEDS),
        stop=_stop(fields),
    )


def _limit(fields: Fields) -> int | None:
    old = fields.whole("max_tokens", 1, MOST_TOKENS)
    return fields.whole("max_completion_tokens", 1, MOST_TOKENS) or old


def _stop(fields: Fields) -> tuple[str, ...]:
    stop = fields.values.get("stop")
    if isinstance(stop, str):
        return (stop,) if stop else ()
    found = fields.items("stop")
    if not all(isinstance(one, str) and one for one in found):
        raise fields.wrong("stop", "a string, or a list of strings that are not empty")
    return tuple(str(one) for one in found)


def _logprobs(fields: Fields) -> int | None:
    top = fields.whole("top_logprobs", 0, 20)
    if fields.flag("logprobs"):
        return top or 0
    if top is not None:
        raise wrong(fields.at("logprobs"), "true where top_logprobs is given", fields.values.get("logprobs"))
    return None


def read_schema(form: Fields | None) -> JsonObject | None:
    """The JSON schema that `response_format` holds answers to; a `json_object` may be any object."""
    if form is None:
        return None
    kind = form.values.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    if kind != "json_schema":
        raise form.wrong("type", '"text", "json_object" or "json_schema"')
    inner = form.need_inner("json_schema")
    inner.need_text("name")
    return inner.need_inner("schema").values


def _tool(tool: Fields) -> JsonObject:
    kind = tool.need_text("type")
    if kind not in ("function", "custom"):
        raise tool.wrong("type", '"function" or "custom"')
    inner = tool.need_inner(kind)
    inner.need_text("name")
    if kind == "function":
        inner.inner("parameters")
    return tool.values


def _tool_choice(fields: Fields) -> Json:
    choice = fields.values.get("tool_choice")
    if isinstance(choice, dict):
        as_fields(choice, fields.at("tool_choice")).need_text("type")
    elif choice not in (None, "none", "auto", "required"):
        raise fields.wrong("tool_choice", '"none", "auto", "required" or an object')
    return choice


def read_message(message: Fields) -> Message:
    """The text of a message. What else it holds (images, calls) is in `turns`."""
    role = message.values.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise message.wrong("role", f"one of {', '.join(ROLES)}")
    if role == "tool":
        message.need_text("tool_call_id")
    calls = [_call(call) for call in message.objects("tool_calls")] if role == "assistant" else []
    if message.values.get("content") is not None:
        return Message(ROLES[role], content_text(message))
    if not calls and not (role == "assistant" and message.text("refusal")):
        raise message.wrong("content", "a string or a list of parts")
    return Message(ROLES[role], json_text(calls, message.at("tool_calls")) if calls else message.need_text("refusal"))


def _call(call: Fields) -> JsonObject:
    call.need_text("id")
    if call.values.get("type") == "custom":
        inner, said = call.need_inner("custom"), "input"
    else:
        inner, said = call.need_inner("function"), "arguments"
    inner.need_text("name")
    if inner.text(said) is None:
        raise inner.wrong(said, "a string")
    return call.values


def content_text(message: Fields) -> str:
    """The text of a message's content: a string, or the text parts of a list."""
    content = message.values.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise message.wrong("content", "a string or a list of parts")
    return "".join(_part(part) for part in message.objects("content"))


def _part(part: Fields) -> str:
    kind = part.need_text("type")
    if kind in ("text", "refusal"):
        text = part.text(kind)
        if text is None:
            raise part.wrong(kind, "a string")
        return text
    return ""


def reply(stamp: Stamp, call: ChatCall, routed: Routed[Completion], block: JsonObject) -> JsonObject:
    """The body that answers a call; `block` is of `extras.text_block`."""
    samples = samples_of(routed.answers[0])
    return {
        "id": stamp.id,
        "object": "chat.completion",
        "created": stamp.created,
        "model": stamp.model,
        "choices": [_choice(place, sample, call.request) for place, sample in enumerate(samples)],
        "usage": chat_usage(served_usage(routed)),
        "system_fingerprint": None,
        BLOCK: block,
    }


def _choice(place: int, sample: Sample, request: ChatRequest) -> JsonObject:
    refused = sample.finish_reason == "refusal"
    message: JsonObject = {
        "role": "assistant",
        "content": None if refused or (sample.tool_calls and not sample.text) else sample.text,
        "refusal": (sample.text or DECLINED) if refused else None,
    }
    if sample.tool_calls:
        message["tool_calls"] = list(sample.tool_calls)
    return {
        "index": place,
        "message": message,
        "logprobs": token_logprobs(sample.tokens, request),
        "finish_reason": finish_reason(sample.finish_reason),
    }


def token_logprobs(tokens: Sequence[JsonObject], request: ChatRequest) -> Json:
    """`logprobs` of a choice, if they were asked for and are known. Servers leave out what the API's clients need."""
    if request.logprobs is None or not tokens:
        return None
    filled: list[Json] = [
        {**token, "bytes": token.get("bytes"), "top_logprobs": token.get("top_logprobs") or []} for token in tokens
    ]
    return {"content": filled, "refusal": None}
