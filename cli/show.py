"""Commands about single rows: show, why, diff."""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from cli import output
from cli.data import find_version
from cli.output import Output, clip, plain
from cli.session import Session, command
from curator.errors import InputError
from curator.types import Json, JsonObject

if TYPE_CHECKING:
    from curator.store import DatasetDiff, DatasetVersion, Store

TEXT_WIDTH = 80
"""Characters of a text that a table shows; JSON has all of it."""


class What(StrEnum):
    """What can be listed."""

    DOCUMENTS = "documents"
    LABELS = "labels"
    REJECTS = "rejects"
    DATASET = "dataset"


Row = JsonObject
Test = Callable[[Row], bool]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "show",
        example="goldless show documents --limit 5\n"
        "goldless show labels --where value=negative --where 'confidence<0.6'\n"
        "goldless show dataset 2 --json | head -1\ngoldless show rejects --where reason=row.missing_text",
    )(show)
    command(app, "why", example="goldless why review-17")(why)
    command(app, "diff", example="goldless diff 1 2\ngoldless diff v1 latest --json")(diff)


def show(
    session: Session,
    what: Annotated[What, typer.Argument(help="What to list.")] = What.LABELS,
    version: Annotated[str, typer.Argument(help="For `dataset`: which version.")] = "latest",
    where: Annotated[
        list[str] | None,
        typer.Option("--where", "-w", help="Only rows for which column=value holds (or != < > ~, ~ for contains)."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="At most so many rows; 0 for all.")] = 20,
    task: Annotated[
        str | None, typer.Option("--task", help="For `labels`: whose; by default the latest task's.")
    ] = None,
) -> None:
    """List documents, labels, rejected rows, or the rows of a dataset version."""
    store, tests = session.store(), [condition(text) for text in where or []]
    columns, rows = _listing(store, what, version, task)
    found = itertools.islice(_matching(rows, tests), limit or None)
    count = session.out.rows(columns, found if session.out.json else map(_clipped, found))
    if limit and count == limit:
        session.out.say(f"the first {limit}; --limit 0 shows all")


def _listing(store: Store, what: What, version: str, task: str | None) -> tuple[tuple[str, ...], Iterator[Row]]:
    match what:
        case What.DOCUMENTS:
            return ("id", "text", "meta"), (plain(document) for batch in store.documents() for document in batch)
        case What.REJECTS:
            return ("source", "row", "reason", "excerpt"), (plain(row) for row in store.rejects())
        case What.LABELS:
            tables = store.labels(task or _latest_task(store))
            return ("document_id", "field", "value", "confidence", "basis", "flags"), (
                _decoded(row, "value") for table in tables for row in table.to_pylist()
            )
        case What.DATASET:
            return _version_rows(store, find_version(store, version))


def _version_rows(store: Store, version: DatasetVersion) -> tuple[tuple[str, ...], Iterator[Row]]:
    if version.kind == "preferences":
        columns: tuple[str, ...] = ("document_id", "chosen", "rejected", "confidence")
        pages, decoded = store.preference_rows(version.version), ("prompt", "details", "meta")
    else:
        columns = ("document_id", "output", "confidence", "weight", "text")
        pages, decoded = store.dataset_rows(version.version), ("output", "fields", "meta")
    return columns, (_decoded(row, *decoded) for table in pages for row in table.to_pylist())


def _latest_task(store: Store) -> str:
    tasks = store.tasks()
    if not tasks:
        raise InputError("the store has no labels yet", hint="`goldless curate` makes them")
    return max(tasks, key=lambda task: task.saved_at).id


def _decoded(row: Row, *names: str) -> Row:
    """JSON text -> values."""
    read = {name: orjson.loads(value) for name in names if isinstance(value := row.get(name), str)}
    return {**row, **read}


def _clipped(row: Row) -> Row:
    return {name: clip(value, TEXT_WIDTH) if isinstance(value, str) else value for name, value in row.items()}


