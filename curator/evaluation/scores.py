"""Scores of one arm against gold.

Shapes: n rows, k classes; classes are indices 0..k-1, -1 is an unanswered row, which counts as wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from curator.confidence import Bools, Floats, Ints
from curator.errors import InputError
from curator.types import JsonObject, Label

Metric = Callable[[Ints, Ints], float]
COVERAGES = (0.3, 0.5, 0.7, 1.0)
DRAWS = 1000
"""Resamples behind an interval: its ends then vary by a few hundredths of its width."""


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
class Arm:
    """One arm's answers to n rows: class indices `predicted` (n,), -1 where there is none; the
    distribution `probabilities` (n, k) and the `confidence` (n,) where the arm gives any, NaN for a
    row without. `basis` says what the confidence rests on, "" where nobody says."""

    predicted: Ints
    probabilities: Floats | None = None
    confidence: Floats | None = None
    basis: str = ""

    @classmethod
    def of(cls, probabilities: Floats, confidence: Floats | None = None, basis: str = "raw") -> Arm:
        """The arm that answers with the top of each distribution (n, k); a row with NaN is unanswered.
        Confidence is the top probability unless given."""
        missing: Bools = np.isnan(probabilities.sum(axis=1))
        predicted = np.where(missing, -1, np.where(missing[:, None], 0.0, probabilities).argmax(axis=1))
        return cls(predicted.astype(np.int64), probabilities, confidence, basis)

    @property
    def calibrated(self) -> bool:
        """Whether the confidence is a probability that something outside the model vouches for."""
        return Label(None, 0.0, self.basis).calibrated

    @property
    def sure(self) -> Floats | None:
        """The confidence (n,) that is scored: 0 for an unanswered row, None where the arm gives none."""
        given = self.confidence
        if given is None:
            if self.probabilities is None:
                return None
            given = self.probabilities.max(axis=1)
        result: Floats = np.where((self.predicted < 0) | np.isnan(given), 0.0, given)
        return result


@dataclass(frozen=True, slots=True)
class Scores:
    """What is measured of one arm. `precision` maps coverage to the precision of the most confident.

    `ece`, `precision` and `reliability` need a confidence, `brier` and `nll` (nats) a distribution;
    where the arm gives none they are None or empty. `confidence` is the mean of the answered rows.
    """

    rows: int
    answered: int
    accuracy: Interval
    macro_f1: Interval
    confidence: float | None
    ece: float | None
    brier: float | None
    nll: float | None
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


def bootstrap(metric: Metric, predicted: Ints, gold: Ints, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """`metric` with its 95% percentile interval over resampled rows (Efron 1979)."""
    values = [metric(predicted[rows], gold[rows]) for rows in resampled(len(gold), draws, seed)]
    return interval(metric(predicted, gold), values)


def paired_difference(
    metric: Metric, ours: Ints, theirs: Ints, gold: Ints, *, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """metric(ours) - metric(theirs) with its 95% interval, both scored on the same resampled rows."""
    values = [
        metric(ours[rows], gold[rows]) - metric(theirs[rows], gold[rows]) for rows in resampled(len(gold), draws, seed)
    ]
    return interval(metric(ours, gold) - metric(theirs, gold), values)


def resampled(rows: int, draws: int, seed: int) -> Iterator[Ints]:
    """Row numbers (rows,), drawn with replacement, `draws` times; the same ones for the same seed."""
    random = np.random.default_rng(seed)
    return (random.integers(0, rows, rows) for _ in range(draws))


def interval(value: float, values: Sequence[float] | Floats) -> Interval:
    """`value` with the 95% percentile interval of its resampled `values`."""
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(value, float(low), float(high))


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
    return score(Arm.of(probabilities, confidence), gold, seed=seed)


def score(arm: Arm, gold: Ints, *, seed: int = 0) -> Scores:
    """All scores of an arm against gold (n,); an unanswered row is wrong with confidence 0 and a
    uniform distribution. Raises: InputError unless there is one answer per gold row."""
    if len(arm.predicted) != len(gold) or not len(gold):
        raise InputError(f"{len(arm.predicted)} predictions for {len(gold)} gold labels")
    correct, sure, table = arm.predicted == gold, arm.sure, _filled(arm)
    answered = arm.predicted >= 0
    return Scores(
        len(gold),
        int(answered.sum()),
        _accuracy(arm.predicted, gold, seed),
        bootstrap(macro_f1, arm.predicted, gold, seed=seed),
        float(sure[answered].mean()) if sure is not None and answered.any() else None,
        None if sure is None else ece(sure, correct),
        None if table is None else brier(table, gold),
        None if table is None else nll(table, gold),
        {} if sure is None else precision_at(sure, correct),
        () if sure is None else reliability(sure, correct),
    )


def _accuracy(predicted: Ints, gold: Ints, seed: int) -> Interval:
    """Accuracy with its bootstrap interval. Where all rows are right, or all wrong, every resample is
    the same and the interval would be a point: then it is the exact binomial one (Clopper and Pearson
    1934), which has a closed form there."""
    found = bootstrap(accuracy, predicted, gold, seed=seed)
    if 0.0 < found.value < 1.0:
        return found
    least = 0.025 ** (1 / len(gold))
    return Interval(1.0, least, 1.0) if found.value else Interval(0.0, 0.0, 1.0 - least)


def _filled(arm: Arm) -> Floats | None:
    """The arm's distributions (n, k), uniform where there is none."""
    if arm.probabilities is None:
        return None
    missing = np.isnan(arm.probabilities).any(axis=1) | (arm.predicted < 0)
    return np.where(missing[:, None], 1.0 / arm.probabilities.shape[1], arm.probabilities)
