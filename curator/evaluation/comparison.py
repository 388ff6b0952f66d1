"""Several arms on the same rows: every arm's scores, and paired tests against a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from curator.confidence import Bools, Ints
from curator.errors import InputError
from curator.evaluation.scores import Arm, Interval, Scores, accuracy, macro_f1, paired_difference, score
from curator.types import JsonObject


@dataclass(frozen=True, slots=True)
class Paired:
    """Exact McNemar test of two arms: `won` rows only ours is right on, `lost` rows only theirs is;
    `p` two-sided."""

    won: int
    lost: int
    p: float


@dataclass(frozen=True, slots=True)
class Difference:
    """An arm minus the baseline on the same rows. `p` is McNemar's, `p_holm` the same after Holm's
    correction for as many tests as there are arms beside the baseline."""

    accuracy: Interval
    macro_f1: Interval
    won: int
    lost: int
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Scores per arm in the order given, and what every arm but the baseline has over it."""

    rows: int
    baseline: str
    scores: dict[str, Scores]
    differences: dict[str, Difference]

    def to_json(self) -> JsonObject:
        return {
            "rows": self.rows,
            "baseline": self.baseline,
            "arms": {name: found.to_json() for name, found in self.scores.items()},
            "differences": {name: asdict(found) for name, found in self.differences.items()},
        }


def mcnemar(ours: Bools, theirs: Bools) -> Paired:
    """Exact McNemar test from per-row correctness (n,), (n,): if both arms were equally good, each row
    on which one alone is right would be a fair coin (McNemar 1947; binomial tails instead of
    chi-squared). Raises: InputError for other shapes."""
    if ours.shape != theirs.shape or ours.ndim != 1:
        raise InputError(f"arms must be scored on the same rows; their shapes are {ours.shape} and {theirs.shape}")
    won, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return Paired(won, lost, sign_test(won, lost))


def sign_test(won: int, lost: int) -> float:
    """Two-sided binomial probability of a split at least as uneven as this one under a fair coin."""
    total = won + lost
    term = tail = 1
    for drawn in range(min(won, lost)):
        term = term * (total - drawn) // (drawn + 1)
        tail += term
    # Whole numbers of any size: nothing overflows, and the one division is rounded correctly.
    return min(1.0, 2 * tail / (1 << total))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values that keep the chance of any false alarm among them (Holm 1979), in the same order."""
    adjusted: dict[str, float] = {}
    least = 0.0
    for number, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        least = max(least, min(1.0, (len(p_values) - number) * p))
        adjusted[name] = least
    return {name: adjusted[name] for name in p_values}


def compare(arms: Mapping[str, Arm], gold: Ints, *, baseline: str | None = None, seed: int = 0) -> Comparison:
    """All arms scored against gold (n,), and their paired differences to `baseline` (by default the
    first). Raises: InputError for no arm, an unknown baseline, or an arm on other rows."""
    if not arms:
        raise InputError("there is no arm to score")
    name = next(iter(arms)) if baseline is None else baseline
    if name not in arms:
        raise InputError(f"no arm is called {name!r}", hint=f"there is {', '.join(arms)}")
    scores = {key: score(arm, gold, seed=seed) for key, arm in arms.items()}
    base = arms[name].predicted
    others = {key: arm.predicted for key, arm in arms.items() if key != name}
    tests = {key: mcnemar(predicted == gold, base == gold) for key, predicted in others.items()}
    adjusted = holm({key: test.p for key, test in tests.items()})
    differences = {
        key: Difference(
            paired_difference(accuracy, predicted, base, gold, seed=seed),
            paired_difference(macro_f1, predicted, base, gold, seed=seed),
            tests[key].won,
            tests[key].lost,
            tests[key].p,
            adjusted[key],
        )
        for key, predicted in others.items()
    }
    return Comparison(len(gold), name, scores, differences)


@dataclass(frozen=True, slots=True)
class ClassScores:
    """One class of one arm: rows that gold has and that were predicted, and how well they match.
    `precision` is None where nothing was predicted, `recall` and `f1` where gold has no row."""

    name: str
    gold: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


def per_class(predicted: Ints, gold: Ints, names: tuple[str, ...]) -> tuple[ClassScores, ...]:
    """Precision, recall and F1 of every class, in the order of `names`."""
    found = []
    for index, name in enumerate(names):
        actual, guessed = int((gold == index).sum()), int((predicted == index).sum())
        right = int(((gold == index) & (predicted == index)).sum())
        found.append(
            ClassScores(
                name,
                actual,
                guessed,
                right / guessed if guessed else None,
                right / actual if actual else None,
                2 * right / (actual + guessed) if actual else None,
            )
        )
    return tuple(found)


def confusion(predicted: Ints, gold: Ints, classes: int) -> Ints:
    """Counts (classes, classes + 1): gold class by predicted class; the last column is unanswered."""
    table = np.zeros((classes, classes + 1), dtype=np.int64)
    known = predicted < classes
    np.add.at(table, (gold[known], predicted[known]), 1)
    return table
