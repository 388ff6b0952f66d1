"""Dataset versions: immutable training sets, and how two of them differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson
import pyarrow as pa

from curator.database import Connection, quoted
from curator.errors import InputError
from curator.store.base import TABLE_ROWS, Part, copy_out, json_object, read_parquet, to_json
from curator.store.records import Change, DatasetDiff, DatasetVersion
from curator.types import JsonObject

DATASET_INPUT = pa.schema(
    [
        ("document_id", pa.string()),
        ("output", pa.string()),
        ("confidence", pa.float64()),
        ("weight", pa.float64()),
        ("fields", pa.string()),
    ]
)
"""Columns that a new version is made from. `output` and `fields` are JSON text."""

DATASET_COLUMNS = ("document_id", "text", "meta", "output", "confidence", "weight", "fields")
"""Columns that a version is read with: the text and meta as they were when it was made."""

_HASHED = ("document_id", "content", "output", "confidence", "weight", "fields")
_VERSION = 'version, task_id, hash, "rows", policy, report, run_id, created_at::VARCHAR'


class DatasetPart(Part):
    """Making, reading and comparing versions."""

    def create_dataset(
        self, task_id: str, policy: JsonObject, rows: Iterable[pa.Table], report: JsonObject, run_id: str
    ) -> DatasetVersion:
        """Freeze rows (columns of `DATASET_INPUT`, in order) with their documents' texts as the next
        version. The same rows under the same task and policy are the version that there is already.

        Raises: InputError for a document that is not in the store; StoreError for wrong columns.
        """
        with self._scratch() as folder:
            given, frozen = folder / "given.parquet", folder / "frozen.parquet"
            count = self._spool(rows, DATASET_INPUT, given)
            with self._database.reading() as connection:
                _freeze(connection, given, frozen)
            made = DatasetVersion(0, task_id, _hash(task_id, policy, frozen, count), count, policy, report, run_id, "")
            with self._database.writing() as connection:
                found = read_versions(connection, f"hash = {quoted(made.hash)}")
                return found[0] if found else _store(connection, frozen, made)

    def datasets(self) -> list[DatasetVersion]:
        """All versions, oldest first."""
        with self._database.reading() as connection:
            return read_versions(connection, "true")

    def dataset(self, version: int) -> DatasetVersion:
        """One version. Raises: InputError if there is none with this number."""
        with self._database.reading() as connection:
            return read_version(connection, version)

    def dataset_rows(self, version: int, *, batch: int = TABLE_ROWS) -> Iterator[pa.Table]:
        """A version's rows in order, with the columns `DATASET_COLUMNS`.

        Raises: InputError if there is no such version.
        """
        columns = ", ".join(DATASET_COLUMNS)
        for low in range(0, self.dataset(version).rows, _PAGE):
            sql = (
                f"SELECT {columns} FROM dataset_rows WHERE version = {version} AND position >= {low}"
                f" AND position < {low + _PAGE} ORDER BY position"
            )
            yield from self._copied(sql, batch)

    def diff(self, old: int, new: int, *, limit: int | None = 1000) -> DatasetDiff:
        """How `new` differs from `old`; the lists of ids hold at most `limit` each, None for all.

        Raises: InputError if either version does not exist.
        """
        with self._database.reading() as connection:
            read_version(connection, old)
            read_version(connection, new)
            return _diff(connection, old, new, "ALL" if limit is None else str(limit))


_PAGE = 65_536


def _freeze(connection: Connection, given: Path, frozen: Path) -> None:
    """Add to each row its position, and its document's text, meta and content hash."""
    source = f"read_parquet({quoted(str(given))}, file_row_number = true)"
    absent = connection.execute(
        f"SELECT document_id FROM {source} WHERE document_id NOT IN (SELECT id FROM documents) LIMIT 1"
    ).fetchall()
    if absent:
        raise InputError(f"the document {absent[0][0]!r} is not in the store")
    copy_out(
        connection,
        "SELECT g.file_row_number AS position, g.document_id, d.text, d.meta, d.content::VARCHAR AS content, g.output,"
        f" g.confidence, g.weight, g.fields FROM {source} g JOIN documents d ON d.id = g.document_id ORDER BY 1",
        frozen,
    )


