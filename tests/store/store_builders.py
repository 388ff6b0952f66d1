"""Records for the tests of the store."""

from __future__ import annotations

import hashlib

import pyarrow as pa

from curator.engines.base import EngineIdentity
from curator.records import AnnotationRecord, CompletionRecord
from curator.store import DATASET_INPUT, LABELS, PREFERENCE_INPUT
from curator.types import Completion, Decision, Decisions, Document, Sample, Usage

ENGINE = EngineIdentity("http", "tiny", "http://127.0.0.1:1/v1")


def key_of(name: object) -> str:
    return hashlib.blake2b(str(name).encode(), digest_size=16).hexdigest()


def decided(name: object, *logprobs: float, cost: float | None = 0.25) -> CompletionRecord:
    answer = Decisions((Decision(logprobs or (-0.5, -1.0), 0.9, "labels"),), Usage(100, 1), cost, 0.05)
    return CompletionRecord(key_of(name), ENGINE, "decide", answer)


def generated(name: object, *texts: str) -> CompletionRecord:
    answer = Completion(tuple(Sample(text, "stop", -0.5) for text in texts), Usage(100, 20), None, 0.5)
    return CompletionRecord(key_of(name), ENGINE, "generate", answer)


def routed(name: object, *tiers: str) -> CompletionRecord:
    """What a cascade answered: one question per tier, refused where that is ''."""
    made = tuple(Decision((-0.5, -1.0), 0.9, "labels", tier) if tier else None for tier in tiers)
    return CompletionRecord(key_of(name), ENGINE, "decide", Decisions(made, Usage(100, 1), 0.25, 0.05))


def failed(name: object, error: str = "refusal") -> CompletionRecord:
    return CompletionRecord(key_of(name), ENGINE, "decide", None, error)


def link(
    document: str, name: object, *, view: int = 0, task: str = "task", error: str | None = None
) -> AnnotationRecord:
    return AnnotationRecord(document, task, view, 0, key_of(name), error)


def corpus(*names: str, text: str = "text of {}") -> list[Document]:
    return [Document(name, text.format(name)) for name in names]


def labels_table(*ids: str, field: str = "topic", value: str | None = '"a"') -> pa.Table:
    row = {"field": field, "value": value, "confidence": 0.75, "basis": "batch", "probabilities": [0.75, 0.25]}
    return pa.Table.from_pylist(
        [{"document_id": name, **row, "effective_votes": 1.0, "flags": []} for name in ids], LABELS
    )


def dataset_table(*ids: str, output: str = '{"topic":"a"}', confidence: float = 0.75) -> pa.Table:
    row = {"output": output, "confidence": confidence, "weight": 1.0, "fields": "{}"}
    return pa.Table.from_pylist([{"document_id": name, **row} for name in ids], DATASET_INPUT)


def preference_table(*ids: str, chosen: str = "two", rejected: str = "three") -> pa.Table:
    row = {"prompt": "[]", "chosen": chosen, "rejected": rejected, "confidence": 0.75, "details": '{"sample":1}'}
    return pa.Table.from_pylist([{"document_id": name, **row} for name in ids], PREFERENCE_INPUT)


def rows_of(tables: object) -> list[dict[str, object]]:
    return [row for table in tables for row in table.to_pylist()]
