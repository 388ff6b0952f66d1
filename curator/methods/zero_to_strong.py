"""Zero-to-strong generalisation (Liu et al. 2024, arXiv 2409.12425): a model teaches itself in rounds, no gold.

Each round annotates the corpus, takes the most confident rows of every class, and shows them as worked
examples in the next. The examples of a document come from the other shards of the corpus, so that no row
confirms itself. All documents of a shard share their examples as a prefix, which engines compute once.
A document's label is the mean of all rounds' answers.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Generic, Literal

import numpy as np

from curator.annotate import Progress
from curator.engines.base import Engine
from curator.errors import InputError, TaskError
from curator.fields import ClosedField
from curator.labeling import Labeler
from curator.learning import Answers
from curator.methods.demonstrations import Chooser, Guesses, guesses
from curator.pipeline import Curation, Plan, answers_of, ask, describe, freeze, prepare, teach
from curator.requests import shard_of
from curator.sources import Source
from curator.store import Run, Store
from curator.task import Output, Task
from curator.telemetry import stage_span
from curator.types import Demonstration, Json, JsonObject

Start = Literal["zero_shot", "random"]


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often, and with which examples. The defaults are the paper's where it says.

    The rounds stop early when fewer than `churn` of the labels changed. `start` is what the first
    examples are taken from: the model's own answers without examples, or random labels. `shards` parts
    of the corpus have examples of their own, each from the other parts.
    """

    rounds: int = 3
    examples: Chooser = field(default_factory=Chooser)
    start: Start = "zero_shot"
    churn: float = 0.01
    shards: int = 2

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.shards < 2 or self.examples.count < 1:
            raise InputError(
                f"rounds is {self.rounds}, shards {self.shards}, examples {self.examples.count}",
                hint="rounds and examples are 1 or more, shards 2 or more",
            )


@dataclass(frozen=True, slots=True)
class _Round(Generic[Output]):
    """One round: who was asked how, what that taught, and the guesses that follow."""

    answers: Answers[Output]
    labeler: Labeler
    found: dict[str, Guesses]
    report: JsonObject


async def improve(
    task: Task[Output],
    engine: Engine,
    store: Store,
    *,
    source: Source | None = None,
    plan: Plan | None = None,
    rounds: Rounds | None = None,
    progress: Progress | None = None,
) -> Curation[Output]:
    """Label the store's documents in rounds and select rows to train on, as `curator.curate` does.

    Calling again asks only what has not been answered, also in the middle of a round. The report has one
    entry per round under `rounds`. Raises: TaskError if the task has no closed field; GoldlessError.
    """
    if not task.closed:
        raise TaskError("no field of the task is decided", hint="improve needs a predicate, choice or score field")
    started, counts = time.monotonic(), progress or Progress()
    plan, rounds = plan or Plan(), rounds or Rounds()
    config: JsonObject = {"task": task.id, "engine": str(engine.identity), "plan": plan.describe()}
    config["improve"] = asdict(rounds)
    with store.run("improve", config) as run, stage_span("improve", task=task.id):
        report = config | await prepare(task, store, run, source, plan)
        answers = answers_of(task, store, engine, plan)
        # Denoised examples were measured to be no better ones, so only the final labels are denoised.
        teaching = _Teaching(engine, run, replace(plan, denoising=None), rounds, counts)
        last, history = await teaching.run(answers)
        labeler = await asyncio.to_thread(teach, last.answers, plan) if plan.denoising else last.labeler
        report |= {"annotation": describe(counts), "rounds": history, "fields": labeler.report()}
        version, chosen = await asyncio.to_thread(freeze, last.answers, run, labeler, plan, report)
    report |= {"selection": chosen, "seconds": round(time.monotonic() - started, 3)}
    return Curation(task, store, version, counts, report)


