"""What a cascade served, and which documents it was about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa

from curator.database import quoted
from curator.store.base import Part, texts
from curator.store.records import ServedQuestion

_COLUMNS = pa.schema(
    [
        ("request_id", pa.string()),
        ("document_id", pa.string()),
        ("question", pa.string()),
        ("fingerprint", pa.string()),
        ("policy", pa.string()),
        ("tier", pa.string()),
        ("value", pa.string()),
        ("confidence", pa.float64()),
        ("basis", pa.string()),
        ("audit", pa.float64()),
        ("disagreed", pa.bool_()),
        ("cost", pa.float64()),
        ("latency", pa.float64()),
        ("received_at", pa.string()),
    ]
)


class TrafficPart(Part):
    """Served questions."""

    def add_traffic(self, rows: Sequence[ServedQuestion], run_id: str) -> None:
        """Keep what was served to requests that the store does not know yet."""
        with self._database.writing() as connection:
            connection.register("batch", pa.Table.from_pylist([asdict(row) for row in rows], _COLUMNS))
            connection.execute(
                f"INSERT INTO traffic SELECT * REPLACE (received_at::TIMESTAMP AS received_at), {quoted(run_id)}"
                " FROM batch WHERE request_id NOT IN (SELECT request_id FROM traffic)"
            )

    def known_requests(self, ids: Sequence[str]) -> set[str]:
        """Those of the request ids whose traffic is in the store."""
        return self._found(ids, "SELECT DISTINCT request_id FROM traffic WHERE request_id IN (SELECT value FROM asked)")

    def served_documents(self, ids: Sequence[str]) -> set[str]:
        """Those of the documents that a cascade was asked about."""
        return self._found(
            ids, "SELECT DISTINCT document_id FROM traffic WHERE document_id IN (SELECT value FROM asked)"
        )

    def with_text(self, wanted: Sequence[str]) -> dict[str, str]:
        """Text -> id of the first document that has it, for the texts that a document has."""
        with self._database.reading() as connection:
            connection.register("asked", pa.table({"value": texts(wanted)}))
            found = connection.execute(
                "SELECT text, arg_min(id, ordinal) FROM documents WHERE text IN (SELECT value FROM asked) GROUP BY text"
            ).fetchall()
        return dict(found)

    def _found(self, values: Sequence[str], sql: str) -> set[str]:
        with self._database.reading() as connection:
            connection.register("asked", pa.table({"value": texts(values)}))
            return {row[0] for row in connection.execute(sql).fetchall()}
