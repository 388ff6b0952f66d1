"""Refinement (Somerstep et al. 2024, arXiv 2405.16236): weak answers are written anew before they are trained on.

Training on raw weak answers passes their mistakes on. So the strong model sees what the weak answers have that it does
not (a voice, a format, a habit), and answers itself: after the other answers of a batch as worked examples (`icl`),
under a sentence that says what a batch has in common (`infer`), or by improving each answer (`improve`). Its own
answers without any of that (`base`) are always there to compare with: refinement keeps a model from getting worse, and
whether it does better than the untouched one must be looked at.

Every arm becomes a dataset version, the weak answers too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, get_args

from curator.annotate import Progress, annotate
from curator.engines.base import Engine
from curator.errors import ConfigError, InputError, TaskError
from curator.methods.refined_rows import Arm, Replies, freeze_arm, read_replies, written_answers
from curator.methods.refinement_prompts import (
    Make,
    Method,
    Pairs,
    Told,
    by_examples,
    concepts,
    improving,
    sentence,
    under_concepts,
)
from curator.pipeline import Plan, copied, describe, prepare, taken
from curator.requests import Prompting
from curator.sources import Source
from curator.store import DatasetVersion, Run, Store
from curator.task import Output, Task
from curator.telemetry import stage_span
from curator.types import Document, JsonObject

METHODS: tuple[Method, ...] = get_args(Method)
CONCEPTS = "concepts"


@dataclass(frozen=True, slots=True)
class Refining:
    """Who answers, and how. The defaults are the paper's: batches of five.

    The weak answers are those of the engine `weak`, which is told `weak_instruction` in place of the task's own where
    that is given, or stand beside the documents' texts in the column `column`. `seed` draws the batches.
    Raises: ConfigError.
    """

    strong: Engine
    weak: Engine | None = None
    weak_instruction: str | None = None
    column: str = ""
    methods: Sequence[Method] = METHODS
    batch: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.weak is None) == (not self.column):
            raise ConfigError(
                "refinement needs weak answers, from one place",
                hint="name the engine that gives them, or the column that they stand in",
            )
        if not self.methods or set(self.methods) - set(METHODS):
            raise ConfigError(f"methods is {list(self.methods)}", hint=f"one or more of {', '.join(METHODS)}")
        if self.batch < 2:
            raise ConfigError(f"batch is {self.batch}", hint="2 or more: the others of a batch are the examples")

    @property
    def written_by(self) -> str:
        """Who gave the weak answers."""
        return str(self.weak.identity) if self.weak else f"the column {self.column}"

    def weak_task(self, task: Task[Output]) -> Task[Output]:
        """What the weak engine is asked."""
        return task if self.weak_instruction is None else replace(task, instruction=self.weak_instruction)

    def settings(self) -> JsonObject:
        """All that decides which texts come out, but for the task."""
        return {
            "engine": str(self.strong.identity),
            "weak": self.written_by,
            "weak_instruction": self.weak_instruction,
            "batch": self.batch,
            "seed": self.seed,
        }

    def told(self, arm: str, make: Make, plan: Plan) -> Told:
        """How the documents of one of the strong model's arms are asked."""
        mark = repr((arm, self.written_by, self.weak_instruction, self.batch, self.seed))
        return Told(long_text=plan.long_text, mark=mark, make=make)


@dataclass(frozen=True)
class Refined(Generic[Output]):
    """The version of each arm that has rows (`weak`, `base`, and the methods), and a report of how they came about."""

    task: Task[Output]
    store: Store
    versions: Mapping[str, DatasetVersion]
    progress: Progress
    report: JsonObject


async def refine(
    task: Task[Output],
    store: Store,
    refining: Refining,
    *,
    source: Source | None = None,
    plan: Plan | None = None,
    progress: Progress | None = None,
) -> Refined[Output]:
    """Have the store's documents (those of `source` are added first) answered by the weak and the strong model, and
    the weak answers refined; freeze what each arm says.

    Of `plan`, the screening, the limit and what to do with long texts count. Calling again asks only what has not been
    answered. The texts are held in memory. Raises: TaskError for a task whose answers are no free texts; InputError
    without a weak answer; GoldlessError.
    """
    check_free(task)
    started, counts, plan = time.monotonic(), progress or Progress(), plan or Plan()
    config: JsonObject = {"task": task.id, **refining.settings(), "methods": list(refining.methods)}
    with store.run("refine", config) as run, stage_span("refine", task=task.id):
        report = config | await prepare(task, store, run, source, plan)
        documents = await asyncio.to_thread(documents_of, store, plan)
        work = _Refinement(task, refining, plan, run, counts, documents)
        arms = await work.arms(store)
        report["annotation"] = describe(counts)
        report["arms"] = {
            name: arm.report({other: arms[other] for other in ("weak", "base")}) for name, arm in arms.items()
        }
        report |= {CONCEPTS: dict(work.concepts)} if work.concepts else {}
        versions = {
            name: await asyncio.to_thread(freeze_arm, task, store, run, arm, refining.settings(), report)
            for name, arm in arms.items()
        }
    report |= {"seconds": round(time.monotonic() - started, 3)}
    return Refined(task, store, {name: one for name, one in versions.items() if one}, counts, report)


