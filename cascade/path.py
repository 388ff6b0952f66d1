"""The order in which vectors of thresholds are tested: from "all to the last tier" to "all to the first".

It is made on the learning half only, so that the tests on the other half are of hypotheses that were fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from cascade.outcomes import serve, served
from cascade.risk import binomial_tail
from curator.confidence import Bools, Floats, Ints

NOTCHES: Final = 100
"""Thresholds per tier: quantiles of its scores."""


@dataclass(frozen=True, slots=True)
class Path:
    """Threshold vectors (steps, t - 1) in the order of testing; infinity where a tier does not serve. `risk` and `cost`
    (steps,) are what the learning half says of each; `active` (t,) are the tiers that are asked at all."""

    thresholds: Floats
    risk: Floats
    cost: Floats
    active: Bools


def best_path(scores: Floats, losses: Floats, prices: Floats, test: tuple[int, float, float]) -> Path:
    """The path through the subset of tiers that promises to be cheapest, from a learning half.

    `scores` (n, t - 1), `losses` (n, t) in [0, 1], `prices` (t,) per call; `test` is (rows, alpha, delta) of the test
    that is to come. A tier without any score is left out.
    """
    usable = [tier for tier in range(scores.shape[1]) if not np.isnan(scores[:, tier]).all()]
    subsets = [tiers for size in range(1, len(usable) + 1) for tiers in combinations(usable, size)]
    paths = [_path(scores, losses, prices, tiers) for tiers in subsets or [()]]
    return min(paths, key=lambda path: promised(path, test))


def promised(path: Path, test: tuple[int, float, float]) -> float:
    """The lowest cost among the steps that should pass the test, were the risk as on the learning half."""
    rows, alpha, delta = test
    passing = [binomial_tail(round(risk * rows), rows, alpha) <= delta for risk in path.risk]
    end = next((number for number, passed in enumerate(passing) if not passed), len(passing))
    return float(path.cost[: max(end, 1)].min())


def _path(scores: Floats, losses: Floats, prices: Floats, tiers: Sequence[int]) -> Path:
    """Lower one threshold by one notch at a time: the one that saves most per loss that it adds."""
    active = np.zeros(len(prices), dtype=np.bool_)
    active[[*tiers, -1]] = True
    walk = _Walk(scores, losses, prices * active, {tier: _notches(scores[:, tier]) for tier in tiers})
    steps = [walk.measured(np.full(scores.shape[1], np.inf))]
    while tries := {tier: step for tier in tiers if (step := walk.lowered(steps[-1], tier)) is not None}:
        chosen = max(tries, key=lambda tier: steps[-1].gain(tries[tier], 1.0 / len(losses)))
        walk.notches[chosen] = walk.notches[chosen][1:]
        steps.append(tries[chosen])
    table = [(step.thresholds, step.risk, step.cost) for step in steps]
    vectors, risks, costs = zip(*table, strict=True)
    return Path(np.stack(vectors), np.asarray(risks), np.asarray(costs), active)


@dataclass(frozen=True, slots=True)
class _Step:
    thresholds: Floats
    risk: float
    cost: float

    def gain(self, other: _Step, least: float) -> float:
        """What is saved per loss that is added, if `other` comes next."""
        return (self.cost - other.cost) / (max(other.risk - self.risk, 0.0) + least)


@dataclass(slots=True)
class _Walk:
    """The learning half, and the thresholds that are left per tier."""

    scores: Floats
    losses: Floats
    prices: Floats
    notches: dict[int, Floats]

    def lowered(self, now: _Step, tier: int) -> _Step | None:
        """`now` with the tier's next threshold that changes something; None where none is left.

        Those that change nothing are dropped for good: as more is served before a tier, they never will. Else a tier
        whose sure rows are all served before it would stay behind.
        """
        while len(self.notches[tier]):
            thresholds = now.thresholds.copy()
            thresholds[tier] = self.notches[tier][0]
            step = self.measured(thresholds)
            if (step.risk, step.cost) != (now.risk, now.cost):
                return step
            self.notches[tier] = self.notches[tier][1:]
        return None

    def measured(self, thresholds: Floats) -> _Step:
        """Mean loss and mean cost on the learning half."""
        tier: Ints = serve(self.scores, thresholds)
        risk = float(np.nanmean(served(self.losses, tier)))
        return _Step(thresholds, risk, float(np.cumsum(self.prices)[tier].mean()))


def _notches(scores: Floats) -> Floats:
    """Thresholds from high to low."""
    known = scores[~np.isnan(scores)]
    found: Floats = np.unique(np.quantile(known, np.linspace(0.0, 1.0, NOTCHES + 1), method="lower"))[::-1]
    return found


def fallbacks(path: Path, thresholds: Floats, scores: Floats) -> list[Floats]:
    """Steps of the path before the one with `thresholds`, from it back towards "all to the last tier": each serves at
    most half as much of the scored rows (n, t - 1) before the last tier as the one before, and something still.

    All steps before one that passed the test have passed it too, so they are certified with it.
    """
    at = int(np.flatnonzero((path.thresholds == thresholds).all(axis=1))[0])
    share = [float((serve(scores, step) < scores.shape[1]).mean()) for step in path.thresholds[: at + 1]]
    found: list[Floats] = []
    left = share[at]
    for step in reversed(range(at)):
        if 0 < share[step] <= left / 2:
            found.append(path.thresholds[step])
            left = share[step]
    return found
