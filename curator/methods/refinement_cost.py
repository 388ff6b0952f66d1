"""What refinement would take before it starts. Nothing is sent.

What is known of the weak answers and of the sentences about them is looked up in the store, so that an interrupted run
is told what is left of it; what is not there yet is taken to be as long as it can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic

from curator.engines.base import Engine, request_key
from curator.methods.forecast import CHARACTERS_PER_TOKEN, Step
from curator.methods.refined_rows import read_replies, written_answers
from curator.methods.refinement import CONCEPTS, Refining, check_free
from curator.methods.refinement_prompts import (
    CONCEPT_SAMPLING,
    Make,
    Method,
    Pairs,
    by_examples,
    concepts,
    improving,
    sentence,
    under_concepts,
)
from curator.pipeline import Plan
from curator.requests import Prompting
from curator.store import Store
from curator.task import Output, Task
from curator.types import Document, GenerateRequest, Sampling


def forecast_refinement(
    task: Task[Output], refining: Refining, store: Store | None, documents: Mapping[str, Document], plan: Plan
) -> list[Step]:
    """The weak model's step, if there is one, then those of the strong model. Raises: TaskError as `refine` does."""
    check_free(task)
    walk = _Walk(task, refining, store, documents, plan)
    plain = Prompting(long_text=plan.long_text)
    if refining.weak is not None:
        walk.step("weak", refining.weak_task(task), refining.weak, plain)
    pairs = Pairs(documents, walk.weak_answers(plain), refining.batch, refining.seed)
    walk.step("base", task, refining.strong, plain)
    for method in refining.methods:
        prompting = refining.told(method, walk.make(method, pairs), plan)
        walk.step(method, task, refining.strong, prompting)
    return walk.steps


@dataclass
class _Walk(Generic[Output]):
    """Goes through the steps as far as the store knows their answers."""

    task: Task[Output]
    refining: Refining
    store: Store | None
    documents: Mapping[str, Document]
    plan: Plan
    steps: list[Step] = field(default_factory=list)

    def step(self, name: str, task: Task[Output], engine: Engine, prompting: Prompting) -> None:
        """Count the requests of one turn."""
        asked = [one for document in self.documents.values() for _, one in prompting.requests(task, document)]
        requests = [one for one in asked if isinstance(one, GenerateRequest)]
        keys = [request_key(engine.identity, one) for one in requests]
        known = self.store.known(keys) if self.store else {}
        left = [one for key, one in zip(keys, requests, strict=True) if key not in known]
        characters = sum(len(message.content) for one in left for message in one.messages)
        most = sum(one.n * one.sampling.max_tokens for one in left)
        counts = len(keys) - len(left), len(left), characters // CHARACTERS_PER_TOKEN, most
        self.steps.append(Step(name, engine.identity, *counts, 1))

    def weak_answers(self, prompting: Prompting) -> dict[str, str]:
        """Those that are known; for those to come, texts as long as they may be."""
        weak = self.refining.weak
        if weak is None:
            return written_answers(self.documents, self.refining.column).texts
        asked = prompting.annotation_id(self.refining.weak_task(self.task), weak.identity)
        return self._known(asked, list(self.documents), self.task.sampling)

    def make(self, method: Method, pairs: Pairs) -> Make:
        """How a method asks. The sentences about batches are a step of their own before it."""
        if method == "icl":
            return by_examples(self.task, pairs)
        if method == "improve":
            return improving(self.task, pairs)
        told = self.refining.told(CONCEPTS, concepts(pairs), self.plan)
        self.step(CONCEPTS, self.task, self.refining.strong, told)
        asked = told.annotation_id(self.task, self.refining.strong.identity)
        firsts = list(dict.fromkeys(pairs.batch(name)[0] for name in pairs.answers))
        said = self._known(asked, firsts, CONCEPT_SAMPLING)
        return under_concepts(self.task, pairs, {name: sentence(text) for name, text in said.items()})

    def _known(self, asked: str, names: list[str], sampling: Sampling) -> dict[str, str]:
        found = read_replies(self.store, asked, frozenset(names)).texts if self.store else {}
        longest = "x" * (CHARACTERS_PER_TOKEN * sampling.max_tokens)
        return {name: found.get(name, longest) for name in names}
