"""Reading completions, and annotations with the answers that they link to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from curator.database import quoted
from curator.store.base import TABLE_ROWS, Part, kept_condition

_JOINED = """
SELECT a.document_id, {view} AS view, a.round, {columns}, coalesce(a.error, c.error) AS error, a.truncated
FROM documents d
JOIN annotations a ON a.document_id = d.id
LEFT JOIN completions c ON c.key = a.key
WHERE a.task_id IN ({tasks}) AND {kind} AND {kept} AND d.ordinal >= {{low}} AND d.ordinal < {{high}}
ORDER BY d.ordinal, a.round, view
"""
_ABOUT = """
SELECT a.document_id, {view} AS view, a.round, {columns}, coalesce(a.error, c.error) AS error, a.truncated
FROM annotations a
LEFT JOIN completions c ON c.key = a.key
WHERE a.task_id IN ({tasks}) AND {kind} AND a.document_id IN (SELECT id FROM wanted)
ORDER BY a.document_id, a.round, view
"""

_TAKEN = "c.input_tokens, c.output_tokens, c.cost, c.latency"


class CompletionPart(Part):
    """What engines answered."""

    def known(self, keys: Sequence[str]) -> dict[str, str | None]:
        """Key -> error code or None, for the keys that the tables have a completion for."""
        if not keys:
            return {}
        with self._database.reading() as connection:
            connection.register("asked", pa.table({"key": pa.array(keys, pa.string())}))
            found = connection.execute(
                "SELECT replace(key::VARCHAR, '-', ''), error FROM completions"
                " WHERE key IN (SELECT key::UUID FROM asked)"
            ).fetchall()
        return dict(found)

    def decisions(
        self, task_id: str | Mapping[str, int], *, kept_by: str | None = None, batch: int = TABLE_ROWS
    ) -> Iterator[pa.Table]:
        """What closed fields were answered with: document_id, view, round, logprobs (list of lists,
        one per question, null where refused), label_mass, readout (lists), error, truncated.

        Ordered by document, then round and view. A failed row has no lists, only an error. `kept_by`:
        only documents without a rejecting verdict under these settings. Several ids may be given, each
        with the number that is added to its views.
        """
        columns = "c.logprobs, c.label_mass, c.readout"
        asked = {task_id: 0} if isinstance(task_id, str) else task_id
        return self._by_document(_joined(columns, asked, "a.view >= 0", kept_by), batch)

    def decisions_about(self, document_ids: Sequence[str], asked: Mapping[str, int]) -> pa.Table:
        """As `decisions`, of these ids, whether they are documents of the store or not."""
        return self._about(document_ids, "c.logprobs, c.label_mass, c.readout", asked, "a.view >= 0")

    def attempts(self, document_ids: Sequence[str], asked: str) -> pa.Table:
        """As `decisions_about` of one id, with what the answers took: input_tokens, output_tokens, cost, latency."""
        return self._about(document_ids, f"c.logprobs, c.label_mass, c.readout, {_TAKEN}", {asked: 0}, "a.view >= 0")

    def sampled_attempts(self, document_ids: Sequence[str], asked: str) -> pa.Table:
        """As `samples` of these ids, with what the answers took, as `attempts` has it."""
        columns = f"c.samples, c.finish_reasons, c.sample_logprobs, {_TAKEN}"
        return self._about(document_ids, columns, {asked: 0}, "a.view < 0")

    def _about(self, document_ids: Sequence[str], columns: str, asked: Mapping[str, int], kind: str) -> pa.Table:
        with self._database.reading() as connection:
            connection.register("wanted", pa.table({"id": pa.array(document_ids, pa.string())}))
            sql = _ABOUT.format(columns=columns, kind=kind, **_asked(asked))
            found: pa.Table = connection.sql(sql).to_arrow_table()
            return found

    def samples(self, task_id: str, *, kept_by: str | None = None, batch: int = TABLE_ROWS) -> Iterator[pa.Table]:
        """What open fields were answered with: document_id, view, round, samples, finish_reasons,
        sample_logprobs (lists, one entry per sample), error, truncated. Ordered like `decisions`."""
        columns = "c.samples, c.finish_reasons, c.sample_logprobs"
        return self._by_document(_joined(columns, {task_id: 0}, "a.view < 0", kept_by), batch)


def _joined(columns: str, asked: Mapping[str, int], kind: str, kept_by: str | None) -> str:
    """The query with only its bounds left to fill in."""
    parts = {**_asked(asked), "kept": kept_condition("d.id", kept_by)}
    return _JOINED.format(columns=columns, kind=kind, **{name: _again(part) for name, part in parts.items()})


def _asked(asked: Mapping[str, int]) -> dict[str, str]:
    """The ids to look for, and the number of a view: each id's views begin where it says."""
    names = {quoted(task_id): first for task_id, first in asked.items()}
    cases = " ".join(f"WHEN {name} THEN {first}" for name, first in names.items())
    return {"tasks": ", ".join(names), "view": f"a.view + CASE a.task_id {cases} END"}


def _again(sql: str) -> str:
    """SQL that is formatted once more."""
    return sql.replace("{", "{{").replace("}", "}}")
