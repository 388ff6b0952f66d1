"""Dataset versions: immutable training sets, and how two of them differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pyarrow as pa

from curator.database import Connection, quoted
from curator.errors import InputError
from curator.store.base import TABLE_ROWS, Part, copy_out, json_object, read_parquet, to_json
from curator.store.layouts import LAYOUTS, Layout
from curator.store.records import Change, DatasetDiff, DatasetVersion, VersionKind
from curator.types import JsonObject

_VERSION = 'version, task_id, hash, "rows", policy, report, run_id, created_at::VARCHAR, kind'


class DatasetPart(Part):
    """Making, reading and comparing versions."""

    def create_dataset(
        self, task_id: str, policy: JsonObject, rows: Iterable[pa.Table], report: JsonObject, run_id: str
    ) -> DatasetVersion:
        """Freeze rows (columns of `DATASET_INPUT`, in order) with their documents' texts as the next
        version. The same rows under the same task and policy are the version that there is already.

        Raises: InputError for a document that is not in the store; StoreError for wrong columns.
        """
        made = DatasetVersion(0, task_id, "", 0, policy, report, run_id, "")
        return self._create(made, rows)

    def create_preferences(
        self, task_id: str, settings: JsonObject, rows: Iterable[pa.Table], report: JsonObject, run_id: str
    ) -> DatasetVersion:
        """The same for preferences: columns of `PREFERENCE_INPUT`, several rows per document if need be.

        Raises: as `create_dataset`.
        """
        made = DatasetVersion(0, task_id, "", 0, settings, report, run_id, "", "preferences")
        return self._create(made, rows)

    def _create(self, made: DatasetVersion, rows: Iterable[pa.Table]) -> DatasetVersion:
        layout = LAYOUTS[made.kind]
        with self._scratch() as folder:
            given, frozen = folder / "given.parquet", folder / "frozen.parquet"
            count = self._spool(rows, layout.given, given)
            with self._database.reading() as connection:
                _freeze(connection, layout, given, frozen)
            made = replace(made, rows=count, hash=_hash(replace(made, rows=count), frozen))
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
        """A version's labelled rows in order, with the columns `DATASET_COLUMNS`.

        Raises: InputError if there is no such version, or it holds something else.
        """
        return self._rows(version, "labels", batch)

    def preference_rows(self, version: int, *, batch: int = TABLE_ROWS) -> Iterator[pa.Table]:
        """A version's preference pairs in order: document_id, text, meta, and the columns of `PREFERENCE_INPUT`.

        Raises: as `dataset_rows`.
        """
        return self._rows(version, "preferences", batch)

    def version_documents(self, version: int) -> frozenset[str]:
        """The ids of the documents that a version of any kind holds. Raises: InputError if there is none such."""
        table = LAYOUTS[self.dataset(version).kind].table
        with self._database.reading() as connection:
            found = connection.execute(f"SELECT DISTINCT document_id FROM {table} WHERE version = {version}").fetchall()
        return frozenset(row[0] for row in found)

    def _rows(self, version: int, kind: VersionKind, batch: int) -> Iterator[pa.Table]:
        layout, columns = LAYOUTS[kind], ", ".join(LAYOUTS[kind].columns)
        for low in range(0, of_kind(self.dataset(version), kind).rows, _PAGE):
            sql = (
                f"SELECT {columns} FROM {layout.table} WHERE version = {version} AND position >= {low}"
                f" AND position < {low + _PAGE} ORDER BY position"
            )
            yield from self._copied(sql, batch)

    def diff(self, old: int, new: int, *, limit: int | None = 1000) -> DatasetDiff:
        """How `new` differs from `old`; the lists of ids hold at most `limit` each, None for all.

        The rows of a document that has several are compared in their order.
        Raises: InputError if either version does not exist, or they are of two kinds.
        """
        with self._database.reading() as connection:
            kind = read_version(connection, old).kind
            of_kind(read_version(connection, new), kind)
            return _diff(connection, old, new, LAYOUTS[kind], "ALL" if limit is None else str(limit))


_PAGE = 65_536


def of_kind(version: DatasetVersion, kind: VersionKind) -> DatasetVersion:
    """The version itself. Raises: InputError if it is of another kind."""
    if version.kind == kind:
        return version
    raise InputError(
        f"dataset version {version.version} holds {LAYOUTS[version.kind].noun}, not {LAYOUTS[kind].noun}",
        hint="choose another version; `goldless status` lists them with their kinds",
    )


def _freeze(connection: Connection, layout: Layout, given: Path, frozen: Path) -> None:
    """Add to each row its position, and its document's text, meta and content hash."""
    source = f"read_parquet({quoted(str(given))}, file_row_number = true)"
    absent = connection.execute(
        f"SELECT document_id FROM {source} WHERE document_id NOT IN (SELECT id FROM documents) LIMIT 1"
    ).fetchall()
    if absent:
        raise InputError(f"the document {absent[0][0]!r} is not in the store")
    copy_out(
        connection,
        "SELECT g.file_row_number AS position, g.document_id, d.text, d.meta, d.content::VARCHAR AS content,"
        f" {', '.join(f'g.{name}' for name in layout.own)} FROM {source} g JOIN documents d ON d.id = g.document_id"
        " ORDER BY 1",
        frozen,
    )


def _hash(made: DatasetVersion, frozen: Path) -> str:
    """Hash (hex, 128 bit) of the task, the policy, the kind, and the rows in order."""
    about: list[object] = [made.task_id, made.policy, made.rows]
    about += [made.kind] if made.kind != "labels" else []  # labels were hashed before there were kinds
    state = hashlib.blake2b(orjson.dumps(about, option=orjson.OPT_SORT_KEYS), digest_size=16)
    for table in read_parquet(frozen, TABLE_ROWS):
        columns = [table[name].to_pylist() for name in ("document_id", "content", *LAYOUTS[made.kind].own)]
        for row in zip(*columns, strict=True):
            state.update(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return state.hexdigest()


def read_versions(connection: Connection, condition: str) -> list[DatasetVersion]:
    """The versions that fulfil an SQL condition, oldest first."""
    rows = connection.execute(f"SELECT {_VERSION} FROM datasets WHERE {condition} ORDER BY version").fetchall()
    return [
        DatasetVersion(version, task, digest, count, json_object(policy), json_object(report), run, created, kind)
        for version, task, digest, count, policy, report, run, created, kind in rows
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
        " now()::TIMESTAMP, ?",
        [made.task_id, made.hash, made.rows, to_json(made.policy), to_json(made.report), made.run_id, made.kind],
    )
    created = read_versions(connection, f"hash = {quoted(made.hash)}")[0]
    layout = LAYOUTS[made.kind]
    connection.execute(
        f"INSERT INTO {layout.table} SELECT ?, position, document_id, text, meta, content::UUID,"
        f" {', '.join(layout.own)} FROM read_parquet(?) ORDER BY position",
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
FROM ({old}) o FULL JOIN ({new}) n ON n.document_id = o.document_id AND n.nth = o.nth
"""
_NUMBERED = """
SELECT position, document_id, content, confidence, {compared} AS output,
    row_number() OVER (PARTITION BY document_id ORDER BY position) AS nth
FROM {table} WHERE version = {version}
"""


def _diff(connection: Connection, old: int, new: int, layout: Layout, limit: str) -> DatasetDiff:
    sides = [_NUMBERED.format(compared=layout.compared, table=layout.table, version=version) for version in (old, new)]
    connection.execute(_PAIRS.format(old=sides[0], new=sides[1]))
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
