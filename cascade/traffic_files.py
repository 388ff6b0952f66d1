"""Traffic records as Parquet files, and back. What cannot be read is named, counted and left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AwareDatetime, BaseModel, Field, Json, TypeAdapter, ValidationError

from cascade.rotating import files_in
from cascade.traffic import Request, ServedAnswer, TierAnswer, TrafficRecord
from curator.engines.base import EngineIdentity
from curator.types import (
    ChatRequest,
    Completion,
    DecideRequest,
    Decision,
    Decisions,
    GenerateRequest,
    JsonObject,
    Readout,
    Sample,
    Usage,
)

SUFFIX: Final = ".traffic.parquet"

_EXCERPT: Final = 120
_BATCH: Final = 1024
_FLOATS = pa.list_(pa.float64())
_TEXTS = pa.list_(pa.string())
_SERVED = pa.struct(
    [
        ("question", pa.string()),
        ("fingerprint", pa.string()),
        ("tier", pa.string()),
        ("value", pa.string()),
        ("confidence", pa.float64()),
        ("basis", pa.string()),
        ("audit", pa.float64()),
        ("disagreed", pa.bool_()),
    ]
)
_USAGE = pa.struct([(name, pa.int64()) for name in ("input_tokens", "output_tokens", "cached_tokens", "calls")])
_ENGINE = pa.struct([(name, pa.string()) for name in ("provider", "model", "endpoint", "revision", "adapter")])
_ANSWER = pa.struct(
    [
        ("tier", pa.string()),
        ("engine", _ENGINE),
        ("key", pa.string()),
        ("questions", _TEXTS),
        ("logprobs", pa.list_(_FLOATS)),
        ("label_mass", _FLOATS),
        ("readout", _TEXTS),
        ("samples", _TEXTS),
        ("finish_reasons", _TEXTS),
        ("sample_logprobs", _FLOATS),
        ("tool_calls", _TEXTS),
        ("usage", _USAGE),
        ("cost", pa.float64()),
        ("latency", pa.float64()),
    ]
)
SCHEMA: Final = pa.schema(
    [
        ("id", pa.string()),
        ("time", pa.timestamp("us", "UTC")),
        ("policy", pa.string()),
        ("kind", pa.string()),
        ("request", pa.string()),
        ("latency", pa.float64()),
        ("served", pa.list_(_SERVED)),
        ("answers", pa.list_(_ANSWER)),
    ],
    metadata={"format": "goldless-traffic-1"},
)
"""Columns of a traffic file. `request` is JSON, null without content; logprobs, label_mass and readout have one entry
per question, null where it was refused; samples and what follows one per text, tool calls as JSON (older files
have none)."""


@dataclass(frozen=True, slots=True)
class TrafficRow:
    """A row (from 1; 0: the whole file) of `file`: its record, or the machine-readable `reason` why it is none."""

    file: str
    row: int
    record: TrafficRecord | None
    reason: str = ""
    excerpt: str = ""


def to_table(rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Rows that `to_row` made as a table with the columns of `SCHEMA`."""
    return pa.Table.from_pylist(list(rows), SCHEMA)


def read_traffic(path: str | Path) -> Iterator[TrafficRow]:
    """The rows of a file, or of all traffic files in a folder in the order of their names, which is that of time.

    Raises: SourceError if there is nothing to read at `path`.
    """
    for file in files_in(Path(path), SUFFIX, "traffic"):
        try:
            yield from _records(file)
        except (OSError, pa.ArrowException) as error:
            yield TrafficRow(str(file), 0, None, "traffic.unreadable_file", str(error)[:_EXCERPT])


def _records(file: Path) -> Iterator[TrafficRow]:
    number = 0
    with pq.ParquetFile(file) as parquet:
        if absent := [name for name in SCHEMA.names if name not in parquet.schema_arrow.names]:
            yield TrafficRow(str(file), 0, None, "traffic.missing_columns", ", ".join(absent))
            return
        for batch in parquet.iter_batches(_BATCH, columns=SCHEMA.names):
            for row in batch.to_pylist():
                number += 1
                yield _record(str(file), number, row)


def _record(file: str, number: int, row: Mapping[str, object]) -> TrafficRow:
    where = "row"
    try:
        checked = _Row.model_validate(row)
        where = "answers"
        answers = tuple(answer.answer_of_tier() for answer in checked.answers)
        where = "request"
        return TrafficRow(file, number, checked.record(answers))
    except ValueError as error:
        if where == "row" and isinstance(error, ValidationError):
            where = str(error.errors()[0]["loc"][0])
        return TrafficRow(file, number, None, f"traffic.invalid_{where}", str(row["id"])[:_EXCERPT])


