"""The tables that versions are kept in: one per kind, with the same columns about the document."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from curator.store.records import VersionKind

DATASET_INPUT = pa.schema(
    [
        ("document_id", pa.string()),
        ("output", pa.string()),
        ("confidence", pa.float64()),
        ("weight", pa.float64()),
        ("fields", pa.string()),
    ]
)
"""Columns that a version of labels is made from. `output` and `fields` are JSON text."""

PREFERENCE_INPUT = pa.schema(
    [
        ("document_id", pa.string()),
        ("prompt", pa.string()),
        ("chosen", pa.string()),
        ("rejected", pa.string()),
        ("confidence", pa.float64()),
        ("details", pa.string()),
    ]
)
"""Columns that a version of preferences is made from. `prompt` and `details` are JSON text."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A kind of versions: its table, the columns it is made from, and the SQL for what two versions are compared by
    (JSON text); `noun` is what its rows are called."""

    kind: VersionKind
    table: str
    given: pa.Schema
    compared: str
    noun: str

    @property
    def own(self) -> tuple[str, ...]:
        """The columns that say something about the document."""
        return tuple(name for name in self.given.names if name != "document_id")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that a version is read with: the text and meta as they were when it was made."""
        return ("document_id", "text", "meta", *self.own)


LAYOUTS: Mapping[VersionKind, Layout] = {
    "labels": Layout("labels", "dataset_rows", DATASET_INPUT, "output", "labelled rows"),
    "preferences": Layout(
        "preferences",
        "preference_rows",
        PREFERENCE_INPUT,
        "json_object('prompt', prompt::JSON, 'chosen', chosen, 'rejected', rejected)::VARCHAR",
        "preference pairs",
    ),
}

DATASET_COLUMNS = LAYOUTS["labels"].columns
"""Columns that a version of labels is read with."""
