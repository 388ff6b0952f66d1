"""What one round of answers says: per document its best option or winning value, and the confidence in it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np

from curator.fields import ClosedField
from curator.labeling import Labeler, sampled_labels
from curator.learning import Answers
from curator.task import Output, Task
from curator.types import JsonObject

Top = TypeVar("Top", int, str)
"""The place of an option, or a voted value as JSON text."""


@dataclass(slots=True)
class Guesses(Generic[Top]):
    """One field's guesses; nothing for a document without an answer."""

    ids: list[str] = field(default_factory=list)
    tops: list[Top] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)

    def add(self, document_id: str, top: Top, confidence: float) -> None:
        self.ids.append(document_id)
        self.tops.append(top)
        self.confidence.append(confidence)

    def labels(self) -> dict[str, Top]:
        """Document -> best option or value."""
        return dict(zip(self.ids, self.tops, strict=True))

    def changed(self, before: Guesses[Top]) -> int:
        """How many documents have another top than before, or had none."""
        old = before.labels()
        return sum(old.get(name) != top for name, top in zip(self.ids, self.tops, strict=True))

    @property
    def mean_confidence(self) -> float | None:
        return float(np.mean(self.confidence)) if self.confidence else None


@dataclass(frozen=True, slots=True)
class Found:
    """Field -> guesses: the closed fields' options, and the voted fields' values with their discounted
    vote shares as confidence."""

    closed: Mapping[str, Guesses[int]]
    voted: Mapping[str, Guesses[str]]

    @classmethod
    def empty(cls, task: Task[Output]) -> Found:
        return cls({item.name: Guesses() for item in task.closed}, {item.name: Guesses() for item in task.voted})

    def churn(self, before: Found) -> float:
        """Share of the labels that are others than before, over all fields."""
        changed = sum(kept.changed(before.closed[name]) for name, kept in self.closed.items())
        changed += sum(kept.changed(before.voted[name]) for name, kept in self.voted.items())
        labelled = sum(len(kept.ids) for kept in self.closed.values()) + sum(
            len(kept.ids) for kept in self.voted.values()
        )
        return changed / max(labelled, 1)

    def report(self, task: Task[Output]) -> JsonObject:
        """Per field: how many documents are labelled, as what, and how surely."""
        closed = {item.name: _summary(item, self.closed[item.name]) for item in task.closed}
        voted: JsonObject = {
            name: {
                "labelled": len(kept.ids),
                "different_values": len(set(kept.tops)),
                "mean_confidence": kept.mean_confidence,
            }
            for name, kept in self.voted.items()
        }
        return {**closed, **voted}


def found_in(answers: Answers[Output], labeler: Labeler) -> Found:
    """All fields' guesses, out of the answers in the store."""
    found = Found.empty(answers.task)
    for page in answers.pages() if found.closed else ():
        for name, kept in found.closed.items():
            aggregated = labeler.aggregate(page, name)
            for i, top in enumerate(aggregated.top):
                if top is not None:
                    kept.add(page.ids[i], top, float(aggregated.confidence[i]))
    for table in sampled_labels(answers.task, labeler, answers.samples()) if found.voted else ():
        columns = (table[name].to_pylist() for name in ("document_id", "field", "value", "confidence"))
        for document, name, value, confidence in zip(*columns, strict=True):
            if name in found.voted and value is not None:
                found.voted[name].add(document, value, confidence)
    return found


def random_guesses(answers: Answers[Output], limit: int | None, seed: int) -> Found:
    """Labels of the closed fields drawn at random for all documents: the paper's other start."""
    chance, found = random.Random(seed), Found.empty(answers.task)
    for batch in answers.store.documents(kept_by=answers.kept_by, limit=limit):
        for document in batch:
            for item in answers.task.closed:
                found.closed[item.name].add(document.id, chance.randrange(len(item.values)), chance.random())
    return found


def _summary(item: ClosedField, found: Guesses[int]) -> JsonObject:
    counts = np.bincount(found.tops, minlength=len(item.values)).tolist() if found.tops else [0] * len(item.values)
    return {
        "labelled": len(found.ids),
        "classes": dict(zip(item.question.labels, counts, strict=True)),
        "mean_confidence": found.mean_confidence,
    }
