"""Labels -> an immutable dataset version -> typed rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic

import numpy as np
import orjson
import pyarrow as pa

from curator.errors import InputError, TaskError
from curator.selection import SelectionPolicy, select
from curator.store import DatasetVersion, Run, Store
from curator.task import Output, Task
from curator.telemetry import stage_span
from curator.types import Document, Json, JsonObject, Verdict

SELECTION = "selection"


@dataclass(frozen=True, slots=True)
class Row(Generic[Output]):
    """One row of a training set: the document, the typed labels, and how far to trust them.

    `confidence` is the least of the fields', NaN where nothing is known of it; `weight` is what training multiplies the
    loss with; `fields` holds each field's value, confidence, basis and flags.
    """

    document: Document
    output: Output
    confidence: float
    weight: float
    fields: JsonObject = field(default_factory=dict)


@dataclass(slots=True)
class _Candidates:
    """What selection looks at, for all labelled documents."""

    ids: list[str] = field(default_factory=list)
    classes: list[str | None] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)


def choose(
    task: Task[Output], store: Store, run: Run, policy: SelectionPolicy, balance_by: str | None, report: JsonObject
) -> tuple[DatasetVersion, JsonObject]:
    """Select the rows to train on and freeze them as a dataset version.

    Why a row was left out becomes its verdict. Raises: TaskError for a `balance_by` that is no voted
    field; InputError if nothing is left.
    """
    with stage_span("select"):
        by = _balance_field(task, balance_by)
        found = _candidates(task, store, by)
        chosen = select(found.ids, found.classes, np.asarray(found.confidence), policy)
        settings = f"{SELECTION}:{task.id}"
        rejected = (
            (name, SELECTION, Verdict(False, reason))
            for name, reason in zip(found.ids, chosen.reasons, strict=True)
            if reason
        )
        store.add_verdicts(settings, rejected, run.id, replace=True)
        if not chosen.keep.any():
            raise InputError(
                f"none of the {len(found.ids)} labelled documents passes the selection",
                hint="lower min_confidence, or see `goldless status` for what failed",
            )
        kept = {name for name, keep in zip(found.ids, chosen.keep, strict=True) if keep}
        summary: JsonObject = {**chosen.report(), **_class_counts(found, kept)}
        frozen: JsonObject = {"selection": orjson.loads(orjson.dumps(policy)), "balance_by": by}
        full: JsonObject = {**report, "selection": summary}
        version = store.create_dataset(task.id, frozen, _rows(task, store, kept), full, run.id)
    return version, summary


def read_rows(store: Store, task: Task[Output], version: int) -> Iterator[Row[Output]]:
    """The rows of a version as `task`'s type, page by page."""
    for table in store.dataset_rows(version):
        for row in table.to_pylist():
            output = task.output.model_validate_json(row["output"])
            document = Document(row["document_id"], row["text"], orjson.loads(row["meta"] or "{}"))
            known = math.nan if row["confidence"] is None else row["confidence"]
            yield Row(document, output, known, row["weight"], orjson.loads(row["fields"]))


def wide(store: Store, task_id: str) -> Iterator[tuple[str, dict[str, JsonObject]]]:
    """(document id, field -> label row) per labelled document, in the store's order."""
    current: str | None = None
    fields: dict[str, JsonObject] = {}
    for table in store.labels(task_id):
        for row in table.to_pylist():
            if row["document_id"] != current:
                if current is not None:
                    yield current, fields
                current, fields = row["document_id"], {}
            fields[row["field"]] = row
    if current is not None:
        yield current, fields


def _balance_field(task: Task[Output], wanted: str | None) -> str:
    names = [item.name for item in (*task.closed, *task.voted)]
    if wanted is not None and wanted not in names:
        raise TaskError(f"balance_by names {wanted!r}, which is no field that is labelled", hint=f"one of {names}")
    return wanted or names[0]


def _candidates(task: Task[Output], store: Store, by: str) -> _Candidates:
    voted = [item.name for item in (*task.closed, *task.voted)]
    found = _Candidates()
    for name, fields in wide(store, task.id):
        complete = by in fields and task.build(_values(fields)) is not None
        found.ids.append(name)
        found.classes.append(_shown_class(fields[by]["value"]) if complete else None)
        found.confidence.append(_least(fields, voted))
    return found


def _shown_class(value: Json) -> str | None:
    """A class as people write it: a string without the quotes of its JSON, anything else as JSON."""
    if value is None:
        return None
    plain = orjson.loads(str(value))
    return plain if isinstance(plain, str) else str(value)


def _least(fields: Mapping[str, JsonObject], voted: list[str]) -> float:
    scores = [fields[name]["confidence"] for name in voted if name in fields]
    numbers = [float(score) for score in scores if isinstance(score, int | float)]
    return min(numbers) if len(numbers) == len(voted) else float("nan")


def _values(fields: Mapping[str, JsonObject]) -> dict[str, Json]:
    return {name: orjson.loads(str(row["value"])) for name, row in fields.items() if row["value"] is not None}


def _class_counts(found: _Candidates, kept: set[str]) -> JsonObject:
    counts: dict[str, int] = {}
    for name, label in zip(found.ids, found.classes, strict=True):
        if name in kept and label is not None:
            counts[label] = counts.get(label, 0) + 1
    return {"classes": dict(sorted(counts.items()))}


def _rows(task: Task[Output], store: Store, kept: set[str]) -> Iterator[pa.Table]:
    """Tables of dataset rows: document_id, output, confidence, weight, fields (both JSON text)."""
    voted = [item.name for item in (*task.closed, *task.voted)]
    page: list[JsonObject] = []
    for name, fields in wide(store, task.id):
        if name not in kept:
            continue
        output = task.build(_values(fields))
        if output is None:
            continue
        confidence = _least(fields, voted)
        page.append(
            {
                "document_id": name,
                "output": output.model_dump_json(),
                "confidence": confidence,
                "weight": confidence,
                "fields": orjson.dumps(_shown(fields)).decode(),
            }
        )
        if len(page) >= 8192:
            yield pa.Table.from_pylist(page)
            page = []
    if page:
        yield pa.Table.from_pylist(page)


def _shown(fields: Mapping[str, JsonObject]) -> JsonObject:
    kept = ("confidence", "basis", "flags", "probabilities", "effective_votes")
    return {name: {key: row[key] for key in kept} for name, row in fields.items()}
