"""Worked examples chosen from a model's own labels: the most confident rows of every class, no gold."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from curator.fields import ClosedField
from curator.methods.guesses import Guesses
from curator.store import Store
from curator.task import Output, Task
from curator.types import Demonstration

POOL = 4
"""Examples are drawn from so many times the quota of the most confident rows: the very surest rows of a
class are near-copies of each other, and teach less."""


@dataclass(frozen=True, slots=True)
class Chooser:
    """How examples are chosen: `count` per prompt and field, shared out evenly among its classes, from
    texts of at most `longest` characters."""

    count: int = 16
    longest: int = 600
    seed: int = 0

    def choose(
        self, task: Task[Output], store: Store, found: Mapping[str, Guesses[int]], allowed: Mapping[str, bool]
    ) -> tuple[Demonstration, ...]:
        """Examples for the closed fields in `found`, from the documents that `allowed` holds true for. A
        class that no such document is labelled with has none."""
        shown: list[Demonstration] = []
        for item in (item for item in task.closed if item.name in found):
            for option, names in self._candidates(item, found[item.name], allowed).items():
                texts = self._texts(store, names, self._quota(item))
                label = item.question.labels[option]
                shown += [Demonstration(text, {item.name: label}) for text in texts]
        # Examples of one class in a row would teach to repeat the last one.
        random.Random(self.seed).shuffle(shown)
        return tuple(shown)

    def _quota(self, item: ClosedField) -> int:
        return max(1, self.count // len(item.values))

    def _candidates(self, item: ClosedField, found: Guesses[int], allowed: Mapping[str, bool]) -> dict[int, list[str]]:
        """Class -> the documents that may be shown for it, in the order in which they are tried."""
        ranked: dict[int, list[str]] = defaultdict(list)
        for row in np.argsort(-np.asarray(found.confidence), kind="stable"):
            if allowed.get(found.ids[row], False):
                ranked[found.tops[row]].append(found.ids[row])
        surest = self._quota(item) * POOL
        chance = random.Random(f"{self.seed}:{item.name}")
        for names in ranked.values():
            first = names[:surest]
            chance.shuffle(first)
            names[:surest] = first
        return dict(sorted(ranked.items()))

    def _texts(self, store: Store, names: Sequence[str], wanted: int) -> list[str]:
        """The first `wanted` texts that are short enough, each one once."""
        texts: list[str] = []
        for name in names:
            if len(texts) == wanted:
                break
            document = store.document(name)
            if document is not None and len(document.text) <= self.longest and document.text not in texts:
                texts.append(document.text)
        return texts
