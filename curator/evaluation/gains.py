"""Weak-to-strong figures: performance gap recovered, misfit, and rank correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from curator.confidence import Bools, Floats, Ints
from curator.errors import InputError
from curator.evaluation.scores import DRAWS, Interval, interval, resampled
from curator.types import JsonObject

MIN_GAP = 0.05
"""A gap of five points or less is too small to be divided by: a published plot shows a PGR of 0.81
where every accuracy is about 0.49."""
MIN_ERRORS = 3.0
"""A gap must exceed so many of its own standard errors."""
TINY = 1e-12
"""Probabilities are cut here before a logarithm is taken."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """Accuracies of three arms on the same `rows`, and the performance gap recovered.

    `value` is None where PGR is undefined, and `reason` then says why. `error` is the paired standard
    error of ceiling - weak.
    """

    rows: int
    weak: float
    student: float
    ceiling: float
    error: float
    value: Interval | None
    reason: str = ""

    def to_json(self) -> JsonObject:
        data: JsonObject = asdict(self)
        return data


def pgr(
    weak: Bools | Floats, student: Bools | Floats, ceiling: Bools | Floats, *, draws: int = DRAWS, seed: int = 0
) -> Recovery:
    """PGR = (student - weak) / (ceiling - weak) from per-row correctness (n,) on the same rows, with
    its paired 95% bootstrap interval (Burns et al. 2023, arXiv 2312.09390).

    Correctness may be a fraction: the share of an arm's seeds that are right. Undefined unless
    ceiling - weak > max(5 points, 3 standard errors). Resamples without a gap, one in a thousand where
    it is three standard errors, are left out of the interval. Raises: InputError for other shapes.
    """
    table = np.stack([np.asarray(arm, dtype=np.float64) for arm in _same_rows(weak, student, ceiling)])
    rows = table.shape[1]
    gaps = table[2] - table[0]
    gap = float(gaps.mean())
    error = float(gaps.std(ddof=1) / math.sqrt(rows)) if rows > 1 else math.inf
    low, middle, high = (float(mean) for mean in table.mean(axis=1))
    if not gap > max(MIN_GAP, MIN_ERRORS * error):
        return Recovery(rows, low, middle, high, error, None, _too_small(rows, gap, error))
    drawn = np.stack([table[:, chosen].mean(axis=1) for chosen in resampled(rows, draws, seed)])
    drawn = drawn[drawn[:, 2] > drawn[:, 0]]
    ratios = (drawn[:, 1] - drawn[:, 0]) / (drawn[:, 2] - drawn[:, 0])
    value = float((table[1] - table[0]).mean()) / gap
    return Recovery(rows, low, middle, high, error, interval(value, ratios))


def _too_small(rows: int, gap: float, error: float) -> str:
    if rows < 2:
        return f"{rows} row is too few"
    return (
        f"ceiling - weak is {100 * gap:.1f} points; it must exceed 5 points and 3 standard errors "
        f"({100 * MIN_ERRORS * error:.1f} points)"
    )


def _same_rows(*arms: Bools | Floats) -> tuple[Bools | Floats, ...]:
    sizes = {np.shape(arm) for arm in arms}
    if len(sizes) != 1 or any(len(size) != 1 or not size[0] for size in sizes):
        raise InputError(f"arms must be scored on the same rows; their shapes are {sorted(sizes)}")
    return arms


@dataclass(frozen=True, slots=True)
class Misfit:
    """How far a student is from its teacher over `rows`: mean squared distance of the distributions,
    and mean KL(student || teacher) in nats."""

    rows: int
    squared: Interval
    kl: Interval


def misfit(student: Floats, teacher: Floats, *, draws: int = DRAWS, seed: int = 0) -> Misfit:
    """Misfit of distributions (n, k) on held-out unlabeled rows, with 95% bootstrap intervals.

    Under squared loss and a convex class of heads, the student's gain over its teacher is at least the
    misfit (Charikar et al. 2024, arXiv 2405.15116). Rows that either did not answer (NaN)
    are left out. Raises: InputError for other shapes, or where no row is left.
    """
    if student.ndim != 2 or student.shape != teacher.shape:
        raise InputError(f"student {student.shape} and teacher {teacher.shape} must be (rows, classes) alike")
    known = ~(np.isnan(student).any(axis=1) | np.isnan(teacher).any(axis=1))
    if not known.any():
        raise InputError("no row has an answer of both the student and the teacher")
    ours, theirs = student[known], teacher[known]
    squared = ((ours - theirs) ** 2).sum(axis=1)
    logs = np.log(np.maximum(ours, TINY)) - np.log(np.maximum(theirs, TINY))
    kl = (ours * logs).sum(axis=1)
    rows = list(resampled(len(ours), draws, seed))
    return Misfit(len(ours), _mean(squared, rows), _mean(kl, rows))


def _mean(values: Floats, draws: Sequence[Ints]) -> Interval:
    return interval(float(values.mean()), [float(values[rows].mean()) for rows in draws])


def spearman(first: Floats, second: Floats) -> Interval:
    """Spearman's rank correlation of pairs (n,), (n,) with a 95% interval; ties get their mean rank.

    The interval is Fisher's with the standard error of Bonett and Wright (2000, Psychometrika 65). A
    perfect correlation is put half a step below 1 for it: a swap of two neighbours costs
    12 / (n (n^2 - 1)). Raises: InputError for fewer than 4 pairs or a column that is constant.
    """
    size = len(first)
    if size != len(second) or size < 4:
        raise InputError(f"{size} and {len(second)} values: a rank correlation needs 4 pairs or more")
    ours, theirs = _ranks(first), _ranks(second)
    if not ours.std() or not theirs.std():
        raise InputError("a rank correlation with a constant is undefined")
    value = float(np.clip(np.corrcoef(ours, theirs)[0, 1], -1.0, 1.0))
    most = 1.0 - 6.0 / (size * (size**2 - 1))
    inner = min(max(value, -most), most)
    spread = 1.96 * math.sqrt((1 + inner**2 / 2) / (size - 3))
    low, high = (math.tanh(math.atanh(inner) + sign * spread) for sign in (-1, 1))
    return Interval(value, min(low, value), max(high, value))


def _ranks(values: Floats) -> Floats:
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle: Floats = last - (counts - 1) / 2.0
    return middle[index]
