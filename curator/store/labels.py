"""Tasks, labels and audits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from curator.database import quoted
from curator.store.base import TABLE_ROWS, Part, from_json, json_object, texts, to_json
from curator.store.records import Audit, TaskInfo
from curator.types import JsonObject

LABELS = pa.schema(
    [
        ("document_id", pa.string()),
        ("field", pa.string()),
        ("value", pa.string()),
        ("confidence", pa.float64()),
        ("basis", pa.string()),
        ("probabilities", pa.list_(pa.float64())),
        ("effective_votes", pa.float64()),
        ("flags", pa.list_(pa.string())),
    ]
)
"""Columns of a table of labels. `value` is JSON text, null where there is no answer."""


class LabelPart(Part):
    """What the annotations came to, and what people say."""

    def save_task(self, task_id: str, spec: JsonObject) -> None:
        """Keep what a task id stands for."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM tasks WHERE id = ?", [task_id])
            connection.execute("INSERT INTO tasks VALUES (?, ?, now()::TIMESTAMP)", [task_id, to_json(spec)])

    def task(self, task_id: str) -> JsonObject | None:
        """A task's spec, None if it was never saved."""
        return next((task.spec for task in self.tasks() if task.id == task_id), None)

    def tasks(self) -> list[TaskInfo]:
        """All tasks, the one saved last first."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT id, spec, saved_at::VARCHAR FROM tasks ORDER BY saved_at DESC").fetchall()
        return [TaskInfo(name, json_object(spec), saved) for name, spec, saved in rows]

    def write_labels(self, task_id: str, run_id: str, tables: Iterable[pa.Table]) -> int:
        """Replace a task's labels by these, all at once. Tables have the columns of `LABELS`; they may
        be made while the store is read. Returns the rows.

        Raises: StoreError if a column is missing or has another type.
        """
        with self._scratch() as folder:
            file = folder / "labels.parquet"
            rows = self._spool(tables, LABELS, file)
            with self._database.writing() as connection:
                connection.execute("DELETE FROM labels WHERE task_id = ?", [task_id])
                connection.execute(
                    f"INSERT INTO labels SELECT {quoted(task_id)}, *, {quoted(run_id)} FROM read_parquet(?)",
                    [str(file)],
                )
        return rows

    def labels(self, task_id: str, *, batch: int = TABLE_ROWS) -> Iterator[pa.Table]:
        """A task's labels with the columns of `LABELS`, ordered by document, then field."""
        columns = ", ".join(f"l.{name}" for name in LABELS.names)
        task = quoted(task_id).replace("{", "{{").replace("}", "}}")
        return self._by_document(
            f"SELECT {columns} FROM documents d JOIN labels l ON l.document_id = d.id WHERE l.task_id = {task}"
            " AND d.ordinal >= {low} AND d.ordinal < {high} ORDER BY d.ordinal, l.field",
            batch,
        )

    def add_audits(self, task_id: str, rows: Iterable[Audit]) -> int:
        """Keep people's answers; the same auditor's later answer replaces the earlier one. Returns how
        many rows."""
        latest = {(row.document_id, row.field, row.auditor): to_json(row.value) for row in rows}
        table = pa.table(
            {
                "document_id": texts([name for name, _, _ in latest]),
                "field": texts([field for _, field, _ in latest]),
                "value": texts(list(latest.values())),
                "auditor": texts([auditor for _, _, auditor in latest]),
            }
        )
        with self._database.writing() as connection:
            connection.register("batch", table)
            connection.execute(
                f"DELETE FROM audits WHERE task_id = {quoted(task_id)}"
                " AND (document_id, field, auditor) IN (SELECT document_id, field, auditor FROM batch)"
            )
            connection.execute(
                f"INSERT INTO audits SELECT {quoted(task_id)}, b.document_id, b.field, b.value, b.auditor, d.content,"
                " now()::TIMESTAMP FROM batch b LEFT JOIN documents d ON d.id = b.document_id"
            )
        return len(latest)

    def audits(self, task_id: str) -> list[Audit]:
        """A task's audits, oldest first, without those of a text that has changed since."""
        sql = (
            "SELECT a.document_id, a.field, a.value, a.auditor FROM audits a LEFT JOIN documents d"
            " ON d.id = a.document_id WHERE a.task_id = ? AND a.content IS NOT DISTINCT FROM d.content"
            " ORDER BY a.audited_at, a.document_id, a.field, a.auditor"
        )
        with self._database.reading() as connection:
            rows = connection.execute(sql, [task_id]).fetchall()
        return [Audit(name, field, from_json(value), auditor) for name, field, value, auditor in rows]
