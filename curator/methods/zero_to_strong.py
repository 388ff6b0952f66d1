"""Zero-to-strong generalisation (Liu et al. 2024, arXiv 2409.12425): a model teaches itself in rounds, no gold.

Each round annotates the corpus, takes the most confident rows of every class, and shows them as worked
examples in the next. The examples of a document come from the other shards of the corpus, so that no row
confirms itself. All documents of a shard share their examples as a prefix, which engines compute once.
A document's label is the mean of all rounds' answers.
Sampled fields are taught with whole texts, reasoning included, that gave the winning answer. Choices among many
options are asked in part, each document with examples of its own (`curator.methods.retrieval`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Generic, Literal, TypeVar

from curator.annotate import Progress
from curator.engines.base import Engine
from curator.errors import InputError, TaskError
from curator.labeling import Labeler
from curator.learning import Answers, Learned
from curator.methods.demonstrations import Chooser
from curator.methods.guesses import Found, Guesses, found_in, random_guesses
from curator.methods.lookup import LookUp, Retrieval, Space
from curator.methods.retrieval import Guide, suited
from curator.methods.solutions import choose
from curator.pipeline import Curation, Plan, answers_of, ask, check_labelled, describe, freeze, prepare, teach
from curator.requests import Prompting, shard_of
from curator.sources import Source
from curator.store import Run, Store
from curator.task import Output, Task
from curator.telemetry import stage_span
from curator.types import Demonstration, Json, JsonObject, Solved

Start = Literal["zero_shot", "random"]
Example = TypeVar("Example", Demonstration, Solved)


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often, and with which examples. The defaults are the paper's where it says.

    The rounds stop early when fewer than `churn` of the labels changed. `start` is what the first
    examples are taken from: the model's own answers without examples, or random labels. `shards` parts
    of the corpus have examples of their own, each from the other parts. `examples` are those of the
    closed fields, `solved` those of the sampled ones, whose `longest` counts text and answer.
    `retrieval` says how choices among many options are asked; `"auto"` takes the default there.
    """

    rounds: int = 3
    examples: Chooser = field(default_factory=Chooser)
    start: Start = "zero_shot"
    churn: float = 0.01
    shards: int = 2
    solved: Chooser = field(default_factory=lambda: Chooser(count=8, longest=1500))
    retrieval: Retrieval | Literal["auto"] | None = "auto"

    def __post_init__(self) -> None:
        counts = (self.examples.count, self.solved.count)
        if self.rounds < 1 or self.shards < 2 or min(counts) < 1:
            raise InputError(
                f"rounds is {self.rounds}, shards {self.shards}, examples {counts[0]}, solved {counts[1]}",
                hint="rounds, examples and solved are 1 or more, shards 2 or more",
            )


