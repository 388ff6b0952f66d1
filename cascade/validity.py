"""Whether generated text is what was asked for: JSON, by its schema, and tool calls. Invalid is a hard escalation.

Needs the `schema` extra (jsonschema, the reference implementation of the drafts) where there is a schema to hold
an answer to.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol, cast

import orjson

from curator.errors import InputError, MissingExtraError
from curator.types import Json, JsonObject


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
