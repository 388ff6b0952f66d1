"""What the store hands out and takes in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from curator.types import Json, JsonObject

ModelKind = Literal["sft", "head", "classifier", "dpo", "orpo"]
"""A fine-tuned language model, a head on frozen features, a fine-tuned classifier, or a language model trained on
preferences."""

VersionKind = Literal["labels", "preferences"]
"""What a version's rows are: documents with their labels, or pairs of a better and a worse answer."""


@dataclass(frozen=True, slots=True)
class IngestCounts:
    """What became of the documents of one ingest. `duplicate`: an id seen before in the same input;
    the first one was taken."""

    added: int = 0
    unchanged: int = 0
    changed: int = 0
    duplicate: int = 0

    @property
    def total(self) -> int:
        return self.added + self.unchanged + self.changed + self.duplicate


@dataclass(frozen=True, slots=True)
class Audit:
    """A person's answer to one field of one document."""

    document_id: str
    field: str
    value: Json
    auditor: str = ""


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """An immutable training set. `hash` covers its rows in order, the task and the policy (or settings)."""

    version: int
    task_id: str
    hash: str
    rows: int
    policy: JsonObject
    report: JsonObject
    run_id: str
    created_at: str
    kind: VersionKind = "labels"


@dataclass(frozen=True, slots=True)
class Change:
    """A document that two versions label differently, or whose text changed. `old` and `new` hold
    `output`, `confidence` and `text_changed`; the output of a preference is its prompt, chosen and rejected."""

    document_id: str
    old: JsonObject
    new: JsonObject


@dataclass(frozen=True, slots=True)
class DatasetDiff:
    """How version `new` differs from version `old`. The counts are complete; the lists hold at most
    as many as were asked for. `unchanged` rows have the same text and output."""

    old: int
    new: int
    added_count: int
    removed_count: int
    changed_count: int
    unchanged: int
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A model that was trained here. `base` is what it was made from, as `resolve` takes it, `revision`
    the hash or commit of those weights; `sha256` is that of the trained weights in `path`; `report` holds
    settings and metrics. The store fills in `created_at`."""

    name: str
    kind: ModelKind
    base: str
    revision: str
    dataset_version: int
    dataset_hash: str
    path: str
    sha256: str
    report: JsonObject
    run_id: str
    created_at: str = ""


@dataclass(frozen=True, slots=True)
class ServedQuestion:
    """What a cascade served to one question of a request. `document_id` is None where the text was not recorded;
    `audit` the probability with which an accepted answer was drawn for an audit, None where it was not; `cost` and
    `latency` are the whole request's; `received_at` is ISO 8601 in UTC."""

    request_id: str
    document_id: str | None
    question: str
    fingerprint: str
    policy: str
    tier: str
    value: str | None
    confidence: float | None
    basis: str
    audit: float | None
    disagreed: bool | None
    cost: float | None
    latency: float
    received_at: str


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One command that wrote to the store: `running`, `done`, `failed` or `interrupted`."""

    id: str
    command: str
    status: str
    pid: int
    started_at: str
    finished_at: str | None = None
    error: str | None = None
    config: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task whose labels are, or were about to be, in the store."""

    id: str
    spec: JsonObject
    saved_at: str


@dataclass(frozen=True, slots=True)
class Rejection:
    """How many documents one settings' stage rejected for one reason."""

    settings: str
    stage: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class EngineUse:
    """What one engine answered. `cost` is the known money, `unpriced` the answers without a price."""

    engine: str
    completions: int
    failed: int
    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost: float
    unpriced: int


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What is in the store. `rejects`: rows that could not be ingested, by reason; `failures`:
    completions without an answer, by error; `cost`: the known money, None if no answer has a price;
    `unpriced`: answers without one; `pending_bytes`: journal not yet in the tables; `traffic`: answers
    that a cascade served, by tier."""

    path: str
    schema_version: int
    size_bytes: int
    pending_bytes: int
    documents: int
    rejects: dict[str, int]
    verdicts: tuple[Rejection, ...]
    completions: int
    failures: dict[str, int]
    annotations: dict[str, int]
    labels: dict[str, int]
    audits: dict[str, int]
    datasets: tuple[DatasetVersion, ...]
    engines: tuple[EngineUse, ...]
    input_tokens: int
    output_tokens: int
    cost: float | None
    unpriced: int
    traffic: dict[str, int]
    running: RunInfo | None
    runs: tuple[RunInfo, ...] = ()
