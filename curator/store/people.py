"""What people ask the store: how far it is, and what happened to one document."""

from __future__ import annotations

import difflib

from curator.database import Connection
from curator.errors import InputError
from curator.journal import leftover
from curator.migrations import schema_version
from curator.store.base import json_object
from curator.store.records import EngineUse, Rejection, RunInfo, StoreStatus
from curator.store.runs import Holder, RunPart, current_holder
from curator.store.versions import read_versions
from curator.types import Json, JsonObject

_SHOWN_RUNS = 20

_RUNS = "id, command, status, pid, started_at::VARCHAR, finished_at::VARCHAR, error, config"
_ENGINES = """
SELECT engine, count(*), count(error), coalesce(sum(calls), 0)::BIGINT, coalesce(sum(input_tokens), 0)::BIGINT,
    coalesce(sum(output_tokens), 0)::BIGINT, coalesce(sum(cached_tokens), 0)::BIGINT, coalesce(sum(cost), 0),
    count(*) FILTER (cost IS NULL AND error IS NULL)
FROM completions GROUP BY engine ORDER BY engine
"""

# Heading -> what is known about one document; ? is its id.
_LIFE: dict[str, str] = {
    "rejects": 'SELECT source, "row", reason, excerpt, run_id FROM rejects WHERE document_id = ? ORDER BY "row"',
    "verdicts": "SELECT settings, stage, keep, reason, detail, run_id FROM verdicts WHERE document_id = ? ORDER BY ALL",
    "annotations": (
        "SELECT a.task_id, a.view, a.round, replace(a.key::VARCHAR, '-', '') AS key, a.truncated,"
        " coalesce(a.error, c.error) AS error, c.engine, c.kind,"
        # JSON has no infinity.
        " list_transform(c.logprobs, lambda one: list_transform(one, lambda x: nullif(x, '-inf'::DOUBLE))) AS logprobs,"
        " c.label_mass, c.readout, c.served_by, c.samples,"
        " c.finish_reasons, c.sample_logprobs, c.input_tokens, c.output_tokens, c.cost, c.latency, a.run_id"
        " FROM annotations a LEFT JOIN completions c ON c.key = a.key WHERE a.document_id = ?"
        " ORDER BY a.task_id, a.round, a.view"
    ),
    "labels": (
        "SELECT task_id, field, value::JSON AS value, confidence, basis, probabilities, effective_votes, flags, run_id"
        " FROM labels WHERE document_id = ? ORDER BY task_id, field"
    ),
    "audits": (
        "SELECT task_id, field, value::JSON AS value, auditor, audited_at::VARCHAR AS audited_at FROM audits"
        " WHERE document_id = ? ORDER BY audited_at, field"
    ),
    "traffic": (
        "SELECT request_id, question, tier, value, confidence, basis, audit, disagreed, policy,"
        " received_at::VARCHAR AS received_at, run_id FROM traffic WHERE document_id = ? ORDER BY received_at, question"
    ),
    "datasets": (
        "SELECT r.version, v.task_id, r.position, r.output::JSON AS output, r.confidence, r.weight FROM dataset_rows r"
        " JOIN datasets v USING (version) WHERE r.document_id = ? ORDER BY r.version, r.position"
    ),
    "preferences": (
        "SELECT r.version, v.task_id, r.position, r.chosen, r.rejected, r.confidence, r.details::JSON AS details"
        " FROM preference_rows r JOIN datasets v USING (version) WHERE r.document_id = ? ORDER BY r.version, r.position"
    ),
}


