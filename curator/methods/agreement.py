"""Progressive weak-to-strong learning, Stage I (Yang et al. 2024, arXiv 2407.13647): learn from what both models say.

The weak model answers greedily; the strong one answers greedily after worked examples that the weak one wrote. What
both answer the same is kept, and both rationales are trained on. In the next round the strong model is asked again:
after it was fine-tuned on the kept set, or after examples from it. No gold anywhere: `curator.evaluation.agreed`
scores the rounds afterwards.

Answers are the same by value (`curator.equivalence`). Of a document and its examples the rule of
`curator.methods.zero_to_strong` holds: examples come from the other shards of the corpus.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Generic

from curator.annotate import Progress
from curator.engines.base import Engine
from curator.errors import InputError
from curator.learning import Answers
from curator.methods.agreed_rows import Kept, freeze_kept, kept_of
from curator.methods.demonstrations import Chooser
from curator.methods.replies import Reply, demonstrations, greedy, replies
from curator.pipeline import Plan, answers_of, ask_apart, prepare
from curator.sources import Source
from curator.store import DatasetVersion, Run, Store
from curator.task import Output, Task
from curator.telemetry import stage_span
from curator.types import Json, JsonObject


@dataclass(frozen=True, slots=True)
class Agreement:
    """How Stage I goes. The defaults are the paper's: two rounds, four examples.

    `examples` says how many there are per prompt and how long one may be, question and text together. `shards` parts
    of the corpus have examples of their own, each from the other parts. With `arithmetic` a rationale that calculates
    wrongly is not trained on (`curator.methods.rationales`).
    """

    rounds: int = 2
    examples: Chooser = field(default_factory=lambda: Chooser(count=4, longest=1500))
    shards: int = 2
    arithmetic: bool = False

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.shards < 2 or self.examples.count < 1:
            raise InputError(
                f"rounds is {self.rounds}, shards {self.shards}, examples {self.examples.count}",
                hint="rounds and examples are 1 or more, shards 2 or more",
            )


@dataclass(frozen=True, slots=True)
class Setup:
    """Who answers, and how Stage I goes. `tuned` is the strong model fine-tuned on the first round's kept set: it is
    asked in the round after, as the task says, without examples. Without it, `strong` is asked with examples from
    that set."""

    weak: Engine
    strong: Engine
    tuned: Engine | None = None
    agreement: Agreement = field(default_factory=Agreement)

    def describe(self) -> JsonObject:
        """The identities and the settings, as the run and its versions keep them."""
        tuned = {"tuned": str(self.tuned.identity)} if self.tuned else {}
        names: JsonObject = {"weak_engine": str(self.weak.identity), "engine": str(self.strong.identity), **tuned}
        return {**names, "agreement": asdict(self.agreement)}

    def asked_in(self, number: int) -> Engine:
        """Who is asked in round `number`."""
        return self.tuned if self.tuned is not None and number > 1 else self.strong

    def answers(self, shower: Answers[Output], shown: Mapping[str, Reply], number: int, plan: Plan) -> Answers[Output]:
        """How that model is asked: the fine-tuned one plainly, the other one after examples that `shower` wrote, of
        the documents `shown`. Raises: InputError if none of them can be shown."""
        asked = answers_of(shower.task, shower.store, self.asked_in(number), plan)
        if self.tuned is not None and number > 1:
            return asked
        chooser = self.agreement.examples
        solved = demonstrations(shower, shown, chooser, self.agreement.shards)
        if not all(solved):
            raise InputError(
                f"no answered text of at most {chooser.longest} characters can be shown as an example",
                hint="raise the longest example or max_tokens, or answer more documents",
            )
        return replace(asked, prompting=replace(asked.prompting, round=number, solved=solved))


@dataclass(frozen=True, slots=True)
class Round(Generic[Output]):
    """One round: what the strong model was asked as (`answers`), which documents were kept, and the training set."""

    answers: Answers[Output]
    kept: Kept
    version: DatasetVersion
    report: JsonObject


@dataclass(frozen=True)
class Agreed(Generic[Output]):
    """What `agree` returns. `weak` are the weak model's answers, `rounds` those of the strong one; the training set is
    the last round's `version`."""

    task: Task[Output]
    store: Store
    weak: Answers[Output]
    rounds: tuple[Round[Output], ...]
    progress: Progress
    report: JsonObject

    @property
    def version(self) -> DatasetVersion:
        return self.rounds[-1].version


