"""Request bodies read by hand: every complaint names the path of the field and what it must be.

Models that validate would cost more than the gateway's whole budget per request (BENCHMARKS.md, 6).
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Final

import orjson

from curator.errors import InputError
from curator.types import Json, JsonObject

BODY: Final = "body"
"""The path of a body itself."""

_SHOWN: Final = 80
"""Characters of a client's own key that a path shows."""


class FieldError(InputError):
    """A field of a request body is missing, wrong or not supported. `path` names it: `messages[2].content`."""

    def __init__(self, path: str, problem: str, *, hint: str = "") -> None:
        super().__init__(f"{path} {problem}", hint=hint)
        self.path = path


@dataclass(frozen=True, slots=True)
class Fields:
    """A JSON object of a body, and its path. A field that is null counts as left out."""

    values: JsonObject
    path: str = ""

    def at(self, key: str) -> str:
        """The path of a field."""
        shown = (key if len(key) <= _SHOWN else key[:_SHOWN] + "...") or '""'
        return f"{self.path}.{shown}" if self.path else shown

    def wrong(self, key: str, needs: str) -> FieldError:
        """The error for a field that must be something else."""
        return wrong(self.at(key), needs, self.values.get(key))

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is None or isinstance(value, str):
            return value
        raise self.wrong(key, "a string")

    def need_text(self, key: str) -> str:
        """A string that is there, and not empty."""
        value = self.values.get(key)
        if isinstance(value, str) and value:
            return value
        raise self.wrong(key, "a string that is not empty")

    def flag(self, key: str) -> bool | None:
        value = self.values.get(key)
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong(key, "true or false")

    def whole(self, key: str, low: int, high: int) -> int | None:
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise self.wrong(key, f"a whole number from {low} to {high}")

    def number(self, key: str, low: float, high: float) -> float | None:
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        raise self.wrong(key, f"a number from {low:g} to {high:g}")

    def inner(self, key: str) -> Fields | None:
        """The object that a field is."""
        value = self.values.get(key)
        return None if value is None else as_fields(value, self.at(key))

    def need_inner(self, key: str) -> Fields:
        return as_fields(self.values.get(key), self.at(key))

    def items(self, key: str) -> list[Json]:
        """The list that a field is; empty where it is left out."""
        value = self.values.get(key)
        if value is None:
            return []
        if isinstance(value, list):
            return value
        raise self.wrong(key, "a list")

    def objects(self, key: str) -> list[Fields]:
        """The objects of a list."""
        path = self.at(key)
        return [as_fields(item, f"{path}[{place}]") for place, item in enumerate(self.items(key))]

    def need_objects(self, key: str) -> list[Fields]:
        """The objects of a list that is there, and not empty."""
        if found := self.objects(key):
            return found
        raise self.wrong(key, "a list of objects that is not empty")

    def others(self, read: Container[str]) -> JsonObject:
        """The fields that are not among those `read`, without nulls."""
        return {key: value for key, value in self.values.items() if key not in read and value is not None}

    def know(self, keys: Container[str]) -> None:
        """Raises: FieldError for a field that is not one of `keys`, and asks for something."""
        self.refuse((key for key in self.values if key not in keys), "this server does not know it")

    def refuse(self, keys: Iterable[str], why: str) -> None:
        """Raises: FieldError if one of these fields asks for something (null, false, 0, "" and [] do not)."""
        for key in keys:
            if self.values.get(key):
                raise FieldError(self.at(key), f"is not supported here: {why}")


def as_fields(value: Json, path: str) -> Fields:
    """Raises: FieldError unless `value` is an object."""
    if isinstance(value, dict):
        return Fields(value, path)
    raise wrong(path, "a JSON object", value)


def read_body(body: Json) -> Fields:
    """A request's whole body.

    Raises: FieldError if it is no object, or is nested deeper than it can be written again.
    """
    if not isinstance(body, dict):
        raise wrong(BODY, "a JSON object", body)
    json_text([[body]], BODY)
    return Fields(body)


def wrong(path: str, needs: str, value: Json) -> FieldError:
    """The error for a value that must be something else."""
    if value is None:
        return FieldError(path, f"is missing: it must be {needs}")
    return FieldError(path, f"must be {needs}, not {_shown(value)}")


def json_text(value: object, path: str) -> str:
    """JSON, compact, keys in their order: how structured states, instructions and criteria are shown to models.

    Raises: FieldError for a value that is nested too deep.
    """
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        raise FieldError(path, "is nested too deep") from None


def plain_text(value: Json, path: str) -> str:
    """A text as it is; anything else as JSON; nothing as an empty text."""
    if isinstance(value, str):
        return value
    return "" if value is None else json_text(value, path)


def _shown(value: Json) -> str:
    """A number or word as it is; of texts, lists and objects what they are: they may hold anything."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)[:_SHOWN]
    return {str: "a string", list: "a list", dict: "an object"}[type(value)] if value else "empty"
