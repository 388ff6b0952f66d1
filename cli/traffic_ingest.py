"""`goldless ingest --traffic`: the flywheel. Served queries become documents, what the tiers answered becomes answers.

Every answer is kept under its completion key, so that the next curation and the next certificate ask no model again
what it was asked in service; where the settings' task asks exactly that, the answer is the document's at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cli.session import Session
from curator.errors import SourceError
from curator.types import Completion, DecideRequest, Document, JsonObject, Reject

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cascade.traffic import TierAnswer, TrafficRecord
    from cascade.traffic_files import TrafficRow
    from curator.records import AnnotationRecord, CompletionRecord
    from curator.store import Run, ServedQuestion, Store
    from curator.task import Task

CHUNK = 1024
"""Rows that are taken in at a time."""


@dataclass(slots=True)
class Taken:
    """What became of the rows. `known` were taken in before; `documents` are texts that no document had; `linked`
    answers are those that the settings' task asks for word by word."""

    records: int = 0
    known: int = 0
    documents: int = 0
    without_content: int = 0
    answers: int = 0
    linked: int = 0
    rejected: dict[str, int] = field(default_factory=dict)


def ingest_traffic(session: Session, path: Path) -> None:
    """Take in a traffic file, or a folder of them, and say what became of it.

    Raises: SourceError where not one row could be read.
    """
    from cascade.traffic_files import read_traffic

    task = session.task() if session.settings.task else None
    store, taken = session.store(create=True), Taken()
    with store.run("ingest", {"traffic": str(path)}) as run:
        intake = _Intake(store, run, task, str(path), taken)
        for chunk in _chunks(read_traffic(path)):
            intake.take(chunk)
    session.out.facts(
        {
            "source": str(path),
            "records": taken.records,
            "known": taken.known,
            "without_content": taken.without_content,
            "documents": taken.documents,
            "answers": taken.answers,
            "answers_to_the_task": None if task is None else taken.linked,
            "rejected": taken.rejected,
        },
        title="Ingested traffic",
    )
    if not taken.records:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in taken.rejected.items()) or "there are no rows"
        raise SourceError(f"nothing in {path} could be ingested: {reasons}", hint="goldless show rejects")


def _chunks(rows: Iterable[TrafficRow]) -> Iterator[list[TrafficRow]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


@dataclass(frozen=True, slots=True)
class _Query:
    """A record, and the document that its text makes; none without content."""

    record: TrafficRecord
    document: Document | None


@dataclass(frozen=True, slots=True)
class _Intake:
    """Puts records into the store: documents first, then answers, then what was served, which says that a record
    is known. A run that is killed in between does the same again, and changes nothing by it."""

    store: Store
    run: Run
    task: Task[BaseModel] | None
    source: str
    taken: Taken

    def take(self, rows: Sequence[TrafficRow]) -> None:
        known = self.store.known_requests([row.record.id for row in rows if row.record])
        queries: dict[str, _Query] = {}
        rejects: list[Reject] = []
        for row in rows:
            found = _query(row)
            if isinstance(found, Reject):
                rejects.append(found)
            elif found.record.id in known or found.record.id in queries:
                self.taken.known += 1
            else:
                queries[found.record.id] = found
        self.taken.records += len(rows) - len(rejects)
        self._reject(rejects)
        self._keep(self._stored(list(queries.values())))

    def _reject(self, rejects: Sequence[Reject]) -> None:
        self.store.add_rejects(rejects, self.run.id)
        for reject in rejects:
            self.taken.rejected[reject.reason] = self.taken.rejected.get(reject.reason, 0) + 1

    def _stored(self, queries: Sequence[_Query]) -> list[_Query]:
        """The queries with the documents as they are in the store: a text that is there already, from whatever
        source, keeps its id and what hangs on it."""
        documents = {query.document.text: query.document for query in reversed(queries) if query.document}
        ids = self.store.with_text(list(documents))
        new = [document for text, document in reversed(documents.items()) if text not in ids]
        self.taken.documents += self.store.add_documents([new], source=self.source, run_id=self.run.id).added
        self.taken.without_content += sum(query.document is None for query in queries)
        return [_Query(query.record, _as_stored(query.document, documents, ids)) for query in queries]

    def _keep(self, queries: Sequence[_Query]) -> None:
        for query in queries:
            records = [_completion(answer) for answer in query.record.answers if answer.key]
            links = (
                [] if self.task is None or query.document is None else _links(self.task, query.record, query.document)
            )
            self.taken.answers += len(records)
            self.taken.linked += len(links)
            if records:
                self.run.append(*records, *links)
        self.run.flush()
        served = [row for query in queries for row in _served(query)]
        self.store.add_traffic(served, self.run.id)


def _query(row: TrafficRow) -> _Query | Reject:
    """What a row asks the store to keep. Texts are checked as those of any other source are."""
    from curator.sources.base import BadRow, Reading, Row
    from curator.sources.rows import RowMapper

    record = row.record
    if record is None:
        return Reject(row.file, row.row, row.reason, row.excerpt)
    if record.request is None:
        return _Query(record, None)
    request = record.request
    text = request.state if isinstance(request, DecideRequest) else request.messages[-1].content
    found = RowMapper.of(Reading()).document(Row(row.row, {"text": text}))
    if isinstance(found, BadRow):
        return Reject(row.file, row.row, found.reason, found.excerpt)
    tiers: JsonObject = {one.question: one.tier for one in record.served}
    return _Query(record, Document(found.id, text, {"tier": tiers, "served_at": record.time.isoformat()}))


def _as_stored(document: Document | None, documents: dict[str, Document], ids: dict[str, str]) -> Document | None:
    if document is None:
        return None
    first = documents[document.text]
    return Document(ids.get(document.text, first.id), first.text)


def _completion(answer: TierAnswer) -> CompletionRecord:
    from curator.records import CompletionRecord

    kind: Literal["generate", "decide"] = "generate" if isinstance(answer.answer, Completion) else "decide"
    return CompletionRecord(answer.key, answer.engine, kind, answer.answer)


def _links(task: Task[BaseModel], record: TrafficRecord, document: Document) -> list[AnnotationRecord]:
    """The document's uses of the answers that the task asks for: of any tier, under that tier's identity."""
    from curator.requests import PLAIN

    return [
        work.annotation(PLAIN.annotation_id(task, answer.engine), PLAIN.round, None, truncated=False)
        for answer in record.answers
        for work in PLAIN.work(task, answer.engine, [document])
        if work.key == answer.key
    ]


def _served(query: _Query) -> Iterator[ServedQuestion]:
    from curator.store import ServedQuestion

    record = query.record
    received = record.time.astimezone(UTC).replace(tzinfo=None).isoformat()
    for one in record.served:
        yield ServedQuestion(
            request_id=record.id,
            document_id=query.document.id if query.document else None,
            question=one.question,
            fingerprint=one.fingerprint,
            policy=record.policy,
            tier=one.tier,
            value=one.value,
            confidence=one.confidence,
            basis=one.basis,
            audit=one.audit,
            disagreed=one.disagreed,
            cost=record.cost,
            latency=record.latency,
            received_at=received,
        )