def _matching(rows: Iterable[Row], tests: list[Test]) -> Iterator[Row]:
    return (row for row in rows if all(test(row) for test in tests))


COMPARED: Mapping[str, Callable[[float, float], bool]] = {"<": operator.lt, ">": operator.gt}
MATCHED: Mapping[str, Callable[[str, str], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "~": lambda cell, wanted: wanted.casefold() in cell.casefold(),
}


def condition(text: str) -> Test:
    """A test of one row from `column=value`; `a.b` reaches into nested columns.

    Raises: InputError for a text that is none.
    """
    if not (parts := re.fullmatch(r"([\w.]+)\s*(!=|=|<|>|~)\s*(.*)", text, re.DOTALL)):
        raise InputError(f"{text!r} is no condition", hint="write column=value, column!=value, <, > or ~ for contains")
    name, sign, wanted = parts.groups()

    def test(row: Row) -> bool:
        cell = _cell(row, name)
        if number is not None:
            return isinstance(cell, int | float) and COMPARED[sign](cell, number)
        return MATCHED[sign](cell if isinstance(cell, str) else orjson.dumps(cell).decode(), wanted)

    number = _number(text, wanted) if sign in COMPARED else None
    return test


def _cell(row: Row, name: str) -> Json:
    if name in row:
        return row[name]
    head, _, rest = name.partition(".")
    inner = row.get(head)
    if isinstance(inner, dict) and rest:
        return _cell(inner, rest)
    raise InputError(f"there is no column {name!r}", hint=f"there is {', '.join(row)}")


def _number(text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(f"{text!r}: {value!r} is no number", hint="< and > compare numbers") from None


def why(session: Session, document_id: Annotated[str, typer.Argument(help="The document's id.")]) -> None:
    """Tell one document's whole life: where it came from, why it was rejected, what was asked and
    answered, its labels, and the versions that hold it."""
    found = session.store().why(document_id)
    if session.out.json:
        session.out.emit(found)
    else:
        _tell(session.out, found)


def _tell(out: Output, found: JsonObject) -> None:
    """Objects as facts, lists of objects as tables."""
    for name, value in found.items():
        if isinstance(value, dict):
            out.facts(value, title=name)
        elif not isinstance(value, list):
            out.facts({name: value})
        else:
            rows = [row if isinstance(row, dict) else {name: row} for row in value]
            columns = list(dict.fromkeys(column for row in rows for column in row))
            if rows:
                out.rows(columns, rows, title=name)
            else:
                out.text(f"{name}: none")


def diff(
    session: Session,
    old: Annotated[str, typer.Argument(help="A version.")],
    new: Annotated[str, typer.Argument(help="The version to compare it with.")],
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Rows to list per kind; 0 for all.")] = 20,
) -> None:
    """Compare two dataset versions: rows added, removed and labelled differently."""
    store = session.store()
    first, second = find_version(store, old).version, find_version(store, new).version
    found = store.diff(first, second, limit=limit or None)
    if session.out.json:
        session.out.emit(plain(found))
    else:
        _show_diff(session.out, found)


def _show_diff(out: Output, found: DatasetDiff) -> None:
    counts: dict[str, object] = {
        "added": found.added_count,
        "removed": found.removed_count,
        "changed": found.changed_count,
        "unchanged": found.unchanged,
    }
    out.facts(counts, title=f"Version {found.old} -> {found.new}")
    for sign, ids in (("+", found.added), ("-", found.removed)):
        for name in ids:
            out.text(f"{sign} {name}")
    for change in found.changed:
        out.text(f"~ {change.document_id}: {_side(change.old)} -> {_side(change.new)}")


def _side(values: JsonObject) -> str:
    changed = " (other text)" if values.get("text_changed") else ""
    return f"{output.show(values.get('output'))} at {output.show(values.get('confidence'))}{changed}"
