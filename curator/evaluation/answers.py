"""Gold files, files of predictions, and the store's labels, read and checked.

Gold is read here, by `read_gold`, and nowhere else; nothing here writes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import orjson

from curator.errors import InputError, SourceError
from curator.fields import ClosedField, OpenField
from curator.parsing import MISSING, read_value
from curator.sources import BadRow, Row, read_rows
from curator.sources.base import suggest
from curator.sources.rows import id_text, json_safe
from curator.store import Store
from curator.types import Json, JsonObject

Voted = ClosedField | OpenField
"""A field that has one value per document, which gold can be compared with."""
ID_COLUMNS = ("id", "document_id")
"""Where a row's id stands: as in a corpus, or as the store's own commands write it."""
VALUE = "value"
"""The value's column in what `goldless show labels --json` writes; elsewhere it is called as the field."""
SHOWN = 10
"""Wrong rows that a message lists."""
SUM_TOLERANCE = 0.02
"""Probabilities of a file may be rounded; beyond this their sum is a mistake."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One arm's answer to one row; `value` is MISSING where there is none that counts. `probabilities`
    follow the field's options."""

    value: Json
    confidence: float | None = None
    basis: str = ""
    probabilities: tuple[float, ...] = ()


Answers = Mapping[str, Answer]
"""Document id -> answer."""


@dataclass(frozen=True, slots=True)
class Gold:
    """Document id -> right value. `blank` rows of the file have no value and are left out."""

    path: str
    values: Mapping[str, Json]
    blank: int = 0


@dataclass(frozen=True, slots=True)
class _Line:
    """A row of a file: its number, its id, what stands in the value's column, and all its columns."""

    number: int
    id: str
    written: Json
    values: Mapping[str, object]