async def agree(
    task: Task[Output],
    setup: Setup,
    store: Store,
    *,
    source: Source | None = None,
    plan: Plan | None = None,
    progress: Progress | None = None,
) -> Agreed[Output]:
    """Keep the documents of the store (those of `source` are added first) that both models answer the same, in rounds.

    An engine is closed before the next one starts, so that two models in this process need no memory at the same
    time; the last one is the caller's to close. Calling again asks only what has not been answered.
    Raises: TaskError for a task without one final answer; InputError if nothing can be shown as an example, or if
    nothing is kept; GoldlessError.
    """
    started, counts = time.monotonic(), progress or Progress()
    plan = plan or Plan()
    asked = greedy(task)
    config: JsonObject = {"task": task.id, "plan": plan.describe(), **setup.describe()}
    with store.run("progressive", config) as run, stage_span("progressive", task=task.id):
        report = config | await prepare(task, store, run, source, plan)
        store.save_task(asked.id, asked.spec)
        teaching = _Teaching(setup, run, plan, counts)
        weak = answers_of(asked, store, setup.weak, plan)
        report["weak"] = await teaching.ask(weak, setup.weak)
        await setup.weak.aclose()
        rounds = await teaching.rounds(task, weak, report)
    history: list[Json] = [one.report for one in rounds]
    report |= {"rounds": history, "seconds": round(time.monotonic() - started, 3)}
    return Agreed(task, store, weak, rounds, counts, report)


@dataclass(frozen=True, slots=True)
class _Teaching:
    """What stays the same from round to round."""

    setup: Setup
    run: Run
    plan: Plan
    counts: Progress

    async def ask(self, answers: Answers[Output], engine: Engine) -> JsonObject:
        """Have every document answered; returns the report of this turn alone."""
        return await ask_apart(answers, engine, self.run, self.plan, self.counts)

    async def rounds(self, task: Task[Output], weak: Answers[Output], about: JsonObject) -> tuple[Round[Output], ...]:
        """All rounds, the strong model asked anew in each."""
        found: list[Round[Output]] = []
        said = await asyncio.to_thread(dict, replies(weak))
        shown, shower = said, weak
        for number in range(1, self.setup.agreement.rounds + 1):
            engine = self.setup.asked_in(number)
            work = partial(self.setup.answers, shower, shown, number, self.plan)
            answers = await asyncio.to_thread(work)
            annotation = await self.ask(answers, engine)
            pair = partial(self._round, task, (weak, answers), number, {**about, "annotation": annotation})
            found.append(await asyncio.to_thread(pair))
            if engine is self.setup.tuned:
                break  # asked the same way again it would say the same
            if self.setup.tuned is not None:
                await engine.aclose()
            theirs = await asyncio.to_thread(dict, replies(answers))
            shown, shower = {name: theirs[name] for name in found[-1].kept.ids}, answers
        return tuple(found)

    def _round(
        self, task: Task[Output], pair: tuple[Answers[Output], Answers[Output]], number: int, about: JsonObject
    ) -> Round[Output]:
        weak, answers = pair
        kept = kept_of(weak, answers, self.plan.limit)
        taught = "none" if not any(answers.prompting.solved) else "weak" if number == 1 else "kept"
        report: JsonObject = {"round": number, "examples": taught, "strong": str(answers.identity), **kept.report()}
        policy: JsonObject = {"progressive": asdict(self.setup.agreement) | {"round": number}}
        version, rows = freeze_kept(task, (weak, answers), kept, self.run, policy, {**about, **report})
        return Round(answers, kept, version, {**report, **rows, "annotation": about["annotation"]})