@dataclass(frozen=True, slots=True)
class _Teaching:
    """What stays the same from round to round."""

    engine: Engine
    store_run: Run
    plan: Plan
    rounds: Rounds
    counts: Progress

    async def run(self, answers: Answers[Output]) -> tuple[_Round[Output], list[Json]]:
        """All rounds; returns the last one and a report of each."""
        history: list[Json] = []
        if self.rounds.start == "random":
            found = await asyncio.to_thread(_random_guesses, answers, self.plan.limit, self.rounds.examples.seed)
        else:
            first = await self._round(answers)
            found, history = first.found, [first.report]
        for number in range(1, self.rounds.rounds + 1):
            shots = await asyncio.to_thread(self._shots, answers, found)
            prompting = replace(answers.prompting, round=number, shots=shots)
            answers = answers.then(prompting) if history else replace(answers, prompting=prompting)
            last = await self._round(answers)
            changed = _churn(found, last.found)
            history.append({**last.report, "churn": changed, "examples": _shown(shots)})
            found = last.found
            if changed < self.rounds.churn:
                break
        return last, history

    async def _round(self, answers: Answers[Output]) -> _Round[Output]:
        """Ask about every document under the answers' prompting, and learn from what comes."""
        annotation = await ask(answers, self.engine, self.store_run, self.plan, self.counts)
        labeler = await asyncio.to_thread(teach, answers, self.plan)
        found = await asyncio.to_thread(guesses, answers.task, labeler, answers.pages())
        report: JsonObject = {
            "round": answers.prompting.round,
            "annotation": annotation,
            "fields": {item.name: _summary(item, found[item.name]) for item in answers.task.closed},
        }
        return _Round(answers, labeler, found, report)

    def _shots(self, answers: Answers[Output], found: Mapping[str, Guesses]) -> tuple[tuple[Demonstration, ...], ...]:
        """Each shard's examples, from the other shards.

        Raises: InputError if there are none at all.
        """
        count, chooser = self.rounds.shards, self.rounds.examples
        shards = {name: shard_of(name, count) for kept in found.values() for name in kept.ids}
        shots = tuple(
            chooser.choose(answers.task, answers.store, found, {name: at != shard for name, at in shards.items()})
            for shard in range(count)
        )
        if not all(shots):
            raise InputError(
                f"no labelled text of at most {chooser.longest} characters can be shown as an example",
                hint="raise the longest example, or label more documents",
            )
        return shots


def _random_guesses(answers: Answers[Output], limit: int | None, seed: int) -> dict[str, Guesses]:
    """Labels drawn at random for all documents: the paper's other start."""
    chance = random.Random(seed)
    found = {item.name: Guesses() for item in answers.task.closed}
    for batch in answers.store.documents(kept_by=answers.kept_by, limit=limit):
        for document in batch:
            for item in answers.task.closed:
                found[item.name].add(document.id, chance.randrange(len(item.values)), chance.random())
    return found


def _churn(before: Mapping[str, Guesses], after: Mapping[str, Guesses]) -> float:
    """Share of the labels that are others than before, over all fields."""
    pairs = [(before[name].labels(), kept) for name, kept in after.items()]
    changed = sum(old.get(document) != top for old, kept in pairs for document, top in kept.labels().items())
    return changed / max(sum(len(kept.ids) for _, kept in pairs), 1)


def _summary(item: ClosedField, found: Guesses) -> JsonObject:
    counts = np.bincount(found.tops, minlength=len(item.values)).tolist() if found.tops else [0] * len(item.values)
    return {
        "labelled": len(found.ids),
        "classes": dict(zip(item.question.labels, counts, strict=True)),
        "mean_confidence": float(np.mean(found.confidence)) if found.confidence else None,
    }


def _shown(shots: Sequence[Sequence[Demonstration]]) -> list[Json]:
    """The examples of every shard, as the report keeps them."""
    return [[{"text": one.state, "answers": dict(one.answers)} for one in shard] for shard in shots]
