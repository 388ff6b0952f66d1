"""What every tier says about a sample of documents, through the store: no answer is paid for twice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cascade.outcomes import NO_ANSWER, Outcomes, tier_agreement
from cascade.signals import decision_table, free_signals, parse_signal
from curator.engines.base import identity_text
from curator.errors import EngineError
from curator.types import Completion, Decision, Document, Price, Sample, Usage

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cli.cascade_settings import TierSettings
    from cli.sheets import Checked
    from curator.annotate import Progress
    from curator.confidence import Floats, Ints
    from curator.fields import ClosedField
    from curator.store import Run, Store
    from curator.task import Task

AGREEMENT = "tier_agreement"


@dataclass(frozen=True, slots=True)
class TierAnswers:
    """One tier's answers: by document, one decision per question (None: none), and the request's money and seconds
    (NaN: unknown); in `texts` what it generated."""

    name: str
    identity: str
    decisions: Mapping[str, Sequence[Decision | None]]
    cost: Mapping[str, float]
    latency: Mapping[str, float]
    errors: Mapping[str, int]
    texts: Mapping[str, Completion]


async def ask_tier(
    tier: TierSettings,
    task: Task[BaseModel],
    documents: Sequence[Document],
    place: tuple[Store, Run],
    progress: Progress,
    known: Sequence[TierSettings] = (),
) -> TierAnswers:
    """Have a tier answer the task about the documents, as far as it has not; its engine is closed then. `known` says
    how the tiers of a tier that is a cascade are connected.

    Raises: GoldlessError where the tier cannot be asked: wrong credentials, no such model, a dead server.
    """
    from cli.build import engine_of, price_of
    from curator.annotate import FATAL, annotate
    from curator.requests import Prompting

    store, run = place
    prompting = Prompting(long_text=tier.long_text)
    async with aclosing(engine_of(tier, known=known)) as engine:
        failed = dict(progress.errors)
        try:
            await annotate([documents], task, engine, run, prompting=prompting, progress=progress)
        except EngineError as error:
            # A tier that refuses every row is skipped with the reason; one that cannot be reached is an error.
            if error.retryable or isinstance(error, FATAL):
                raise
        finally:
            run.flush()
        identity = engine.identity
    errors = {code: count - failed.get(code, 0) for code, count in progress.errors.items()}
    asked = [document.id for document in documents], prompting.annotation_id(task, identity)
    rows = [row for row in store.attempts(*asked).to_pylist() if row["view"] == 0 and row["logprobs"] is not None]
    texts = [row for row in store.sampled_attempts(*asked).to_pylist() if row["samples"]] if task.sampled else []
    price = price_of(tier)
    return TierAnswers(
        tier.name,
        identity_text(identity),
        {row["document_id"]: _decisions(row) for row in rows},
        {row["document_id"]: _cost(row, price) for row in rows},
        {row["document_id"]: math.nan if row["latency"] is None else float(row["latency"]) for row in rows},
        {code: count for code, count in errors.items() if count},
        {row["document_id"]: _completion(row, price) for row in texts},
    )


def _decisions(row: Mapping[str, Sequence[object]]) -> list[Decision | None]:
    return [
        None if logprobs is None else Decision(tuple(logprobs), mass, readout)  # type: ignore[arg-type]
        for logprobs, mass, readout in zip(row["logprobs"], row["label_mass"], row["readout"], strict=True)
    ]


def _completion(row: Mapping[str, Any], price: Price | None) -> Completion:
    parts = zip(row["samples"], row["finish_reasons"], row["sample_logprobs"], strict=True)
    samples = tuple(Sample(text, reason, logprob) for text, reason, logprob in parts)
    usage, cost = Usage(row["input_tokens"] or 0, row["output_tokens"] or 0), _cost(row, price)
    return Completion(samples, usage, None if math.isnan(cost) else cost, row["latency"] or 0.0)


def _cost(row: Mapping[str, float | None], price: Price | None) -> float:
    """By the price that holds now; what was paid then where there is none."""
    given, written = row["input_tokens"], row["output_tokens"]
    if price is not None and given is not None and written is not None and given + written:
        return price.cost(Usage(int(given), int(written)))
    return math.nan if row["cost"] is None else float(row["cost"])


def outcomes_of(
    task: Task[BaseModel],
    documents: Sequence[Document],
    tiers: Sequence[TierAnswers],
    checked: Checked,
    tolerance: int = 0,
) -> dict[str, Outcomes]:
    """Per closed field what the tiers answered, and how good that is where it was `checked`: a score may be `tolerance`
    levels off. Money and seconds of a request are shared evenly among its questions."""
    ids = tuple(document.id for document in documents)
    shape, share = (len(ids), len(tiers)), 1.0 / max(len(task.closed), 1)
    cost, latency = (
        np.array([[table.get(name, math.nan) for table in tables] for name in ids]).reshape(shape) * share
        for tables in ([tier.cost for tier in tiers], [tier.latency for tier in tiers])
    )
    found = {}
    for place, field in enumerate(task.closed):
        table = [[_at(tier, name, place) for tier in tiers] for name in ids]
        answers = np.array([[NO_ANSWER if one is None else one.top for one in row] for row in table]).reshape(shape)
        specs = [parse_signal(name) for name in free_signals("decide", field.question.kind) if name != AGREEMENT]
        columns = [decision_table(specs, [row[tier] for row in table], field.question) for tier in range(len(tiers))]
        signals = {spec.name: np.stack([column[spec.name] for column in columns], axis=1) for spec in specs}
        signals[AGREEMENT] = tier_agreement(answers.astype(np.int64))
        off = tolerance if field.question.kind == "score" else 0
        found[field.name] = Outcomes(
            tuple(tier.name for tier in tiers),
            answers.astype(np.int64),
            {name: values for name, values in signals.items() if not np.isnan(values).all()},
            cost,
            latency,
            _quality(answers.astype(np.int64), ids, field, checked, off),
            ids,
        )
    return found


def _quality(answers: Ints, ids: Sequence[str], field: ClosedField, checked: Checked, off: int) -> Floats:
    """1 where an answer (n, t) is right, 0 where it is not, or where nobody gave the right one; else NaN."""
    right = {name: field.values.index(value) for name, value in checked.truth.get(field.name, {}).items()}
    truth = np.array([right.get(name, NO_ANSWER) for name in ids])[:, None]
    good = (answers != NO_ANSWER) & (np.abs(answers - truth) <= off)
    missed = checked.missed.get(field.name, frozenset())
    passed_over = np.array([name in missed for name in ids])[:, None]
    return np.where(passed_over, 0.0, np.where(truth == NO_ANSWER, np.nan, good.astype(np.float64)))


def _at(tier: TierAnswers, name: str, place: int) -> Decision | None:
    answers = tier.decisions.get(name)
    return None if answers is None else answers[place]
