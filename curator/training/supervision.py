"""What a head learns from: weak labels as probabilities, with weights; checked, and split for early stopping."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from curator.errors import InputError
from curator.types import Question, Template

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FEWEST = 10
"""Rows below which nothing is trained: early stopping and every figure would be noise."""
_LOWER = "select with a lower confidence threshold, annotate more documents"


@dataclass(frozen=True, slots=True)
class Supervision:
    """The weak labels of one closed field.

    `targets` (n, k) holds the probability of every option per row, in the question's option order; `weights` (n,)
    what a row's loss is multiplied with, 0 for a row that has no label. With a `template` the head reads the whole
    prompt (what a causal model wants), without one the text alone. `dataset` names the rows (a version's hash).
    """

    question: Question
    targets: Floats
    weights: Floats
    template: Template | None = None
    dataset: str = ""

    @staticmethod
    def of_labels(
        question: Question, labels: Sequence[str | None], weights: Sequence[float] | None = None, dataset: str = ""
    ) -> Supervision:
        """From hard labels; None is a row without a label.

        Raises: InputError for a label that is no option.
        """
        places = {label: place for place, label in enumerate(question.labels)}
        if unknown := sorted({label for label in labels if label is not None and label not in places}):
            raise InputError(f"{unknown[0]!r} is no option of {question.name!r}", hint=f"options: {', '.join(places)}")
        targets = np.full((len(labels), len(places)), 1.0 / len(places))
        known = np.array([label is not None for label in labels], dtype=bool)
        rows = np.flatnonzero(known)
        targets[rows] = np.eye(len(places))[[places[label] for label in labels if label is not None]]
        given = np.ones(len(labels)) if weights is None else np.asarray(weights, dtype=np.float64)
        return Supervision(question, targets, np.where(known, given, 0.0), dataset=dataset)

    @property
    def digest(self) -> str:
        """Hash (hex, 128 bit) of question and labels."""
        asked = orjson.dumps(asdict(self.question)) + orjson.dumps(asdict(self.template) if self.template else None)
        digest = hashlib.blake2b(asked, digest_size=16)
        digest.update(np.ascontiguousarray(self.targets, dtype=np.float64).tobytes())
        digest.update(np.ascontiguousarray(self.weights, dtype=np.float64).tobytes())
        return digest.hexdigest()


def check_supervision(rows: int, targets: Floats, weights: Floats, labels: Sequence[str]) -> None:
    """Refuse weak labels that no classifier can learn from. `rows` is how many texts there are.

    Raises: InputError that says what is wrong and what to do.
    """
    check_targets(rows, targets, weights, len(labels))
    used = weights > 0
    _check_classes(int(used.sum()), np.bincount(targets[used].argmax(axis=1), minlength=len(labels)), labels)


def check_targets(rows: int, targets: Floats, weights: Floats, options: int) -> None:
    """Refuse targets that are no distributions over the options, and weights that are none.

    Raises: InputError that says what is wrong and what to do.
    """
    if targets.shape != (rows, options):
        raise InputError(f"targets must be {rows} rows x {options} options, not {targets.shape}")
    if weights.shape != (rows,):
        raise InputError(f"weights must be one per row ({rows}), not {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise InputError("a weight is negative, infinite or NaN", hint="weights are 0 or more; 0 leaves a row out")
    used = weights > 0
    sums = np.abs(targets.sum(axis=1) - 1)
    bad = used & ~(np.isfinite(targets).all(axis=1) & (targets >= 0).all(axis=1) & (sums < 1e-3))
    if bad.any():
        raise InputError(
            f"row {int(bad.argmax())} of the targets is no distribution: {targets[bad.argmax()].tolist()}",
            hint="each row holds probabilities that sum to 1; give a row without a label weight 0",
        )


def _check_classes(rows: int, counts: Ints, labels: Sequence[str]) -> None:
    if rows < FEWEST:
        raise InputError(f"{rows} labelled rows are too few to train on; {FEWEST} is the least", hint=_LOWER)
    absent = [label for label, count in zip(labels, counts, strict=True) if not count]
    if len(absent) == len(labels) - 1:
        only = labels[int(counts.argmax())]
        raise InputError(
            f"every row is labelled {only!r}: there is nothing to tell apart",
            hint=f"{_LOWER}, or select with class-balanced quotas; one label for all may also be a bad prompt",
        )
    if absent:
        raise InputError(
            f"no row is labelled {', '.join(map(repr, absent))}",
            hint=f"{_LOWER}, or take these options out of the question",
        )


def strata(targets: Sequence[Floats], weights: Sequence[Floats]) -> Ints:
    """A number (n,) per combination of the fields' most probable labels; -1 for a row without any weight."""
    tops = [np.where(w > 0, t.argmax(axis=1), -1) for t, w in zip(targets, weights, strict=True)]
    used = np.any([top >= 0 for top in tops], axis=0)
    _, numbers = np.unique(np.stack(tops, axis=1), axis=0, return_inverse=True)
    return np.where(used, numbers.reshape(-1), -1).astype(np.int64)


def split(groups: Ints, share: float, seed: int) -> tuple[Ints, Ints]:
    """Rows to train on and rows to validate on, in a seeded order, of those whose group (see `strata`) is not -1.
    `share` of each group goes to validation, but never its last row."""
    generator = np.random.default_rng(seed)
    held = [np.empty(0, dtype=np.int64)]
    for group in np.unique(groups[groups >= 0]):
        rows = generator.permutation(np.flatnonzero(groups == group))
        held.append(rows[: min(round(share * len(rows)), len(rows) - 1)])
    validation = np.concatenate(held)
    train = generator.permutation(np.setdiff1d(np.flatnonzero(groups >= 0), validation))
    return train.astype(np.int64), validation.astype(np.int64)
