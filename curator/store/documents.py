"""Documents, the rows that could not become one, and the verdicts on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import pyarrow as pa

from curator.database import Connection, quoted
from curator.store.base import Part, json_object, kept_condition, texts, to_json
from curator.store.records import IngestCounts
from curator.store.seen import Seen
from curator.types import Document, Reject, Verdict

CHUNK_ROWS = 32_768
CHUNK_BYTES = 32 * 1024 * 1024
"""Documents are written and read this many, or this many bytes of text, at a time."""

Row = TypeVar("Row")

DUPLICATE = "document.duplicate_id"

_CONTENT = "md5(concat(text, chr(0), meta))::UUID"
_MERGE = """
MERGE INTO documents USING incoming ON documents.id = incoming.id
WHEN MATCHED AND documents.content <> incoming.content THEN UPDATE SET
    text = incoming.text, meta = incoming.meta, content = incoming.content, size = incoming.size,
    source = incoming.source, run_id = incoming.run_id
WHEN NOT MATCHED THEN INSERT (ordinal, id, text, meta, content, size, source, run_id) VALUES
    (incoming.ordinal, incoming.id, incoming.text, incoming.meta, incoming.content, incoming.size,
     incoming.source, incoming.run_id)
RETURNING merge_action, id
"""


class _Ingest:
    """One pass over a source: what was seen, and what became of it."""

    def __init__(self, source: str, run_id: str) -> None:
        self.source = source
        self.run_id = run_id
        self.position = 0
        self.seen = Seen()
        self.added = self.changed = self.duplicate = 0

    def split(self, documents: Sequence[Document]) -> tuple[list[tuple[int, Document]], list[tuple[int, Document]]]:
        """(position, document) of those that are new to this pass, and of the others."""
        repeated = self.seen.add([document.id for document in documents])
        numbered = list(enumerate(documents, self.position + 1))
        self.position += len(documents)
        fresh = [pair for pair, again in zip(numbered, repeated, strict=True) if not again]
        return fresh, [pair for pair, again in zip(numbered, repeated, strict=True) if again]

    def result(self) -> IngestCounts:
        unchanged = self.position - self.added - self.changed - self.duplicate
        return IngestCounts(self.added, unchanged, self.changed, self.duplicate)


class DocumentPart(Part):
    """Reading and writing documents, rejects and verdicts."""

    def add_documents(self, batches: Iterable[Sequence[Document]], *, source: str, run_id: str) -> IngestCounts:
        """Add documents. One whose id is known replaces the old text and meta if they differ; what
        hung on the old text (annotations, labels, verdicts) is dropped, its completions stay. Of the
        documents with one id in the input the first counts, the others become rejects.

        Raises: StoreError and its kin; the chunks written before stay.
        """
        ingest = _Ingest(source, run_id)
        for chunk in _chunks(batches):
            fresh, again = ingest.split(chunk)
            rejects = [Reject(source, position, DUPLICATE, document.id) for position, document in again]
            with self._database.writing() as connection:
                if ingest.position == len(chunk):
                    _forget_rejects(connection, [source], run_id)
                _merge(connection, ingest, fresh)
                _insert_rejects(connection, rejects, run_id)
            ingest.duplicate += len(again)
        return ingest.result()

    def add_rejects(self, rows: Iterable[Reject], run_id: str) -> int:
        """Keep rows that could not become documents; those of earlier runs over the same sources are
        replaced. Returns how many."""
        count = 0
        for chunk in _sliced(rows, CHUNK_ROWS):
            with self._database.writing() as connection:
                _forget_rejects(connection, {row.source for row in chunk}, run_id)
                _insert_rejects(connection, chunk, run_id)
            count += len(chunk)
        return count

    def rejects(self, *, limit: int | None = None) -> list[Reject]:
        """Rows that could not become a document, by source and row."""
        sql = f"SELECT source, row, reason, excerpt FROM rejects ORDER BY source, row LIMIT {limit or 'ALL'}"
        with self._database.reading() as connection:
            return [Reject(*found) for found in connection.execute(sql).fetchall()]

    def count(self, kept_by: str | None = None) -> int:
        """How many documents there are, or are left after the verdicts under `kept_by`."""
        kept = kept_condition("documents.id", kept_by)
        with self._database.reading() as connection:
            found = connection.execute(f"SELECT count(*) FROM documents WHERE {kept}").fetchall()
        return int(found[0][0])

    def documents(
        self, *, kept_by: str | None = None, batch: int = 2048, limit: int | None = None
    ) -> Iterator[list[Document]]:
        """Documents in the order of their ingest, `batch` at a time. `kept_by`: only those without a
        rejecting verdict under these settings."""
        left = limit
        for page in self._pages(kept_by):
            for start in range(0, len(page), batch):
                part = page[start : start + batch] if left is None else page[start : start + min(batch, left)]
                if part:
                    yield part
                if left is not None:
                    left -= len(part)
                    if left <= 0:
                        return

    def document(self, document_id: str) -> Document | None:
        """One document, or None."""
        sql = "SELECT id, text, meta FROM documents WHERE id = ?"
        with self._database.reading() as connection:
            found = connection.execute(sql, [document_id]).fetchall()
        return Document(found[0][0], found[0][1], json_object(found[0][2])) if found else None

    def texts(self, ids: Sequence[str]) -> dict[str, str]:
        """Id -> text of those of the documents that exist."""
        found: dict[str, str] = {}
        for start in range(0, len(ids), CHUNK_ROWS):
            with self._database.reading() as connection:
                connection.register("wanted", pa.table({"id": texts(ids[start : start + CHUNK_ROWS])}))
                rows = connection.execute("SELECT id, text FROM documents SEMI JOIN wanted USING (id)").fetchall()
            found |= dict(rows)
        return found

    def _pages(self, kept_by: str | None) -> Iterator[list[Document]]:
        low, kept = 0, kept_condition("documents.id", kept_by)
        while True:
            with self._database.reading() as connection:
                last = connection.execute("SELECT max(ordinal) FROM documents").fetchall()[0][0]
                if last is None or last < low:
                    return
                high = _page_end(connection, low)
                rows = connection.execute(
                    f"SELECT id, text, meta FROM documents WHERE ordinal >= {low} AND ordinal < {high}"
                    f" AND {kept} ORDER BY ordinal"
                ).fetchall()
            yield [Document(name, text, json_object(meta) if meta != "{}" else {}) for name, text, meta in rows]
            low = high

    def judged(self, settings: str) -> int:
        """How many documents have a verdict under these settings."""
        sql = "SELECT count(DISTINCT document_id) FROM verdicts WHERE settings = ?"
        with self._database.reading() as connection:
            return int(connection.execute(sql, [settings]).fetchall()[0][0])

    def rejections(self, settings: str) -> dict[str, int]:
        """Reason -> how many documents it rejected under these settings, most frequent first."""
        sql = (
            "SELECT reason, count(*) FROM verdicts WHERE settings = ? AND NOT keep AND document_id IN"
            " (SELECT id FROM documents) GROUP BY reason ORDER BY count(*) DESC, reason"
        )
        with self._database.reading() as connection:
            return dict(connection.execute(sql, [settings]).fetchall())

    def add_verdicts(
        self, settings: str, rows: Iterable[tuple[str, str, Verdict]], run_id: str, *, replace: bool = False
    ) -> int:
        """Keep (document id, stage, verdict) rows under a hash of the settings that led to them. A
        later verdict of the same stage on the same document replaces the earlier one; `replace` drops
        all that the settings had before. Returns how many rows."""
        count = 0
        if replace:
            with self._database.writing() as connection:
                connection.execute("DELETE FROM verdicts WHERE settings = ?", [settings])
        for chunk in _sliced(rows, CHUNK_ROWS):
            with self._database.writing() as connection:
                _insert_verdicts(connection, settings, chunk, run_id)
            count += len(chunk)
        return count


def _page_end(connection: Connection, low: int) -> int:
    """The ordinal before which the page that begins at `low` ends: by rows and by bytes."""
    found = connection.execute(
        f"SELECT min(ordinal) FROM (SELECT ordinal, sum(size) OVER (ORDER BY ordinal) - size AS before FROM documents"
        f" WHERE ordinal >= {low} AND ordinal < {low + CHUNK_ROWS}) WHERE before >= {CHUNK_BYTES}"
    ).fetchall()
    return low + CHUNK_ROWS if found[0][0] is None else int(found[0][0])


def _chunks(batches: Iterable[Sequence[Document]]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    held = 0
    for batch in batches:
        for document in batch:
            chunk.append(document)
            held += len(document.text)
            if len(chunk) >= CHUNK_ROWS or held >= CHUNK_BYTES:
                yield chunk
                chunk, held = [], 0
    if chunk:
        yield chunk


def _merge(connection: Connection, ingest: _Ingest, fresh: Sequence[tuple[int, Document]]) -> None:
    table = pa.table(
        {
            "position": pa.array([position for position, _ in fresh], pa.int64()),
            "id": texts([document.id for _, document in fresh]),
            "text": texts([document.text for _, document in fresh]),
            "meta": texts([to_json(dict(document.meta)) if document.meta else "{}" for _, document in fresh]),
        }
    )
    connection.register("batch", table)
    last = connection.execute("SELECT coalesce(max(ordinal), -1) FROM documents").fetchall()[0][0]
    offset = last - (fresh[0][0] - 1 if fresh else 0)
    connection.execute(
        f"CREATE TEMP TABLE incoming AS SELECT position + {offset} AS ordinal, id, text, meta, {_CONTENT} AS content,"
        f" strlen(text) AS size, {quoted(ingest.source)} AS source, {quoted(ingest.run_id)} AS run_id FROM batch"
    )
    actions = connection.execute(_MERGE).fetchall()
    changed = [name for action, name in actions if action == "UPDATE"]
    ingest.changed += len(changed)
    ingest.added += len(actions) - len(changed)
    _forget(connection, changed)


def _forget(connection: Connection, changed: Sequence[str]) -> None:
    """Drop what was concluded from texts that are no more."""
    if not changed:
        return
    connection.register("changed", pa.table({"id": texts(changed)}))
    for table in ("annotations", "labels", "verdicts"):
        connection.execute(f"DELETE FROM {table} WHERE document_id IN (SELECT id FROM changed)")


def _forget_rejects(connection: Connection, sources: Iterable[str], run_id: str) -> None:
    connection.execute(
        "DELETE FROM rejects WHERE source IN (SELECT unnest(?)) AND run_id <> ?", [list(sources), run_id]
    )


def _insert_rejects(connection: Connection, rows: Sequence[Reject], run_id: str) -> None:
    if not rows:
        return
    table = pa.table(
        {
            "source": texts([row.source for row in rows]),
            "row": pa.array([row.row for row in rows], pa.int64()),
            "reason": texts([row.reason for row in rows]),
            "excerpt": texts([row.excerpt for row in rows]),
        }
    )
    connection.register("batch_rejects", table)
    connection.execute(
        f'INSERT INTO rejects SELECT source, "row", reason, excerpt,'
        f" CASE WHEN reason = {quoted(DUPLICATE)} THEN excerpt END, {quoted(run_id)} FROM batch_rejects"
    )


def _insert_verdicts(
    connection: Connection, settings: str, rows: Sequence[tuple[str, str, Verdict]], run_id: str
) -> None:
    latest = {(document, stage): verdict for document, stage, verdict in rows}
    table = pa.table(
        {
            "document_id": texts([document for document, _ in latest]),
            "stage": texts([stage for _, stage in latest]),
            "keep": pa.array([verdict.keep for verdict in latest.values()], pa.bool_()),
            "reason": texts([verdict.reason for verdict in latest.values()]),
            "detail": texts([verdict.detail for verdict in latest.values()]),
        }
    )
    connection.register("batch", table)
    connection.execute(
        f"DELETE FROM verdicts WHERE settings = {quoted(settings)}"
        " AND (document_id, stage) IN (SELECT document_id, stage FROM batch)"
    )
    connection.execute(f"INSERT INTO verdicts SELECT {quoted(settings)}, *, {quoted(run_id)} FROM batch")


def _sliced(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, size)):
        yield chunk
