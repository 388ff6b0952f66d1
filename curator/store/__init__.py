"""The store: all state of a curation in one DuckDB file. The only SQL there is.

No connection is held between calls. A run appends to a journal and a thread moves the journal into
the tables; everything else opens the file for one short piece of work.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from curator.database import Database, explained
from curator.errors import StoreError
from curator.migrations import MIGRATIONS, check_version, migrate
from curator.records import AnnotationRecord, CompletionRecord
from curator.store.base import scratch_folder
from curator.store.documents import DUPLICATE, DocumentPart
from curator.store.draws import DrawnDocument, DrawPart
from curator.store.labels import LABELS, LabelPart
from curator.store.layouts import DATASET_COLUMNS, DATASET_INPUT, PREFERENCE_INPUT
from curator.store.models import ModelPart
from curator.store.people import PeoplePart
from curator.store.records import (
    Audit,
    Change,
    DatasetDiff,
    DatasetVersion,
    EngineUse,
    IngestCounts,
    ModelKind,
    ModelRecord,
    Rejection,
    RunInfo,
    ServedQuestion,
    StoreStatus,
    TaskInfo,
    VersionKind,
)
from curator.store.runs import Run
from curator.store.served import TrafficPart
from curator.store.versions import DatasetPart, of_kind
from curator.types import Reject

__all__ = [
    "DATASET_COLUMNS",
    "DATASET_INPUT",
    "DUPLICATE",
    "LABELS",
    "PREFERENCE_INPUT",
    "AnnotationRecord",
    "Audit",
    "Change",
    "CompletionRecord",
    "DatasetDiff",
    "DatasetVersion",
    "DrawnDocument",
    "EngineUse",
    "IngestCounts",
    "ModelKind",
    "ModelRecord",
    "Reject",
    "Rejection",
    "Run",
    "RunInfo",
    "ServedQuestion",
    "Store",
    "StoreStatus",
    "TaskInfo",
    "VersionKind",
    "of_kind",
]


class Store(DocumentPart, LabelPart, DatasetPart, ModelPart, TrafficPart, DrawPart, PeoplePart):
    """A store at `path`, made if it is absent and `create`; an older one is migrated.

    `wait` is how many seconds a call waits for other processes before it raises StoreLockedError.
    Raises: StoreVersionError if a newer goldless wrote it; StoreCorruptError; StoreError.
    """

    def __init__(self, path: str | Path, *, wait: float = 10.0, create: bool = True) -> None:
        self._database = Database(Path(path).absolute(), wait)
        if not self.path.exists():
            if not create:
                raise StoreError(f"there is no store at {self.path}", hint="make one with goldless ingest or curate")
            _create(self.path)
        with self._database.reading() as connection:
            current = check_version(connection, self.path) == len(MIGRATIONS)
        if not current:
            with self._database.writing() as connection:
                migrate(connection, self.path)


def _create(path: Path) -> None:
    """Make an empty store. The file appears whole or not at all; where two processes make it at the
    same time, one of the two counts."""
    with explained(path):
        folder = scratch_folder(path)
        try:
            fresh = Database(folder / path.name, 0.0)
            with fresh.writing() as connection:
                migrate(connection, path)
            with suppress(FileExistsError):
                os.link(fresh.path, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