class PeoplePart(RunPart):
    """Status, and the life of a document."""

    def running(self) -> RunInfo | None:
        """The run that is on now, None if there is none."""
        holder = current_holder(self.lock_path)
        if holder is None:
            return None
        with self._database.reading() as connection:
            return _running(connection, holder)

    def runs(self, limit: int = _SHOWN_RUNS) -> list[RunInfo]:
        """The last runs, latest first."""
        alive = current_holder(self.lock_path)
        with self._database.reading() as connection:
            return _runs(connection, alive, limit)

    def status(self) -> StoreStatus:
        """Counts of all that is in the store, and the run that is on."""
        holder = current_holder(self.lock_path)
        with self._database.reading() as connection:
            return self._status(connection, holder)

    def _status(self, connection: Connection, holder: Holder | None) -> StoreStatus:
        engines = tuple(EngineUse(*row) for row in connection.execute(_ENGINES).fetchall())
        priced = any(engine.unpriced < engine.completions - engine.failed for engine in engines)
        return StoreStatus(
            path=str(self.path),
            schema_version=schema_version(connection),
            size_bytes=self.path.stat().st_size,
            pending_bytes=sum(path.stat().st_size for path in leftover(self.journal_folder) if path.exists()),
            documents=int(connection.execute("SELECT count(*) FROM documents").fetchall()[0][0]),
            rejects=_counts(connection, "reason", "rejects"),
            verdicts=_rejections(connection),
            completions=sum(engine.completions for engine in engines),
            failures=_counts(connection, "error", "completions WHERE error IS NOT NULL"),
            annotations=_counts(connection, "task_id", "annotations"),
            labels=_counts(connection, "task_id", "labels"),
            audits=_counts(connection, "task_id", "audits"),
            datasets=tuple(read_versions(connection, "true")),
            engines=engines,
            input_tokens=sum(engine.input_tokens for engine in engines),
            output_tokens=sum(engine.output_tokens for engine in engines),
            cost=sum(engine.cost for engine in engines) if priced else None,
            unpriced=sum(engine.unpriced for engine in engines),
            traffic=_counts(connection, "tier", "traffic"),
            running=_running(connection, holder) if holder else None,
            runs=tuple(_runs(connection, holder, _SHOWN_RUNS)),
        )

    def why(self, document_id: str) -> JsonObject:
        """All that is known about one document, across the tables, as JSON: `document` (None for an id
        that was only ever rejected), `rejects`, `verdicts`, `annotations`, `labels`, `audits`, `traffic`,
        `datasets`, `preferences`.

        Raises: InputError if nothing is known, naming ids that are close.
        """
        with self._database.reading() as connection:
            life: JsonObject = {"document": _document(connection, document_id)}
            for heading, sql in _LIFE.items():
                life[heading] = [_plain(row) for row in _dicts(connection, sql, document_id)]
            if not any(life.values()):
                raise InputError(f"no document has the id {document_id!r}", hint=_close(connection, document_id))
        return life


def _counts(connection: Connection, column: str, table: str) -> dict[str, int]:
    return dict(connection.execute(f"SELECT {column}, count(*) FROM {table} GROUP BY 1 ORDER BY 2 DESC, 1").fetchall())


def _rejections(connection: Connection) -> tuple[Rejection, ...]:
    sql = "SELECT settings, stage, reason, count(*) FROM verdicts WHERE NOT keep GROUP BY ALL ORDER BY 1, 2, 4 DESC, 3"
    return tuple(Rejection(*row) for row in connection.execute(sql).fetchall())


def _runs(connection: Connection, holder: Holder | None, limit: int) -> list[RunInfo]:
    """A run that the table calls running, and that has no lock, was killed."""
    rows = connection.execute(f"SELECT {_RUNS} FROM runs ORDER BY started_at DESC, id DESC LIMIT {limit}").fetchall()
    alive = holder["run_id"] if holder else ""
    found = []
    for name, command, status, pid, started, finished, error, config in rows:
        shown = "interrupted" if status == "running" and name != alive else status
        found.append(RunInfo(name, command, shown, pid, started, finished, error, json_object(config)))
    return found


def _running(connection: Connection, holder: Holder) -> RunInfo:
    runs = (run for run in _runs(connection, holder, _SHOWN_RUNS) if run.id == holder["run_id"])
    return next(runs, RunInfo(holder["run_id"], holder["command"], "running", holder["pid"], ""))


def _document(connection: Connection, document_id: str) -> JsonObject | None:
    sql = "SELECT id, text, meta::JSON AS meta, source, ordinal, size, run_id FROM documents WHERE id = ?"
    return next(iter(_dicts(connection, sql, document_id)), None)


def _dicts(connection: Connection, sql: str, document_id: str) -> list[JsonObject]:
    """Rows as JSON objects."""
    rows = connection.execute(f"SELECT to_json(found)::VARCHAR FROM ({sql}) found", [document_id]).fetchall()
    return [json_object(row[0]) for row in rows]


def _plain(row: JsonObject) -> JsonObject:
    """A row without what does not apply to it."""
    return {name: value for name, value in row.items() if not _absent(value)}


def _absent(value: Json) -> bool:
    return value is None or value == []


def _close(connection: Connection, document_id: str) -> str:
    """A hint that names ids like this one."""
    rows = connection.execute(
        "SELECT id FROM documents ORDER BY jaro_winkler_similarity(id, ?) DESC LIMIT 20", [document_id]
    ).fetchall()
    names = [row[0] for row in rows]
    close = difflib.get_close_matches(document_id, names, n=3, cutoff=0.5) or names[:3]
    return f"ids in the store look like {', '.join(map(repr, close))}" if close else "the store holds no documents"
