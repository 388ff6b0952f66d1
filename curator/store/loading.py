"""Journal lines -> Arrow tables -> the tables completions and annotations."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from math import inf
from pathlib import Path
from typing import NotRequired, Required, TypedDict

import orjson
import pyarrow as pa

from curator.database import Connection, Database, quoted
from curator.journal import Segment, read_segment, retire
from curator.records import AnnotationRecord, CompletionRecord
from curator.store.base import plain

logger = logging.getLogger(__name__)

_FLOATS = pa.list_(pa.float64())
_STRINGS = pa.list_(pa.string())
COMPLETIONS = pa.schema(
    [
        ("key", pa.string()),
        ("engine", pa.string()),
        ("identity", pa.string()),
        ("kind", pa.string()),
        ("logprobs", pa.list_(_FLOATS)),
        ("label_mass", _FLOATS),
        ("readout", _STRINGS),
        ("samples", _STRINGS),
        ("finish_reasons", _STRINGS),
        ("sample_logprobs", _FLOATS),
        ("error", pa.string()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("calls", pa.int64()),
        ("cost", pa.float64()),
        ("latency", pa.float64()),
        ("served_by", _STRINGS),
    ]
)
ANNOTATIONS = pa.schema(
    [
        ("document_id", pa.string()),
        ("task_id", pa.string()),
        ("view", pa.int32()),
        ("round", pa.int32()),
        ("key", pa.string()),
        ("error", pa.string()),
        ("truncated", pa.bool_()),
    ]
)


def encode(record: CompletionRecord | AnnotationRecord) -> bytes:
    """One journal line. An infinite log-probability becomes null there, and infinite again later."""
    mark = "c" if type(record) is CompletionRecord else "a"
    try:
        return orjson.dumps((mark, record))
    except TypeError:
        # Half a surrogate pair somewhere in a text.
        return orjson.dumps((mark, plain(record)))


def load_segments(database: Database, paths: Iterable[Path], run_id: str) -> int:
    """Put segments into the tables, each in one transaction, and remove each one afterwards. Loading
    one again, after a kill between commit and removal, changes nothing. Returns the records."""
    count = 0
    for path in paths:
        segment = read_segment(path)
        batch = _Batch(segment)
        with database.writing(threads=1) as connection:
            if not _is_loaded(connection, path.name):
                batch.insert(connection, run_id)
                connection.execute("DELETE FROM loaded_segments")
                connection.execute("INSERT INTO loaded_segments VALUES (?)", [path.name])
        retire(path, batch.damaged)
        count += len(batch.completions) + len(batch.annotations)
    return count


def _is_loaded(connection: Connection, name: str) -> bool:
    return bool(connection.execute("SELECT count(*) FROM loaded_segments WHERE name = ?", [name]).fetchall()[0][0])


class _Sample(TypedDict):
    text: str
    finish_reason: str
    logprob: float | None


class _Decision(TypedDict):
    logprobs: list[float | None]
    label_mass: float | None
    readout: str
    served_by: NotRequired[str]


class _Usage(TypedDict):
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    calls: int


class _Answer(TypedDict, total=False):
    answers: list[_Decision | None]
    samples: list[_Sample]
    usage: Required[_Usage]
    cost: Required[float | None]
    latency: Required[float]
    served_by: str


class _Completion(TypedDict):
    key: str
    engine: dict[str, str]
    kind: str
    answer: _Answer | None
    error: str | None


class _Annotation(TypedDict):
    document_id: str
    task_id: str
    view: int
    round: int
    key: str
    error: str | None
    truncated: bool


_Row = tuple[object, ...]
_NO_DECISIONS: _Row = (None, None, None)
_NO_SAMPLES: _Row = (None, None, None)
_NO_USAGE: _Row = (None, None, None, None, None, None, None)


class _Batch:
    """The records of a segment, one per key: a later one counts, except that nothing replaces an
    answer."""

    def __init__(self, segment: Segment) -> None:
        self.damaged = segment.damaged
        self.completions: dict[str, _Row] = {}
        self.annotations: dict[_Row, _Row] = {}
        for line in segment.lines:
            try:
                mark, record = orjson.loads(line)
                if mark == "a":
                    self._annotate(record)
                else:
                    self._complete(record)
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("a journal line in %s cannot be understood: %r", segment.path.name, error)
                self.damaged += 1

    def _complete(self, record: _Completion) -> None:
        before = self.completions.get(record["key"])
        if before is None or before[_ERROR] is not None:
            self.completions[record["key"]] = _completion_row(record)

    def _annotate(self, record: _Annotation) -> None:
        key = (record["document_id"], record["task_id"], record["view"], record["round"])
        self.annotations[key] = (*key, record["key"], record["error"], record["truncated"])

    def insert(self, connection: Connection, run_id: str) -> None:
        if self.completions:
            connection.register("batch", _table(self.completions.values(), COMPLETIONS))
            connection.execute(_DROP_FAILURES)
            connection.execute(_INSERT_COMPLETIONS.format(run_id=quoted(run_id)))
        if self.annotations:
            connection.register("batch", _table(self.annotations.values(), ANNOTATIONS))
            connection.execute(_MERGE_ANNOTATIONS.format(run_id=quoted(run_id)))


def _table(rows: Iterable[_Row], schema: pa.Schema) -> pa.Table:
    columns = [pa.array(column, item.type) for column, item in zip(zip(*rows, strict=True), schema, strict=True)]
    return pa.Table.from_arrays(columns, schema=schema)


def _completion_row(record: _Completion) -> _Row:
    """The values of a completion, in the order of the schema."""
    identity, answer = record["engine"], record["answer"]
    adapter = identity["adapter"]
    engine = f"{identity['provider']}:{identity['model']}" + (f"+{adapter}" if adapter else "")
    head = (record["key"], engine, orjson.dumps(identity).decode(), record["kind"])
    if answer is None:
        return (*head, *_NO_DECISIONS, *_NO_SAMPLES, record["error"], *_NO_USAGE)
    usage = answer["usage"]
    used = (usage["input_tokens"], usage["output_tokens"], usage["cached_tokens"], usage["calls"])
    return (*head, *_parts(answer), record["error"], *used, answer["cost"], answer["latency"], _served_by(answer))


def _served_by(answer: _Answer) -> list[str] | None:
    """The tiers that answered, None where no cascade did (or an older goldless wrote the line)."""
    if "samples" in answer:
        found = [answer.get("served_by", "")]
    else:
        found = ["" if item is None else item.get("served_by", "") for item in answer["answers"]]
    return found if any(found) else None


def _parts(answer: _Answer) -> _Row:
    if "samples" in answer:
        samples = answer["samples"]
        return (
            *_NO_DECISIONS,
            [sample["text"] for sample in samples],
            [sample["finish_reason"] for sample in samples],
            [sample["logprob"] for sample in samples],
        )
    decisions = answer["answers"]
    return (
        [None if item is None else _finite(item["logprobs"]) for item in decisions],
        [None if item is None else item["label_mass"] for item in decisions],
        [None if item is None else item["readout"] for item in decisions],
        *_NO_SAMPLES,
    )


def _finite(logprobs: Sequence[float | None]) -> Sequence[float | None]:
    return [-inf if value is None else value for value in logprobs] if None in logprobs else logprobs


_ERROR = COMPLETIONS.names.index("error")
_NAMES = ", ".join(name for name in COMPLETIONS.names if name != "key")
# An answer takes the place of a failure.
_DROP_FAILURES = "DELETE FROM completions WHERE error IS NOT NULL AND key IN (SELECT key::UUID FROM batch)"
_INSERT_COMPLETIONS = f"""
INSERT INTO completions (key, {_NAMES}, run_id) SELECT batch.key::UUID, {_NAMES}, {{run_id}} FROM batch
WHERE batch.key::UUID NOT IN (SELECT key FROM completions WHERE key IN (SELECT key::UUID FROM batch))
"""
_MERGE_ANNOTATIONS = """
MERGE INTO annotations USING (SELECT * REPLACE (key::UUID AS key) FROM batch) AS batch
ON annotations.document_id = batch.document_id AND annotations.task_id = batch.task_id
    AND annotations.view = batch.view AND annotations.round = batch.round
WHEN MATCHED AND (annotations.key <> batch.key OR annotations.error IS DISTINCT FROM batch.error
    OR annotations.truncated <> batch.truncated)
    THEN UPDATE SET key = batch.key, error = batch.error, truncated = batch.truncated, run_id = {run_id}
WHEN NOT MATCHED THEN INSERT (document_id, task_id, view, round, key, error, truncated, run_id) VALUES
    (batch.document_id, batch.task_id, batch.view, batch.round, batch.key, batch.error, batch.truncated, {run_id})
"""