def _hash(task_id: str, policy: JsonObject, frozen: Path, rows: int) -> str:
    """Hash (hex, 128 bit) of the task, the policy, and the rows in order."""
    state = hashlib.blake2b(orjson.dumps([task_id, policy, rows], option=orjson.OPT_SORT_KEYS), digest_size=16)
    for table in read_parquet(frozen, TABLE_ROWS):
        columns = [table[name].to_pylist() for name in _HASHED]
        for row in zip(*columns, strict=True):
            state.update(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return state.hexdigest()


def read_versions(connection: Connection, condition: str) -> list[DatasetVersion]:
    """The versions that fulfil an SQL condition, oldest first."""
    rows = connection.execute(f"SELECT {_VERSION} FROM datasets WHERE {condition} ORDER BY version").fetchall()
    return [
        DatasetVersion(version, task, digest, count, json_object(policy), json_object(report), run, created)
        for version, task, digest, count, policy, report, run, created in rows
    ]


def read_version(connection: Connection, version: int) -> DatasetVersion:
    """One version. Raises: InputError."""
    found = read_versions(connection, "true")
    chosen = [item for item in found if item.version == version]
    if not chosen:
        there = ", ".join(str(item.version) for item in found[-10:]) or "none yet: run goldless curate"
        raise InputError(f"there is no dataset version {version}", hint=f"there are {there}")
    return chosen[0]


def _store(connection: Connection, frozen: Path, made: DatasetVersion) -> DatasetVersion:
    """Write a version under the next number; `made` has the number 0."""
    connection.execute(
        "INSERT INTO datasets SELECT coalesce((SELECT max(version) FROM datasets), 0) + 1, ?, ?, ?, ?, ?, ?,"
        " now()::TIMESTAMP",
        [made.task_id, made.hash, made.rows, to_json(made.policy), to_json(made.report), made.run_id],
    )
    created = read_versions(connection, f"hash = {quoted(made.hash)}")[0]
    connection.execute(
        "INSERT INTO dataset_rows SELECT ?, position, document_id, text, meta, content::UUID, output, confidence,"
        " weight, fields FROM read_parquet(?) ORDER BY position",
        [created.version, str(frozen)],
    )
    return created


_PAIRS = """
CREATE TEMP TABLE pairs AS
SELECT coalesce(n.position, o.position) AS position, coalesce(n.document_id, o.document_id) AS document_id,
    o.document_id IS NULL AS added, n.document_id IS NULL AS removed,
    o.document_id IS NOT NULL AND n.document_id IS NOT NULL
        AND (o.output <> n.output OR o.content <> n.content) AS changed,
    o.content <> n.content AS text_changed, o.output AS old_output, n.output AS new_output,
    o.confidence AS old_confidence, n.confidence AS new_confidence
FROM (SELECT * FROM dataset_rows WHERE version = {old}) o
FULL JOIN (SELECT * FROM dataset_rows WHERE version = {new}) n ON n.document_id = o.document_id
"""


def _diff(connection: Connection, old: int, new: int, limit: str) -> DatasetDiff:
    connection.execute(_PAIRS.format(old=old, new=new))
    added, removed, changed, total = connection.execute(
        "SELECT count(*) FILTER (added), count(*) FILTER (removed), count(*) FILTER (changed), count(*) FROM pairs"
    ).fetchall()[0]
    return DatasetDiff(
        old=old,
        new=new,
        added_count=added,
        removed_count=removed,
        changed_count=changed,
        unchanged=total - added - removed - changed,
        added=_ids(connection, "added", limit),
        removed=_ids(connection, "removed", limit),
        changed=_changes(connection, limit),
    )


def _ids(connection: Connection, kind: str, limit: str) -> tuple[str, ...]:
    rows = connection.execute(f"SELECT document_id FROM pairs WHERE {kind} ORDER BY position LIMIT {limit}").fetchall()
    return tuple(row[0] for row in rows)


def _changes(connection: Connection, limit: str) -> tuple[Change, ...]:
    rows = connection.execute(
        "SELECT document_id, old_output, old_confidence, new_output, new_confidence, text_changed FROM pairs"
        f" WHERE changed ORDER BY position LIMIT {limit}"
    ).fetchall()
    return tuple(
        Change(
            name,
            {"output": json_object(old_output), "confidence": old_confidence, "text_changed": text_changed},
            {"output": json_object(new_output), "confidence": new_confidence, "text_changed": text_changed},
        )
        for name, old_output, old_confidence, new_output, new_confidence, text_changed in rows
    )