def to_row(record: TrafficRecord) -> dict[str, object]:
    """A record as one row. Raises: TypeError for a request that JSON cannot hold (half a surrogate pair)."""
    request = record.request
    closed = isinstance(request, DecideRequest) or any(isinstance(item.answer, Decisions) for item in record.answers)
    return {
        "id": record.id,
        "time": record.time,
        "policy": record.policy,
        "kind": "decide" if closed else "generate",
        "request": None if request is None else orjson.dumps(request).decode(),
        "latency": record.latency,
        "served": [asdict(one) for one in record.served],
        "answers": [_answer_row(item) for item in record.answers],
    }


def _answer_row(item: TierAnswer) -> dict[str, object]:
    answer = item.answer
    parts: dict[str, object] = {
        "tier": item.tier,
        "engine": asdict(item.engine),
        "key": item.key,
        "questions": list(item.questions),
        "usage": asdict(answer.usage),
        "cost": answer.cost,
        "latency": answer.latency,
    }
    if isinstance(answer, Completion):
        parts["samples"] = [sample.text for sample in answer.samples]
        parts["finish_reasons"] = [sample.finish_reason for sample in answer.samples]
        parts["sample_logprobs"] = [sample.logprob for sample in answer.samples]
        parts["tool_calls"] = [orjson.dumps(sample.tool_calls).decode() for sample in answer.samples]
        return parts
    parts["logprobs"] = [one and list(one.logprobs) for one in answer.answers]
    parts["label_mass"] = [one and one.label_mass for one in answer.answers]
    parts["readout"] = [one and one.readout for one in answer.answers]
    return parts


class _AnswerRow(BaseModel):
    """One entry of `answers`, checked."""

    tier: str
    engine: EngineIdentity
    key: str
    questions: tuple[str, ...]
    logprobs: list[tuple[float, ...] | None] | None
    label_mass: list[float | None] | None
    readout: list[Readout | None] | None
    samples: list[str] | None
    finish_reasons: list[str] | None
    sample_logprobs: list[float | None] | None
    tool_calls: list[Json[tuple[JsonObject, ...]]] | None = None
    usage: Usage
    cost: float | None
    latency: float

    def answer_of_tier(self) -> TierAnswer:
        """Raises: ValueError where the lists have different lengths."""
        return TierAnswer(self.tier, self.engine, self.questions, self._answer(), self.key)

    def _answer(self) -> Decisions | Completion:
        if self.samples is not None:
            calls = [()] * len(self.samples) if self.tool_calls is None else self.tool_calls
            parts = zip(self.samples, self.finish_reasons or (), self.sample_logprobs or (), calls, strict=True)
            samples = tuple(Sample(text, end, logprob, tool_calls=called) for text, end, logprob, called in parts)
            return Completion(samples, self.usage, self.cost, self.latency)
        decisions = zip(self.logprobs or (), self.label_mass or (), self.readout or (), strict=True)
        found = tuple(Decision(p, mass, how) if p is not None and how else None for p, mass, how in decisions)
        return Decisions(found, self.usage, self.cost, self.latency)


class _Row(BaseModel):
    """One row of a file, checked."""

    id: str = Field(min_length=1)
    time: AwareDatetime
    policy: str
    kind: Literal["decide", "generate"]
    request: str | None
    latency: float
    served: tuple[ServedAnswer, ...]
    answers: tuple[_AnswerRow, ...]

    def record(self, answers: tuple[TierAnswer, ...]) -> TrafficRecord:
        """Raises: ValueError where the request is none."""
        return TrafficRecord(self.id, self.time, self.policy, self._request(), self.served, answers, self.latency)

    def _request(self) -> Request | None:
        if self.request is None:
            return None
        if self.kind == "decide":
            return _DECIDE.validate_json(self.request)
        # Both are chat prompts; only one that came over HTTP has turns. Read as the other, it would lose its tools.
        found = orjson.loads(self.request)
        return (_CHAT if "turns" in found else _GENERATE).validate_python(found)


_CHAT: Final = TypeAdapter(ChatRequest)
_DECIDE: Final = TypeAdapter(DecideRequest)
_GENERATE: Final = TypeAdapter(GenerateRequest)