def check_free(task: Task[Output]) -> None:
    """Raises: TaskError."""
    if not task.free:
        raise TaskError(
            "refinement is of answers that are texts, kept as they are",
            hint='use curator.respond, or answer_format = "free" and one field of the kind "reasoning"',
        )


def documents_of(store: Store, plan: Plan) -> dict[str, Document]:
    """The documents that are answered, by id."""
    pages = store.documents(kept_by=plan.screening.key, limit=plan.limit)
    return {document.id: document for page in pages for document in page}


@dataclass
class _Refinement(Generic[Output]):
    """One run's arms."""

    task: Task[Output]
    refining: Refining
    plan: Plan
    run: Run
    counts: Progress
    documents: Mapping[str, Document]
    concepts: dict[str, str] = field(default_factory=dict)

    async def arms(self, store: Store) -> dict[str, Arm]:
        """All arms, the weak one first."""
        arms = {"weak": _answered(await self._weak(store))}
        pairs = Pairs(self.documents, arms["weak"].replies.texts, self.refining.batch, self.refining.seed)
        arms["base"] = _answered(await self._strong(store, "base", None, list(self.documents)))
        for method in self.refining.methods:
            arms[method] = await self._strong(
                store, method, await self._make(store, method, pairs), list(pairs.answers)
            )
        return arms

    async def _weak(self, store: Store) -> Arm:
        weak, task = self.refining.weak, self.refining.weak_task(self.task)
        if weak is None:
            return Arm("weak", self.refining.written_by, written_answers(self.documents, self.refining.column), {})
        prompting = Prompting(long_text=self.plan.long_text)
        replies, annotation = await self._asked(store, (task, weak, prompting), list(self.documents))
        if weak is not self.refining.strong:
            # Its memory is the strong model's from here on.
            await weak.aclose()
        return Arm("weak", self.refining.written_by, replies, annotation)

    async def _make(self, store: Store, method: Method, pairs: Pairs) -> Make:
        if method == "icl":
            return by_examples(self.task, pairs)
        if method == "improve":
            return improving(self.task, pairs)
        firsts = list(dict.fromkeys(pairs.batch(name)[0] for name in pairs.answers))
        asked = await self._strong(store, CONCEPTS, concepts(pairs), firsts)
        self.concepts |= {name: sentence(text) for name, text in asked.replies.texts.items()}
        return under_concepts(self.task, pairs, self.concepts)

    async def _strong(self, store: Store, arm: str, make: Make | None, names: Sequence[str]) -> Arm:
        plain = Prompting(long_text=self.plan.long_text)
        prompting = plain if make is None else self.refining.told(arm, make, self.plan)
        asked = [name for name in names if make is None or make(self.documents[name]) is not None]
        strong = self.refining.strong
        replies, annotation = await self._asked(store, (self.task, strong, prompting), asked)
        if len(names) > len(asked):
            replies.missing["not_asked"] += len(names) - len(asked)
        return Arm(arm, str(strong.identity), replies, annotation)

    async def _asked(
        self, store: Store, how: tuple[Task[Output], Engine, Prompting], names: Sequence[str]
    ) -> tuple[Replies, JsonObject]:
        """Have these documents answered; what came, and what it took."""
        (task, engine, prompting), counts = how, self.counts
        store.save_task(task.id, task.spec)
        counts.total, before = counts.done + len(names), copied(counts)
        pages = _pages(self.documents, names)
        try:
            with stage_span("annotate", rows=len(names)):
                await annotate(pages, task, engine, self.run, prompting=prompting, progress=counts)
        finally:
            self.run.flush()
        asked = prompting.annotation_id(task, engine.identity)
        replies = await asyncio.to_thread(read_replies, store, asked, frozenset(names))
        return replies, describe(taken(counts, before))


def _answered(arm: Arm) -> Arm:
    """The arm itself. Raises: InputError if there is not one text in it."""
    if arm.replies.texts:
        return arm
    missing = ", ".join(f"{why}: {count}" for why, count in arm.replies.missing.items())
    raise InputError(
        f"the {arm.name} arm has no answer to any document ({missing}), from {arm.written_by}",
        hint="see the name of the column or the engine; a higher max_tokens helps where answers are cut off",
    )


def _pages(documents: Mapping[str, Document], names: Sequence[str], size: int = 1024) -> Iterable[list[Document]]:
    chosen = [documents[name] for name in names]
    return (chosen[start : start + size] for start in range(0, len(chosen), size))
