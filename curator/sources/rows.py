"""A raw row becomes a document, or a bad row with its reason.

Text is taken as it is, never repaired: a row whose text or id holds NUL (`row.nul`) or half a
surrogate pair (`row.encoding`) is rejected, because what the model reads must be what the user sees.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import hashlib
import math
import string
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import orjson

from curator.errors import ConfigError
from curator.sources.base import BadRow, Reading, Row, excerpt
from curator.types import Document, Json

ID_BYTES = 10
"""Bytes of a content hash: at 10 million rows, two share one with probability 4e-11."""
MAX_ID = 512
AUTO_ID = "id"


def content_id(text: str, meta: Mapping[str, Json]) -> str:
    """20 hex digits that depend on text and meta only, so that order and later rows do not matter."""
    raw = orjson.dumps((text, meta), option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(raw, digest_size=ID_BYTES).hexdigest()


def json_safe(value: object) -> Json:
    """`value` as JSON holds it: dates to ISO 8601, NaN to null, decimals and wide integers to
    strings, bytes to base64, everything nested likewise."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):  # half a surrogate pair is in no encoding: show it as an escape
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_safe(item) for item in value]
    return _scalar(value)


def _scalar(value: object) -> Json:
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        return str(value) if value.is_finite() else None
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode("ascii")
    item = getattr(value, "item", None)  # numpy's scalars
    return json_safe(item()) if callable(item) else str(value)


@dataclass(frozen=True, slots=True)
class TextTemplate:
    """The text of a row: a column's value, or a template over several columns.

    A setting without braces names a column. With braces, `{column}` stands for the column's value,
    strings as they are and anything else as JSON; `{{` and `}}` are braces.
    """

    columns: tuple[str, ...]
    parts: tuple[tuple[str, str | None], ...] = ()

    @classmethod
    def of(cls, setting: str) -> TextTemplate:
        """Raises ConfigError for a template with unbalanced braces or without a column."""
        if not setting:
            raise ConfigError("the text setting is empty", hint='name a column, or a template like "{title}\\n{body}"')
        if "{" not in setting and "}" not in setting:
            return cls((setting,))
        try:
            parts = tuple((literal, name) for literal, name, _, _ in string.Formatter().parse(setting))
        except ValueError as error:
            raise ConfigError(f"text template {setting!r}: {error}", hint="write {{ and }} for braces") from None
        names = [name for _, name in parts if name is not None]
        if not names or "" in names:
            raise ConfigError(f"text template {setting!r} must name columns", hint='like "{title}\\n{body}"')
        return cls(tuple(dict.fromkeys(names)), parts)

    def render(self, values: Mapping[str, object]) -> object:
        """The text; None where a value is missing; another type where a plain column holds one."""
        if not self.parts:
            return values.get(self.columns[0])
        if any(values.get(name) is None for name in self.columns):
            return None
        return "".join(literal + (_shown(values[name]) if name else "") for literal, name in self.parts)


def _shown(value: object) -> str:
    return value if isinstance(value, str) else orjson.dumps(json_safe(value)).decode()


def wanted_columns(reading: Reading) -> tuple[str, ...]:
    """The columns that a file cannot do without; none where no text is asked for."""
    return RowMapper.of(reading).wanted if reading.text else ()


@dataclass(frozen=True, slots=True)
class RowMapper:
    """Raw rows to documents, as `reading` asks."""

    reading: Reading
    template: TextTemplate
    used: frozenset[str]
    id_column: str
    wanted: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, reading: Reading) -> RowMapper:
        template = TextTemplate.of(reading.text)
        id_column = AUTO_ID if reading.id is None else reading.id
        wanted = (*template.columns, reading.id) if reading.id else template.columns
        return cls(reading, template, frozenset((*template.columns, id_column)), id_column, wanted)

    def document(self, row: Row) -> Document | BadRow:
        """The document, or why there is none."""
        values = row.values
        text = self.template.render(values)
        reason = _text_problem(text, self.reading.max_row_bytes)
        if reason or not isinstance(text, str):
            return BadRow(row.number, reason, excerpt(text if text is not None else dict(values)))
        meta = self._meta(row)
        name = id_text(values.get(self.id_column)) if self.id_column else ""
        if name == "" and not self.reading.id:
            return Document(content_id(text, meta), text, meta)
        reason = _id_problem(name)
        return BadRow(row.number, reason, excerpt(text)) if reason else Document(name or "", text, meta)

    def _meta(self, row: Row) -> dict[str, Json]:
        chosen = self.reading.columns
        if chosen is None:
            picked = {name: value for name, value in row.values.items() if name not in self.used}
        else:
            picked = {name: row.values[name] for name in chosen if name in row.values}
        return (
            cast(dict[str, Json], picked) if row.plain else {name: json_safe(value) for name, value in picked.items()}
        )


def _text_problem(text: object, limit: int) -> str:
    """The reason why `text` cannot be a document's, or ""."""
    if text is None:
        return "row.missing_text"
    if not isinstance(text, str):
        return "row.not_text"
    if not text or text.isspace():
        return "row.missing_text"
    if len(text) * 4 > limit and len(text.encode("utf-8", "surrogatepass")) > limit:
        return "row.too_large"
    return _string_problem(text)


def id_text(value: object) -> str | None:
    """An id as a string: "" where there is none, None for what cannot be one."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():  # integers that passed through a null-able column
        return str(int(value))
    return str(value) if isinstance(value, int | uuid.UUID) and not isinstance(value, bool) else None


def _id_problem(name: str | None) -> str:
    if name is None or len(name) > MAX_ID:
        return "row.invalid_id"
    return _string_problem(name) if name else "row.missing_id"


def _string_problem(text: str) -> str:
    if "\x00" in text:
        return "row.nul"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "row.encoding"
    return ""