def read_gold(path: str, field: Voted, *, id_column: str = "") -> Gold:
    """Gold values of one field from a JSONL, CSV or Parquet file with an id column (`id_column`, or
    `id`, or `document_id`) and a column called like the field, or `value`. A blank value is no gold.

    Raises: SourceError for a file that cannot be read, a missing column, an id that is missing or
    there twice, and values that are none of the field's, naming the rows.
    """
    lines = _lines(path, field, id_column)
    given = [line for line in lines if not _blank(line.written)]
    values = {line.id: read_value(field, line.written) for line in given}
    wrong = [
        f"row {line.number}: {line.written!r} is {_no_value(field)}" for line in given if values[line.id] == MISSING
    ]
    if wrong:
        more = [f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        raise SourceError("\n".join([f"{path}: {wrong[0]}", *wrong[1:SHOWN], *more]), hint="nothing was scored")
    if not values:
        raise SourceError(f"{path} holds no value of {field.name!r}: all {len(lines)} rows are blank")
    return Gold(path, values, len(lines) - len(given))


def read_predictions(path: str, field: Voted, *, id_column: str = "") -> dict[str, Answer]:
    """Answers of another arm from a file as `read_gold` reads it, where it has them with `confidence`,
    `basis` and `probabilities` (a list in the order of the options, or an object of labels); an export's
    `<field>_confidence` and `<field>_basis` come first. A blank value, and one that is none of the
    field's, is no answer.

    Raises: SourceError as `read_gold` does, and where no value at all is one of the field's.
    """
    lines = _lines(path, field, id_column)
    found = {line.id: _answer(path, field, line) for line in lines}
    if all(answer.value == MISSING for answer in found.values()):
        first = f"the first, row {lines[0].number}, is {lines[0].written!r}, which is {_no_value(field)}"
        raise SourceError(f"{path} answers nothing: none of its {len(lines)} values can be read", hint=first)
    return found


def stored_labels(store: Store, task_id: str, field: Voted, wanted: Set[str]) -> dict[str, Answer]:
    """The store's labels of one field, for the wanted documents. Raises: InputError if the task has no
    labels at all, or no wanted document has one."""
    rows = (row for table in store.labels(task_id) for row in table.to_pylist() if row["field"] == field.name)
    return _wanted(((row["document_id"], _decoded(row["value"]), row) for row in rows), field, wanted)


def stored_version(store: Store, version: int, field: Voted, wanted: Set[str]) -> dict[str, Answer]:
    """One field of a dataset version, for the wanted documents. Raises: InputError for an unknown
    version, or if it holds no wanted document."""
    rows = (row for table in store.dataset_rows(version) for row in table.to_pylist())
    parts = ((row["document_id"], orjson.loads(row["output"]), orjson.loads(row["fields"])) for row in rows)
    return _wanted(
        ((name, output.get(field.name), fields[field.name]) for name, output, fields in parts), field, wanted
    )


def _wanted(rows: Iterator[tuple[str, Json, JsonObject]], field: Voted, wanted: Set[str]) -> dict[str, Answer]:
    found: dict[str, Answer] = {}
    other = ""
    for name, value, row in rows:
        other = other or name
        if name in wanted:
            found[name] = _stored(field, value, row)
    if not other:
        raise InputError("the store has no labels of this task", hint="`goldless curate` makes them")
    if not found:
        raise no_overlap("gold", min(wanted), "the store's labels", other)
    return found


def no_overlap(ours: str, our_id: str, theirs: str, their_id: str) -> InputError:
    """The error for two sides without a common id, with an id of each."""
    return InputError(
        f"{ours} and {theirs} have no id in common",
        hint=f"ids of {ours} are like {our_id!r}, of {theirs} like {their_id!r}; "
        "a document without an id column is called by a hash: `goldless show documents`",
    )


def _lines(path: str, field: Voted, id_column: str) -> list[_Line]:
    """The rows of a file that speak of `field`, each with an id of its own."""
    rows = [_readable(path, item) for item in read_rows(path, delimiter=_delimiter(path))]
    if not rows:
        raise SourceError(f"{path} is empty: it holds no rows")
    columns = list(dict.fromkeys(name for row in rows for name in row.values))
    name = _column(path, "id", (id_column, *ID_COLUMNS), columns)
    value = _column(path, "value", (field.name, VALUE), columns)
    if value == VALUE and "field" in columns:
        rows = [row for row in rows if row.values.get("field") == field.name]
    lines = [_Line(row.number, _id(path, row, name), json_safe(row.values.get(value)), row.values) for row in rows]
    if not lines:
        raise SourceError(f"{path} has no row of the field {field.name!r}")
    first: dict[str, int] = {}
    for line in lines:
        if (earlier := first.setdefault(line.id, line.number)) != line.number:
            raise SourceError(f"{path} row {line.number}: the id {line.id!r} is in row {earlier} already")
    return lines


def _delimiter(path: str) -> str | None:
    """What separates a CSV file's columns; spreadsheets of many countries write semicolons."""
    file = Path(path)
    if file.suffix.lower() != ".csv" or not file.is_file():
        return None
    with file.open("rb") as stream:
        first = stream.readline(1 << 16)
    return max(",;\t", key=lambda mark: first.count(mark.encode()))


def _readable(path: str, item: Row | BadRow) -> Row:
    if isinstance(item, BadRow):
        raise SourceError(f"{path} row {item.number} cannot be read ({item.reason})", hint=item.excerpt)
    return item


def _column(path: str, what: str, candidates: Sequence[str], columns: Sequence[str]) -> str:
    found = next((name for name in candidates if name in columns), None)
    if found is None:
        names = " or ".join(repr(name) for name in dict.fromkeys(candidates) if name)
        raise SourceError(
            f"{path} has no {what} column: {names}", hint=suggest(candidates[0] or candidates[1], columns)
        )
    return found


def _id(path: str, row: Row, column: str) -> str:
    name = id_text(row.values.get(column))
    if not name:
        raise SourceError(f"{path} row {row.number}: {column!r} is {row.values.get(column)!r}, which is no id")
    return name


def _blank(written: Json) -> bool:
    return written is None or (isinstance(written, str) and not written.strip())


def _no_value(field: Voted) -> str:
    if isinstance(field, OpenField):
        return f"no {field.kind}"
    return f"no option of {field.name}: {', '.join(field.question.labels)}"


def _answer(path: str, field: Voted, line: _Line) -> Answer:
    own = f"{field.name}_"
    values = {key: json_safe(item) for key, item in line.values.items()}
    parts = {key: values.get(own + key, values.get(key)) for key in ("confidence", "basis", "probabilities")}
    value = MISSING if _blank(line.written) else read_value(field, line.written)
    shares: tuple[float, ...] = ()
    if isinstance(field, ClosedField) and not _blank(parts["probabilities"]):
        shares = _distribution(path, field, line.number, parts["probabilities"])
    return Answer(value, _number(parts["confidence"]), str(parts["basis"] or ""), shares)


def _stored(field: Voted, value: Json, row: JsonObject) -> Answer:
    shares = row["probabilities"]
    probabilities = tuple(map(float, cast(list[float], shares))) if shares else ()
    read = MISSING if value == MISSING else read_value(field, value)
    return Answer(read, _number(row["confidence"]), str(row["basis"] or ""), probabilities)


def _number(written: Json) -> float | None:
    if isinstance(written, bool) or written is None:
        return None
    try:
        value = float(str(written))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _distribution(path: str, field: ClosedField, number: int, written: Json) -> tuple[float, ...]:
    """A file's probabilities in the order of the options. Raises: SourceError"""
    given = _loaded(written) if isinstance(written, str) else written
    if isinstance(given, dict):
        given = [given.get(label) or 0.0 for label in field.question.labels]
    shares = [_number(share) for share in given] if isinstance(given, list) else []
    known = [share for share in shares if share is not None and share >= 0]
    if len(known) != len(field.values) or len(known) != len(shares) or abs(sum(known) - 1) > SUM_TOLERANCE:
        raise SourceError(
            f"{path} row {number}: the probabilities {written!r} are no distribution over {len(field.values)} options",
            hint=f"a list in this order, or an object: {', '.join(field.question.labels)}",
        )
    return tuple(known)


def _loaded(text: str) -> Json:
    try:
        return cast(Json, orjson.loads(text))
    except orjson.JSONDecodeError:
        return None


def _decoded(text: str | None) -> Json:
    return MISSING if text is None else orjson.loads(text)
