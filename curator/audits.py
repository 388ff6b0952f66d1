"""Sheets for people to check: a uniform draw of labelled documents, and their answers read back.

A sheet is a JSONL or CSV file with the columns `document_id`, `text` and one per closed field, which
people fill in. It does not show the model's label, so that nobody is led.

The draw is uniform because an `Audit` carries no sampling weight: the calibration and the class prior
take the audited rows as a plain sample of the corpus. Rows picked for being doubtful would bias both.
"""

from __future__ import annotations

import csv
import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from curator.errors import InputError, TaskError
from curator.fields import ClosedField
from curator.labeling import uniform
from curator.sources.base import suggest
from curator.store import Audit, Store
from curator.types import Document, Json, JsonObject

ID, TEXT = "document_id", "text"
SHOWN = 10
"""Wrong rows that a message lists."""
MAX_CELL = 1 << 30
"""Bytes of a CSV cell; csv's own limit is shorter than many texts."""


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One row as it stands in the file. `number` is the line of a JSONL file, or the row as a
    spreadsheet counts them, the header being row 1."""

    number: int
    values: JsonObject


def labelled(store: Store, task_id: str) -> Iterator[str]:
    """The ids of the documents that the task has labels for, in the store's order."""
    for table in store.labels(task_id):
        yield from dict.fromkeys(str(name) for name in table.column("document_id").to_pylist())


def draw(ids: Iterable[str], count: int, *, seed: int = 0) -> list[str]:
    """`count` of `ids` (all where there are fewer), each as likely as any other, in random order.

    The same ids and seed give the same draw, and a greater count only adds to it. So the first rows of
    a sheet that nobody finished are a uniform draw too.
    """
    salt = f"{seed}:" if seed else ""
    return heapq.nsmallest(count, ids, key=lambda name: uniform(salt + name))


def sheet_rows(documents: Iterable[Document], fields: Sequence[ClosedField]) -> Iterator[JsonObject]:
    """One row per document: its id, its text, and null for every field.

    Raises: TaskError if there is nothing to check, or a field is called like a column.
    """
    if not fields:
        raise TaskError("the task has no closed field to audit", hint="audits are of predicates, choices and scores")
    for field in fields:
        if field.name in (ID, TEXT):
            raise TaskError(f"the field {field.name!r} is called like a column of the sheet", hint="rename the field")
    blank: JsonObject = dict.fromkeys(field.name for field in fields)
    return ({ID: document.id, TEXT: document.text, **blank} for document in documents)


def write_sheet(path: Path, rows: Iterable[JsonObject]) -> int:
    """Write a new file, CSV if its name ends in .csv, JSONL otherwise. Returns how many rows.

    Raises: InputError for a file that is there already, which may hold people's answers, or that
    cannot be written.
    """
    try:
        if path.suffix.lower() == ".csv":
            return _write_csv(path, list(rows))
        lines = [orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows]
        with path.open("xb") as file:
            file.writelines(lines)
        return len(lines)
    except FileExistsError:
        raise InputError(f"{path} is there already", hint="it may hold answers; name another file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None


def _write_csv(path: Path, rows: Sequence[JsonObject]) -> int:
    # With a byte order mark spreadsheets read the file as UTF-8.
    with path.open("x", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [ID, TEXT])
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


def read_sheet(path: Path) -> list[SheetRow]:
    """The rows of a sheet, as they stand. A CSV file may be separated by commas, semicolons or tabs.

    Raises: InputError for a file that cannot be read, naming the row.
    """
    try:
        if path.suffix.lower() == ".csv":
            return list(_csv_rows(path))
        lines = enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines(), 1)
        return [SheetRow(number, _object(path, number, line)) for number, line in lines if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path} is no CSV file: {error}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def _object(path: Path, number: int, line: bytes) -> JsonObject:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise InputError(f"{path} row {number} is no JSON: {error}", hint="one JSON object per line") from None
    if not isinstance(row, dict):
        raise InputError(f"{path} row {number} is no JSON object", hint="one JSON object per line")
    return row


