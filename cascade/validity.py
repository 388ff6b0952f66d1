"""Whether generated text is what was asked for: JSON, by its schema, and tool calls. Invalid is a hard escalation.

Needs the `schema` extra (jsonschema, the reference implementation of the drafts) where there is a schema to hold
an answer to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, Protocol, cast

import orjson

from curator.errors import InputError, MissingExtraError
from curator.types import ChatRequest, GenerateRequest, Json, JsonObject, Sample

ANY: Final = "*"
"""No name of a tool: any of them will do."""


class _Validator(Protocol):
    def is_valid(self, instance: Json) -> bool: ...


def is_valid(text: str, schema: JsonObject | None) -> bool:
    """Whether `text` is one JSON value that `schema` allows; without a schema there is nothing to violate.

    Raises: InputError for a schema that is none; MissingExtraError without jsonschema.
    """
    if schema is None:
        return True
    validator = _validator(orjson.dumps(schema))
    try:
        return validator.is_valid(orjson.loads(text))
    except orjson.JSONDecodeError:
        return False


def is_valid_tool_call(name: str, arguments: str, tools: Mapping[str, JsonObject]) -> bool:
    """Whether a call names one of `tools` (name -> JSON schema of its parameters) with arguments that it takes.

    Raises: as `is_valid`.
    """
    return name in tools and is_valid(arguments, tools[name])


def is_valid_reply(sample: Sample, request: GenerateRequest) -> bool:
    """Whether a sample is an answer to `request`: text by its schema, or calls of its tools as `tool_choice` has them.
    What a content filter cut off is none.

    Raises: as `is_valid`.
    """
    if sample.finish_reason == "content_filter":
        return False
    chat = request if isinstance(request, ChatRequest) else ChatRequest(request.messages)
    if not sample.tool_calls:
        return not _called(chat.tool_choice) and is_valid(sample.text, request.schema)
    named = _called(chat.tool_choice)
    return chat.tool_choice != "none" and all(
        _is_valid_call(call, chat.tools) and named in (ANY, "", _name(call)) for call in sample.tool_calls
    )


def calls_of(sample: Sample) -> list[tuple[str, Json]]:
    """Name and arguments of the tool calls, in an order and form in which equal calls are equal."""
    found = []
    for call in sample.tool_calls:
        kind = str(call.get("type") or "function")
        said = _inner(call, kind).get("arguments" if kind == "function" else "input")
        try:
            found.append((_name(call), orjson.loads(said) if kind == "function" and isinstance(said, str) else said))
        except orjson.JSONDecodeError:
            found.append((_name(call), said))
    return sorted(found, key=lambda call: (call[0], orjson.dumps(call[1], option=orjson.OPT_SORT_KEYS)))


def _called(choice: Json) -> str:
    """The tool that must be called: its name, `ANY` of them, or none (an empty text)."""
    if choice == "required":
        return ANY
    if not isinstance(choice, dict):
        return ""
    return ANY if choice.get("type") == "allowed_tools" else _name(choice) or ANY


def _is_valid_call(call: JsonObject, tools: Sequence[JsonObject]) -> bool:
    """Whether the call fits one of the tools. What a tool without parameters takes is not restricted, nor is the input
    of a custom one."""
    kind, name = call.get("type") or "function", _name(call)
    offered = [tool for tool in tools if tool.get("type") == kind and _name(tool) == name]
    if not offered or kind != "function":
        return bool(offered)
    arguments = _inner(call, kind).get("arguments")
    parameters = _inner(offered[0], kind).get("parameters")
    schema: JsonObject = parameters if isinstance(parameters, dict) else {"type": "object"}
    return isinstance(arguments, str) and is_valid_tool_call(name, arguments or "{}", {name: schema})


def _name(call: JsonObject) -> str:
    return str(_inner(call, str(call.get("type") or "function")).get("name") or "")


def _inner(call: JsonObject, kind: str) -> JsonObject:
    inner = call.get(kind)
    return inner if isinstance(inner, dict) else {}


@lru_cache(maxsize=256)
def _validator(schema: bytes) -> _Validator:
    try:
        from jsonschema.exceptions import SchemaError
        from jsonschema.validators import validator_for
    except ImportError:
        raise MissingExtraError(
            "answers cannot be held to a JSON schema without jsonschema", hint="pip install 'goldless[schema]'"
        ) from None
    parsed = orjson.loads(schema)
    kind = validator_for(parsed)
    try:
        kind.check_schema(parsed)
    except SchemaError as error:
        raise InputError(f"the schema is no JSON schema: {error.message}") from error
    return cast(_Validator, kind(parsed))
