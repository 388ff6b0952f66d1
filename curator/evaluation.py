"""Scores against gold. The only module of the curator that sees gold, and only to report.

Every function takes `gold` explicitly; nothing here is called by selection, calibration or training.
Shapes: n rows, k classes; classes are indices 0..k-1, -1 is an unanswered row, which counts as wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from curator.confidence import Bools, Floats, Ints
from curator.errors import InputError
from curator.types import JsonObject

Metric = Callable[[Ints, Ints], float]
COVERAGES = (0.3, 0.5, 0.7, 1.0)


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with the ends of its bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Bin:
    """One row of a reliability table: rows whose confidence lies in [low, high)."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Scores:
    """What `evaluate` measures. `precision` maps coverage to the precision of the most confident."""

    rows: int
    accuracy: Interval
    macro_f1: Interval
    ece: float
    brier: float
    nll: float
    precision: dict[float, float]
    reliability: tuple[Bin, ...]

    def to_json(self) -> JsonObject:
        data: JsonObject = asdict(self)
        data["precision"] = {f"{share:g}": value for share, value in self.precision.items()}
        data["reliability"] = [asdict(item) for item in self.reliability]
        return data


def accuracy(predicted: Ints, gold: Ints) -> float:
    """Share of rows that are right."""
    return float((predicted == gold).mean())


def macro_f1(predicted: Ints, gold: Ints) -> float:
    """Mean over the classes that occur in gold of 2 tp / (predicted + actual)."""
    size = int(max(predicted.max(), gold.max())) + 1
    right = np.bincount(gold[predicted == gold], minlength=size)
    guessed = np.bincount(predicted[predicted >= 0], minlength=size)
    actual = np.bincount(gold, minlength=size)
    seen = actual > 0
    return float((2 * right[seen] / (guessed + actual)[seen]).mean())


def bootstrap(metric: Metric, predicted: Ints, gold: Ints, *, draws: int = 1000, seed: int = 0) -> Interval:
    """`metric` with its 95% percentile interval over resampled rows (Efron 1979)."""
    random = np.random.default_rng(seed)
    size = len(gold)
    values = [metric(predicted[rows], gold[rows]) for rows in (random.integers(0, size, size) for _ in range(draws))]
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(metric(predicted, gold), float(low), float(high))


def paired_difference(
    metric: Metric, ours: Ints, theirs: Ints, gold: Ints, *, draws: int = 1000, seed: int = 0
) -> Interval:
    """metric(ours) - metric(theirs) with its 95% interval, both scored on the same resampled rows."""
    random = np.random.default_rng(seed)
    size = len(gold)
    values = []
    for _ in range(draws):
        rows = random.integers(0, size, size)
        values.append(metric(ours[rows], gold[rows]) - metric(theirs[rows], gold[rows]))
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(metric(ours, gold) - metric(theirs, gold), float(low), float(high))


def reliability(confidence: Floats, correct: Bools, *, bins: int = 15) -> tuple[Bin, ...]:
    """Non-empty equal-width bins of confidence, with mean confidence and accuracy in each."""
    index = np.minimum((np.clip(confidence, 0.0, 1.0) * bins).astype(np.int64), bins - 1)
    return tuple(
        Bin(
            number / bins,
            (number + 1) / bins,
            int(chosen.sum()),
            float(confidence[chosen].mean()),
            float(correct[chosen].mean()),
        )
        for number in range(bins)
        if (chosen := index == number).any()
    )


def ece(confidence: Floats, correct: Bools, *, bins: int = 15) -> float:
    """Expected calibration error: mean over rows of |confidence - accuracy| of their bin (Guo et al.
    2017, arXiv 1706.04599, eq. 3; 15 equal-width bins as there)."""
    table = reliability(confidence, correct, bins=bins)
    rows = sum(item.rows for item in table)
    return sum(item.rows * abs(item.confidence - item.accuracy) for item in table) / rows


def brier(probabilities: Floats, gold: Ints) -> float:
    """Mean squared distance of the distribution (n, k) from the truth, 0..2 (Brier 1950)."""
    truth = np.eye(probabilities.shape[1])[gold]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def nll(probabilities: Floats, gold: Ints) -> float:
    """Mean negative log-likelihood of the truth in nats; probabilities are cut at 1e-12."""
    return float(-np.log(np.maximum(probabilities[np.arange(len(gold)), gold], 1e-12)).mean())


def precision_at(confidence: Floats, correct: Bools, coverages: Sequence[float] = COVERAGES) -> dict[float, float]:
    """Accuracy of the most confident share of rows, per share. Rows of equal confidence count with
    their mean, so that their order never matters."""
    order = np.argsort(-confidence, kind="stable")
    _, index = np.unique(-confidence[order], return_inverse=True)
    means = np.bincount(index, correct[order].astype(np.float64)) / np.bincount(index)
    running = np.cumsum(means[index])
    counts = {share: max(1, round(share * len(confidence))) for share in coverages}
    return {share: float(running[count - 1] / count) for share, count in counts.items()}


def evaluate(probabilities: Floats, gold: Ints, *, confidence: Floats | None = None, seed: int = 0) -> Scores:
    """All scores of distributions (n, k) against gold (n,). Confidence is the top probability unless
    given; an unanswered row (NaN) is wrong with confidence 0 and a uniform distribution."""
    if len(probabilities) != len(gold) or not len(gold):
        raise InputError(f"{len(probabilities)} predictions for {len(gold)} gold labels")
    missing: Bools = np.isnan(probabilities.sum(axis=1))
    table = np.where(missing[:, None], 1.0 / probabilities.shape[1], probabilities)
    predicted = np.where(missing, -1, table.argmax(axis=1)).astype(np.int64)
    sure = table.max(axis=1) if confidence is None else confidence
    sure = np.where(missing | np.isnan(sure), 0.0, sure)
    correct = predicted == gold
    return Scores(
        len(gold),
        bootstrap(accuracy, predicted, gold, seed=seed),
        bootstrap(macro_f1, predicted, gold, seed=seed),
        ece(sure, correct),
        brier(table, gold),
        nll(table, gold),
        precision_at(sure, correct),
        reliability(sure, correct),
    )