@dataclass(frozen=True, slots=True)
class _Round(Generic[Output]):
    """One round: who was asked how, what that taught, and the guesses that follow."""

    answers: Answers[Output]
    labeler: Labeler
    found: Found
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
    entry per round under `rounds`. Raises: TaskError if there is nothing to vote or decide on, or if
    sampled fields shall start with random labels; GoldlessError.
    """
    check_labelled(task)
    started, counts = time.monotonic(), progress or Progress()
    plan, rounds = plan or Plan(), rounds or Rounds()
    if task.sampled and rounds.start == "random":
        raise TaskError("sampled fields cannot start with random labels", hint="use start='zero_shot'")
    rounds = replace(rounds, retrieval=suited(rounds.retrieval, task))
    config: JsonObject = {"task": task.id, "engine": str(engine.identity), "plan": plan.describe()}
    config["improve"] = asdict(rounds)
    with store.run("improve", config) as run, stage_span("improve", task=task.id):
        report = config | await prepare(task, store, run, source, plan)
        answers = answers_of(task, store, engine, plan)
        # Denoised examples were measured to be no better ones, so only the final labels are denoised.
        guide = await asyncio.to_thread(_guide, plan, rounds)
        teaching = _Teaching(engine, run, replace(plan, denoising=None), rounds, counts, guide)
        last, history = await teaching.run(answers)
        labeler = await asyncio.to_thread(teach, last.answers, plan) if plan.denoising else last.labeler
        report |= {"annotation": describe(counts), "rounds": history, "fields": labeler.report()}
        version, chosen = await asyncio.to_thread(freeze, last.answers, run, labeler, plan, report)
    report |= {"selection": chosen, "seconds": round(time.monotonic() - started, 3)}
    return Curation(task, store, version, counts, report, Learned(last.answers, labeler))


@dataclass(frozen=True, slots=True)
class _Teaching:
    """What stays the same from round to round."""

    engine: Engine
    store_run: Run
    plan: Plan
    rounds: Rounds
    counts: Progress
    guide: Guide | None

    async def run(self, answers: Answers[Output]) -> tuple[_Round[Output], list[Json]]:
        """All rounds; returns the last one and a report of each."""
        history: list[Json] = []
        if self.rounds.start == "random":
            found = await asyncio.to_thread(random_guesses, answers, self.plan.limit, self.rounds.examples.seed)
        else:
            last = await self._round(await asyncio.to_thread(self._first, answers))
            answers, found, history = last.answers, last.found, [last.report]
        for number in range(1, self.rounds.rounds + 1):
            taught = await asyncio.to_thread(self._taught, answers, found, number)
            answers = answers.then(taught) if history else replace(answers, prompting=taught)
            last = await self._round(answers)
            churn = last.found.churn(found)
            history.append({**last.report, "churn": churn, **_shown(taught)})
            found = last.found
            if churn < self.rounds.churn:
                break
        return last, history

    async def _round(self, answers: Answers[Output]) -> _Round[Output]:
        """Ask about every document under the answers' prompting, and learn from what comes."""
        annotation = await ask(answers, self.engine, self.store_run, self.plan, self.counts)
        labeler = await asyncio.to_thread(teach, answers, self.plan)
        found = await asyncio.to_thread(found_in, answers, labeler)
        report: JsonObject = {
            "round": answers.prompting.round,
            "annotation": annotation,
            "fields": found.report(answers.task),
        }
        if isinstance(retriever := answers.prompting.retriever, LookUp):
            report["retrieval"] = retriever.report()
        return _Round(answers, labeler, found, report)

    def _first(self, answers: Answers[Output]) -> Answers[Output]:
        """What the round before any examples is answered under."""
        retriever = self.guide.look_up(answers, None) if self.guide else None
        return replace(answers, prompting=replace(answers.prompting, retriever=retriever))

    def _taught(self, answers: Answers[Output], found: Found, number: int) -> Prompting:
        """How round `number` is asked, after a round that was answered by `answers` and came to `found`."""
        retriever = self.guide.look_up(answers, found) if self.guide else None
        looked_up = {one.item.name for one in retriever.maps} if retriever else set()
        whole = {name: kept for name, kept in found.closed.items() if name not in looked_up}
        shots = self._shots(answers, whole) if whole else ((),)
        solved = self._solved(answers, found) if answers.task.sampled else ((),)
        return replace(answers.prompting, round=number, shots=shots, solved=solved, retriever=retriever)

    def _shots(
        self, answers: Answers[Output], found: Mapping[str, Guesses[int]]
    ) -> tuple[tuple[Demonstration, ...], ...]:
        """Each shard's examples of these fields, from the other shards. Raises: InputError if there are none."""
        count, chooser = self.rounds.shards, self.rounds.examples
        shards = {name: shard_of(name, count) for kept in found.values() for name in kept.ids}
        shots = tuple(
            chooser.choose(answers.task, answers.store, found, {name: at != shard for name, at in shards.items()})
            for shard in range(count)
        )
        return _all_shown(shots, chooser)

    def _solved(self, answers: Answers[Output], found: Found) -> tuple[tuple[Solved, ...], ...]:
        """Each shard's examples of the sampled fields. Raises: InputError if there are none."""
        chooser = self.rounds.solved
        return _all_shown(choose(answers, found.voted, chooser, self.rounds.shards), chooser)


def _guide(plan: Plan, rounds: Rounds) -> Guide | None:
    """What looks things up, if anything is to be. Raises: GoldlessError from the encoder."""
    if not isinstance(rounds.retrieval, Retrieval):
        return None
    return Guide(rounds.retrieval, Space.of(rounds.retrieval.encoder), plan.limit)


def _all_shown(shots: tuple[tuple[Example, ...], ...], chooser: Chooser) -> tuple[tuple[Example, ...], ...]:
    if not all(shots):
        raise InputError(
            f"no labelled text of at most {chooser.longest} characters can be shown as an example",
            hint="raise the longest example, or label more documents",
        )
    return shots


def _shown(prompting: Prompting) -> JsonObject:
    """The examples of every shard, as the report keeps them."""
    shown: JsonObject = {}
    if any(prompting.shots):
        shown["examples"] = [
            [{"text": one.state, "answers": dict(one.answers)} for one in shard] for shard in prompting.shots
        ]
    if any(prompting.solved):
        shown["solved"] = [[{"text": one.state, "reply": one.reply} for one in shard] for shard in prompting.solved]
    return shown
