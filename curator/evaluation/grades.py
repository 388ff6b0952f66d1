"""Weak-to-strong students against gold: accuracies, paired gains, PGR. Gold is read here, after everything is trained.

Shapes: t held-out rows, k options, s seeds. Gold -1 is a row without gold; it is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from curator.confidence import Bools, Floats, Ints
from curator.errors import InputError
from curator.evaluation.gains import Recovery, pgr
from curator.evaluation.scores import DRAWS, Interval, interval, macro_f1, resampled
from curator.types import JsonObject

FILTERED, RANDOM = "filtered", "random"
"""The arm of selected rows, and its control: as many rows that chance picked."""


@dataclass(frozen=True, slots=True)
class Sitting:
    """What one arm answers under every seed: `probabilities` (s, t, k), NaN where it has no answer (which is wrong).
    `rows` is how many it was trained on."""

    arm: str
    loss: str
    rows: int
    probabilities: Floats

    @property
    def predicted(self) -> Ints:
        """Options (s, t), -1 where there is no answer."""
        missing: Bools = np.isnan(self.probabilities.sum(axis=2))
        tops = np.where(missing[..., None], 0.0, self.probabilities).argmax(axis=2)
        return np.where(missing, -1, tops).astype(np.int64)

    def take(self, rows: Ints) -> Sitting:
        """The same arm on some of the rows."""
        return Sitting(self.arm, self.loss, self.rows, self.probabilities[:, rows])


@dataclass(frozen=True, slots=True)
class Grade:
    """One arm, averaged over its seeds. `spread` is the standard deviation of the accuracy over them (0 for one);
    `gain` the accuracy over the teacher's, `over_random` over the random subset of the same loss (None for other
    arms), both paired; `squared_gain` the teacher's Brier score less the arm's; `recovery` holds the PGR or why it is
    undefined, None without a ceiling."""

    arm: str
    loss: str
    rows: int
    seeds: int
    accuracy: Interval
    spread: float
    macro_f1: float
    gain: Interval
    squared_gain: float
    over_random: Interval | None = None
    recovery: Recovery | None = None

    def to_json(self) -> JsonObject:
        data: JsonObject = asdict(self)
        return data


def grade(
    weak: Floats, arms: Sequence[Sitting], gold: Ints, *, ceiling: Sitting | None = None, groups: Ints | None = None
) -> list[Grade]:
    """The teacher's grade, then one per arm, then the ceiling's.

    `weak` (t, k) are the teacher's own answers. `groups` (t,) numbers rows that stand or fall together, as candidates
    of one question do: they are resampled together. Raises: InputError where no row has gold, or shapes do not match.
    """
    rows = np.flatnonzero(gold >= 0)
    if not len(rows):
        raise InputError("no held-out row has gold", hint="give gold for more rows; it is used for evaluation only")
    if len(gold) != len(weak) or any(item.probabilities.shape[1:] != weak.shape for item in arms):
        raise InputError(f"{len(gold)} gold rows do not match answers {weak.shape}")
    blocks = _blocks(np.arange(len(rows)) if groups is None else groups[rows])
    sitting = (Sitting("weak", "", 0, weak[None]), *arms, *([ceiling] if ceiling else []))
    papers = [_Paper(item.take(rows), gold[rows], blocks) for item in sitting]
    top = papers[-1] if ceiling else None
    randoms = {paper.sitting.loss: paper for paper in papers if paper.sitting.arm == RANDOM}
    return [_graded(paper, papers[0], randoms.get(paper.sitting.loss), top) for paper in papers]


@dataclass(frozen=True, slots=True)
class _Paper:
    """An arm's answers to the rows with gold `truth` (r,), which fall into `blocks` (r,)."""

    sitting: Sitting
    truth: Ints
    blocks: Ints

    @property
    def right(self) -> Floats:
        """Share of right answers (b,) per block, over rows and seeds."""
        right = (self.sitting.predicted == self.truth).mean(axis=0)
        means: Floats = np.bincount(self.blocks, right) / np.bincount(self.blocks)
        return means

    @property
    def brier(self) -> float:
        """Mean Brier score over seeds; a row without an answer counts as uniform."""
        options = self.sitting.probabilities.shape[2]
        filled = np.where(np.isnan(self.sitting.probabilities), 1.0 / options, self.sitting.probabilities)
        return float(((filled - np.eye(options)[self.truth]) ** 2).sum(axis=2).mean())


def _graded(paper: _Paper, weak: _Paper, random: _Paper | None, top: _Paper | None) -> Grade:
    sitting, predicted, own = paper.sitting, paper.sitting.predicted, paper.right
    accuracies = (predicted == paper.truth).mean(axis=1)
    student = paper is not weak and paper is not top
    return Grade(
        sitting.arm,
        sitting.loss,
        sitting.rows,
        len(accuracies),
        mean_interval(own),
        float(accuracies.std()),
        float(np.mean([macro_f1(answers, paper.truth) for answers in predicted])),
        mean_interval(own - weak.right),
        weak.brier - paper.brier,
        mean_interval(own - random.right) if sitting.arm == FILTERED and random else None,
        _recovery(paper, weak, top) if student and top else None,
    )


def _recovery(paper: _Paper, weak: _Paper, top: _Paper) -> Recovery:
    """The PGR, undefined also where the teacher only guesses: there is a gap then, but no knowledge that a student
    could go beyond, and a ratio of two distances from chance."""
    found = pgr(weak.right, paper.right, top.right)
    options = weak.sitting.probabilities.shape[2]
    if found.value is None or found.weak > 1 / options:
        return found
    reason = f"the teacher is right in {100 * found.weak:.1f}%, no more than guessing among {options} options"
    return replace(found, value=None, reason=reason)


def mean_interval(values: Floats, *, draws: int = DRAWS, seed: int = 0) -> Interval:
    """The mean of values (n,) with its 95% percentile bootstrap interval."""
    return interval(float(values.mean()), [float(values[rows].mean()) for rows in resampled(len(values), draws, seed)])


def _blocks(groups: Ints) -> Ints:
    """Groups numbered from 0. Raises: InputError where they differ in size: their mean would not be the rows' mean."""
    _, numbers, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if len(set(counts.tolist())) > 1:
        raise InputError(
            f"groups of rows have {counts.min()} to {counts.max()} rows", hint="every group needs as many rows"
        )
    return numbers.reshape(-1).astype(np.int64)
