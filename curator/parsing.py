"""From a model's text to typed values: the last JSON object or the final answer line, normalised.

What cannot be read is missing (`None` in the result's place), never a class of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import date
from decimal import Decimal, InvalidOperation

import orjson

from curator.fields import ClosedField, Field, OpenField, ReasoningField
from curator.types import Json, JsonObject

MISSING = "\x00missing"
"""A value no model can write: the field could not be read. (`None` is a value of optional fields.)"""

_ANSWER = re.compile(r"(?:final answer|the answer is|answer)\s*(?:is)?\s*[:=]?\s*(.+)", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?\d[\d,\u00a0\u202f']*(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+]?\.\d+")
_EMPTY = {"", "null", "none", "n/a", "unknown"}
_MAX_TEXT = 500


def parse_json(text: str, fields: Sequence[Field]) -> JsonObject:
    """The fields of the last complete JSON object in `text`, each normalised or MISSING."""
    found = last_object(text)
    return {field.name: _field_value(field, found) for field in fields}


def parse_answer(text: str, fields: Sequence[Field]) -> JsonObject:
    """For a task with one voted field: free text that ends with `Answer: ...`.

    A number is also found where the marker is missing (the last number of the text, as the
    published scorers of GSM8K do); a short text is not, since any line could be it.
    """
    values: JsonObject = {}
    marked = marked_answer(text)
    for field in fields:
        if isinstance(field, ReasoningField):
            values[field.name] = text.strip()
            continue
        number = isinstance(field, OpenField) and field.kind == "number"
        candidate = (text if number else "") if marked is None else marked
        values[field.name] = _normalise(field, candidate, last=marked is None)
    return values


def parse_reply(text: str, fields: Sequence[Field]) -> JsonObject:
    """For a task that keeps the whole reply: the text, MISSING where it is empty."""
    return {field.name: text.strip() or MISSING for field in fields}


def marked_answer(text: str) -> str | None:
    """What stands behind the last `Answer:` (or its kin) of a text, None where there is none."""
    marked: list[str] = _ANSWER.findall(text)
    return marked[-1] if marked else None


def last_object(text: str) -> JsonObject:
    """The last JSON object that `text` holds, {} where there is none."""
    for start in reversed([match.start() for match in re.finditer(r"\{", text)]):
        for end in reversed([match.end() for match in re.finditer(r"\}", text[start:])][:8]):
            try:
                found = orjson.loads(text[start : start + end])
            except orjson.JSONDecodeError:
                continue
            if isinstance(found, dict):
                return found
    return {}


def normalise_text(text: str) -> str:
    """Unicode NFKC, folded case and spaces, without quotes and final punctuation."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.strip(" .,:;!\"'`*")


def normalise_number(text: str, *, last: bool = False) -> str:
    """A number as a canonical decimal string ("1,200.50" -> "1200.5"), MISSING if there is none.

    `last` takes the last number of the text instead of the first.
    """
    found = _NUMBER.findall(text)
    if not found:
        return MISSING
    try:
        value = Decimal(re.sub(r"[,\u00a0\u202f']", "", found[-1] if last else found[0]))
    except InvalidOperation:
        return MISSING
    return format(value.normalize(), "f") if value else "0"


def read_value(field: Field, written: Json) -> Json:
    """What a person or a file says about one field, normalised as a model's answer is; MISSING where
    it is no option, number or date."""
    whole = isinstance(written, float) and written.is_integer()
    return _field_value(field, {field.name: int(written) if isinstance(written, float) and whole else written})


def _field_value(field: Field, found: JsonObject) -> Json:
    if field.name not in found:
        return MISSING
    raw = found[field.name]
    if isinstance(field, ReasoningField):
        return raw if isinstance(raw, str) else str(raw)
    if raw is None:
        return None if _may_be_none(field) else MISSING
    if isinstance(raw, dict | list):
        return MISSING
    if isinstance(field, ClosedField) and raw in field.values and type(raw) in {type(v) for v in field.values}:
        return raw
    return _normalise(field, _as_text(raw))


def _as_text(raw: Json) -> str:
    return {True: "yes", False: "no"}[raw] if isinstance(raw, bool) else str(raw)


def _may_be_none(field: Field) -> bool:
    return (isinstance(field, ClosedField) and None in field.values) or (
        isinstance(field, OpenField) and field.optional
    )


def _normalise(field: Field, text: str, *, last: bool = False) -> Json:
    if isinstance(field, ClosedField):
        return _match_label(field, text)
    if isinstance(field, OpenField):
        if field.optional and normalise_text(text) in _EMPTY:
            return None
        if field.kind == "number":
            return normalise_number(text, last=last)
        if field.kind == "date":
            return _normalise_date(text)
        return normalise_text(text)[:_MAX_TEXT] or MISSING
    return text


def _match_label(field: ClosedField, text: str) -> Json:
    wanted = normalise_text(text)
    aliases = {"true": "yes", "false": "no"} if field.question.kind == "predicate" else {}
    for value, label in zip(field.values, field.question.labels, strict=True):
        if wanted in (normalise_text(label), normalise_text(str(value))) or aliases.get(wanted) == label:
            return value
    return MISSING


def _normalise_date(text: str) -> str:
    found = re.search(r"\d{4}-\d{2}-\d{2}", text)
    try:
        return date.fromisoformat(found.group()).isoformat() if found else MISSING
    except ValueError:
        return MISSING
