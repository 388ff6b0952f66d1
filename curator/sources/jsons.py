"""JSON Lines, and files that hold one JSON array.

Rows are parsed one by one with orjson. What orjson refuses is given once more to the standard
library, which also reads NaN and Infinity (both become null).
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import orjson

from curator.errors import SourceError
from curator.sources.arrays import elements
from curator.sources.base import BadRow, Reading, Row, excerpt
from curator.sources.rows import json_safe
from curator.sources.streams import Part, TextBytes, text_bytes

NESTING = 200
"""Brackets in a row from which on its depth is checked: the store writes at most 254 levels."""


def read_jsonl(part: Part, reading: Reading) -> Iterator[Row | BadRow]:
    """One object per line; blank lines are skipped but counted as lines."""
    with part.opened() as stream:
        yield from _json_lines(text_bytes(part, stream, reading.encoding), reading)


def read_json(part: Part, reading: Reading) -> Iterator[Row | BadRow]:
    """An array of objects, read piece by piece; a file that holds JSON Lines is read as such."""
    with part.opened() as stream:
        text = text_bytes(part, stream, reading.encoding)
        start = text.head.lstrip()
        if start.startswith(b"["):
            yield from _array(text, reading)
        elif b"\n" in start.rstrip() and not start.split(b"\n", 1)[0].rstrip().endswith(b"}"):
            raise SourceError(f"{part.name} is neither a JSON array nor JSON Lines", hint="write one object per line")
        else:
            yield from _json_lines(text, reading)


def _json_lines(text: TextBytes, reading: Reading) -> Iterator[Row | BadRow]:
    utf8 = text.encoding == "utf-8"
    for number, raw in enumerate(text.lines(reading.max_row_bytes), 1):
        if isinstance(raw, BadRow):
            yield raw
        elif not raw.isspace():
            yield parse_object(number, raw if utf8 else _utf8(raw, text.encoding))


def _array(text: TextBytes, reading: Reading) -> Iterator[Row | BadRow]:
    for number, raw in enumerate(elements(text.utf8_chunks(), reading.max_row_bytes), 1):
        yield raw if isinstance(raw, BadRow) else parse_object(number, raw)


def _utf8(raw: bytes, encoding: str) -> bytes:
    """As UTF-8; undecodable bytes are left in place, where they are not UTF-8 either."""
    try:
        return raw.decode(encoding).encode()
    except UnicodeError:
        return raw + b"\xff"


def parse_object(number: int, raw: bytes) -> Row | BadRow:
    """One row from the bytes of one JSON object."""
    try:
        values = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return _lenient(number, raw)
    if not isinstance(values, dict):
        return BadRow(number, "row.not_object", excerpt(raw))
    if len(raw) > NESTING and raw.count(b"{") + raw.count(b"[") > NESTING and not _writable(values):
        return BadRow(number, "row.too_deep", excerpt(raw))
    return Row(number, values, plain=True)


def _lenient(number: int, raw: bytes) -> Row | BadRow:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return BadRow(number, "row.encoding", excerpt(raw))
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            return BadRow(number, "row.not_object", excerpt(text))
        return _safe_row(number, values)
    except RecursionError:
        return BadRow(number, "row.too_deep", excerpt(text))
    except ValueError:
        return BadRow(number, "row.nul" if "\x00" in text else "row.invalid_json", excerpt(text))


def _safe_row(number: int, values: dict[str, object]) -> Row | BadRow:
    """A row parsed by the standard library: strings stay as they are, so that half surrogate pairs
    in the text are noticed, other values are made JSON-safe."""
    safe = {name: value if isinstance(value, str) else json_safe(value) for name, value in values.items()}
    if not _writable({name: value for name, value in safe.items() if not isinstance(value, str)}):
        return BadRow(number, "row.too_deep", excerpt(values))
    return Row(number, safe)


def _writable(values: object) -> bool:
    try:
        orjson.dumps(values)
    except orjson.JSONEncodeError:
        return False
    return True