def _csv_rows(path: Path) -> Iterator[SheetRow]:
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL))
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        reader = csv.reader(file, delimiter=max(",;\t", key=first.count))
        header = [name.strip() for name in next(reader, [])]
        for number, cells in enumerate(reader, 2):
            if any(cell.strip() for cell in cells[len(header) :]):
                raise InputError(f"{path} row {number} has more cells than the header", hint="quote cells with commas")
            if any(cells):
                yield SheetRow(number, {name: cell for name, cell in zip(header, cells, strict=False) if name})


def check(
    rows: Sequence[SheetRow], fields: Sequence[ClosedField], texts: Mapping[str, str], auditor: str
) -> list[Audit]:
    """The answers in `rows`; a field that is null or blank was not checked. `texts` maps the ids of the
    labelled documents to their texts.

    Raises: InputError that lists what is wrong, if anything is: a document that is not known, was
    named before or has another text now, a field that is none, a value that is no option.
    """
    answers, wrong = answers_in(rows, fields, texts)
    if wrong:
        more = [f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else []
        raise InputError("\n".join([*wrong[:SHOWN], *more]), hint="nothing was added; mend this and read it again")
    return [Audit(name, field, value, auditor) for (name, field), value in answers.items()]


def answers_in(
    rows: Sequence[SheetRow], fields: Sequence[ClosedField], texts: Mapping[str, str], beside: Sequence[str] = ()
) -> tuple[dict[tuple[str, str], Json], list[str]]:
    """What is right in `rows`, (document, field) -> value, and what is wrong, row by row; as `check`, which takes
    all or nothing. `beside` are columns that may stand beside the fields."""
    known = {field.name: field for field in fields}
    wrong = _unknown_fields(rows, [ID, TEXT, *beside, *known], known)
    found: dict[tuple[str, str], Json] = {}
    seen: dict[str, int] = {}
    for row in rows:
        try:
            name = _document(row, texts, seen)
        except InputError as error:
            wrong.append(error.message)
            continue
        for field, written in _answers(row, known):
            try:
                found[name, field.name] = _value(row.number, field, written)
            except InputError as error:
                wrong.append(error.message)
    return found, wrong


def _unknown_fields(rows: Sequence[SheetRow], columns: Sequence[str], known: Mapping[str, ClosedField]) -> list[str]:
    first: dict[str, int] = {}
    for row in rows:
        for name in row.values:
            if name not in columns:
                first.setdefault(name, row.number)
    return [f"row {number}: {name!r} is no closed field; {suggest(name, known)}" for name, number in first.items()]


def _document(row: SheetRow, texts: Mapping[str, str], seen: dict[str, int]) -> str:
    name = row.values.get(ID)
    if not isinstance(name, str) or not name:
        raise InputError(f"row {row.number}: there is no {ID}")
    if name not in texts:
        raise InputError(f"row {row.number}: no document to check has the id {name!r}")
    if (earlier := seen.setdefault(name, row.number)) != row.number:
        raise InputError(f"row {row.number}: document {name!r} is in row {earlier} already")
    text = row.values.get(TEXT)
    # A spreadsheet may change the ends of lines, so only the words are compared.
    if isinstance(text, str) and text.strip() and text.split() != texts[name].split():
        raise InputError(f"row {row.number}: the text of {name!r} is another one in the store; draw it again")
    return name


def _answers(row: SheetRow, known: Mapping[str, ClosedField]) -> Iterator[tuple[ClosedField, Json]]:
    for name, field in known.items():
        written = row.values.get(name)
        if written is not None and not (isinstance(written, str) and not written.strip()):
            yield field, written


def _value(number: int, field: ClosedField, written: Json) -> Json:
    """The option that was meant: by its label, as the model reads it, or by its JSON value."""
    meant = _spelled(written)
    labels = {label.casefold(): value for label, value in zip(field.question.labels, field.values, strict=True)}
    values = {_spelled(value): value for value in field.values if value is not None}
    for options in (labels, values):
        if meant in options:
            return options[meant]
    raise InputError(
        f"row {number}: {field.name!r} is {written!r}, which is no option: {', '.join(field.question.labels)}"
    )


def _spelled(value: Json) -> str:
    plain = value if isinstance(value, str) else orjson.dumps(value).decode()
    return plain.strip().casefold()
