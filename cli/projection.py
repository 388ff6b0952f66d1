"""What a curation run would take: calls, tokens, time and money. No document is sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from typing import TYPE_CHECKING

from curator.engines.base import render_messages, request_key
from curator.requests import requests_of
from curator.types import DecideRequest, Document, GenerateRequest, Price, Usage

if TYPE_CHECKING:
    from pydantic import BaseModel

    from curator.engines.base import Engine
    from curator.store import Store
    from curator.task import Task

SAMPLE = 32
"""Documents whose prompts are counted."""
CHARACTERS_PER_TOKEN = 4
"""Where an engine cannot count: the usual figure for English."""


@dataclass(frozen=True, slots=True)
class Projection:
    """`documents` to label, `answered` requests that need not be sent again, `calls` that do.

    `exact_tokens` says whether the engine counted them; `seconds` rests on the last run with this
    engine (its start included) and is None before there was one; `cost` is None without a price."""

    documents: int
    answered: int
    calls: int
    input_tokens: int
    output_tokens: int
    exact_tokens: bool
    seconds: float | None
    cost: float | None


async def project(
    task: Task[BaseModel],
    engine: Engine,
    documents: Iterator[Sequence[Document]],
    store: Store | None,
    price: Price | None,
    probes: Sequence[Document] = (),
) -> Projection:
    """Count what labelling `documents` would take, and asking about the texts without content beside them.

    Every prompt is made and looked up in the store; tokens are counted on the first few that would
    have to be sent.
    """
    seen, answered, calls = -len(probes), 0, 0
    sample: list[DecideRequest | GenerateRequest] = []
    for batch in chain(documents, [probes]):
        asked = [request for document in batch for _, request in requests_of(task, document)]
        keys = [request_key(engine.identity, request) for request in asked]
        known = store.known(keys) if store else {}
        fresh = {key: request for key, request in zip(keys, asked, strict=True) if key not in known}
        seen, answered, calls = seen + len(batch), answered + len(asked) - len(fresh), calls + len(fresh)
        sample += islice(fresh.values(), max(0, SAMPLE - len(sample)))
    counted = [await _tokens(engine, request) for request in sample]
    share = calls / max(len(sample), 1)
    usage = Usage(
        input_tokens=round(sum(tokens for tokens, _, _ in counted) * share),
        output_tokens=round(sum(tokens for _, tokens, _ in counted) * share),
    )
    rate = last_rate(store, str(engine.identity)) if store else None
    return Projection(
        seen,
        answered,
        calls,
        usage.input_tokens,
        usage.output_tokens,
        all(exact for _, _, exact in counted),
        calls / rate if rate else None,
        price.cost(usage) if price else None,
    )


async def _tokens(engine: Engine, request: DecideRequest | GenerateRequest) -> tuple[int, int, bool]:
    """(input tokens, output tokens at most, whether the engine counted)."""
    if isinstance(request, GenerateRequest):
        characters = sum(len(message.content) for message in request.messages)
        return characters // CHARACTERS_PER_TOKEN, request.n * request.sampling.max_tokens, False
    counted = [preview.tokens for preview in await engine.preview(request)]
    if all(counted):
        return sum(counted), len(counted), True
    texts = [message.content for question in request.questions for message in render_messages(request, question)]
    return sum(map(len, texts)) // CHARACTERS_PER_TOKEN, len(request.questions), False


def last_rate(store: Store, engine: str) -> float | None:
    """Requests per second of the last finished run in which this engine answered anything."""
    finished = {run.id: run for run in store.runs(limit=1000) if run.status == "done" and run.finished_at}
    for version in reversed(store.datasets()):
        run, annotation = finished.get(version.run_id), version.report.get("annotation")
        if run is None or version.report.get("engine") != engine or not isinstance(annotation, dict):
            continue
        began, ended = datetime.fromisoformat(run.started_at), datetime.fromisoformat(str(run.finished_at))
        sent, seconds = annotation.get("sent"), (ended - began).total_seconds()
        if isinstance(sent, int) and sent and seconds > 0:
            return sent / seconds
    return None
