"""Preference pairs -> an immutable dataset version -> pairs again.

A pair says that of two answers to one prompt the `chosen` one is better. Versions of pairs share the numbers of all
dataset versions; what holds for those (immutable, hashed, compared, exported) holds for them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import orjson
import pyarrow as pa

from curator.errors import InputError
from curator.store import PREFERENCE_INPUT, DatasetVersion, Run, Store
from curator.store.base import clean, to_json
from curator.task import Output, Task
from curator.telemetry import stage_span
from curator.types import Document, JsonObject, Message

_PAGE = 8192


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, the better and the worse one.

    `confidence` in [0, 1] says how far to trust the order; `details` where each side came from: engine, sample,
    answer.
    """

    document: Document
    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    confidence: float
    details: JsonObject = field(default_factory=dict)


def freeze_preferences(
    task: Task[Output],
    store: Store,
    run: Run,
    pairs: Iterable[Preference],
    settings: JsonObject,
    report: JsonObject,
) -> DatasetVersion:
    """Freeze pairs, in order, as a dataset version; the same pairs under the same task and settings are the version
    that there is already.

    Raises: InputError if there are none, for a pair that prefers nothing, and for a document that is not in the store.
    """
    with stage_span("freeze_preferences"):
        found = iter(pairs)
        if (first := next(found, None)) is None:
            raise InputError("there is not one preference pair", hint="lower the thresholds, or sample more answers")
        return store.create_preferences(task.id, settings, _tables(itertools.chain([first], found)), report, run.id)


def read_preferences(store: Store, version: int) -> Iterator[Preference]:
    """The pairs of a version in order, page by page.

    Raises: InputError if there is no such version, or it holds labelled rows.
    """
    for table in store.preference_rows(version):
        for row in table.to_pylist():
            document = Document(row["document_id"], row["text"], orjson.loads(row["meta"] or "{}"))
            prompt = tuple(Message(item["role"], item["content"]) for item in orjson.loads(row["prompt"]))
            details = orjson.loads(row["details"])
            yield Preference(document, prompt, row["chosen"], row["rejected"], row["confidence"], details)


def _tables(pairs: Iterable[Preference]) -> Iterator[pa.Table]:
    found = iter(pairs)
    while page := list(itertools.islice(found, _PAGE)):
        yield pa.Table.from_pylist([_row(pair) for pair in page], PREFERENCE_INPUT)


def _row(pair: Preference) -> JsonObject:
    _check(pair)
    return {
        "document_id": pair.document.id,
        "prompt": to_json([{"role": message.role, "content": message.content} for message in pair.prompt]),
        "chosen": clean(pair.chosen),
        "rejected": clean(pair.rejected),
        "confidence": pair.confidence,
        "details": to_json(pair.details),
    }


def _check(pair: Preference) -> None:
    """Raises: InputError for a pair that teaches nothing."""
    where = f"the pair of document {pair.document.id!r}"
    if not pair.prompt:
        raise InputError(f"{where} has no prompt", hint="give the messages that both answers reply to")
    if not pair.chosen.strip() or not pair.rejected.strip():
        raise InputError(f"{where} has an empty answer", hint="an empty answer says nothing: leave the pair out")
    if pair.chosen == pair.rejected:
        raise InputError(f"{where} prefers an answer to itself", hint="leave the pair out")
    if not (math.isfinite(pair.confidence) and 0 <= pair.confidence <= 1):
        raise InputError(f"{where} has the confidence {pair.confidence}", hint="a confidence lies between 0 and 1")
