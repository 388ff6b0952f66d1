"""The order in which vectors of thresholds are tested: from "all to the last tier" to "all to the first".

It is made on the learning half only, so that the tests on the other half are of hypotheses that were fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from cascade.outcomes import serve, served
from cascade.risk import binomial_tail
from curator.confidence import Bools, Floats, Ints

NOTCHES: Final = 100
"""Thresholds per tier: quantiles of its scores."""

ASKED: Final = 2.0
"""A threshold that no score reaches: the tier is asked, and never served. Every path starts there, so that all of its
steps pay for the same drafts, and the answers of two tiers can be compared."""


@dataclass(frozen=True, slots=True)
class Path:
    """Threshold vectors (steps, t - 1) in the order of testing; infinity where a tier is not asked. `risk` and `cost`
    (steps,) are what the learning half says of each."""

    thresholds: Floats
    risk: Floats
    cost: Floats


def asked(thresholds: Floats) -> Bools:
    """The tiers (t,) that are asked under thresholds (t - 1,): those that have one, and the last."""
    return np.append(np.isfinite(thresholds), True)


def best_path(
    scores: Floats,
    losses: Floats,
    prices: Floats,
    test: tuple[int, float, float],
    *,
    compared: Collection[int] = (),
) -> Path:
    """The path through the subset of tiers that promises to be cheapest, from a learning half.

    `scores` (n, t - 1), `losses` (n, t) in [0, 1], `prices` (t,) per call; `test` is (rows, alpha, delta) of the test
    that is to come. Tiers in `compared` are scored by the answer of the tier before, which is then asked too. A tier
    without any score is left out.
    """
    usable = [tier for tier in range(scores.shape[1]) if not np.isnan(scores[:, tier]).all()]
    subsets = [tiers for size in range(1, len(usable) + 1) for tiers in combinations(usable, size)]
    whole = [tiers for tiers in subsets if {tier - 1 for tier in tiers if tier in compared} <= set(tiers)]
    paths = [_path(scores, losses, prices, tiers) for tiers in whole or [()]]
    return min(paths, key=lambda path: promised(path, test))


def promised(path: Path, test: tuple[int, float, float]) -> float:
    """The lowest cost among the steps that should pass the test, were the risk as on the learning half."""
    rows, alpha, delta = test
    passing = [binomial_tail(round(risk * rows), rows, alpha) <= delta for risk in path.risk]
    end = next((number for number, passed in enumerate(passing) if not passed), len(passing))
    return float(path.cost[: max(end, 1)].min())


def _path(scores: Floats, losses: Floats, prices: Floats, tiers: Sequence[int]) -> Path:
    """Lower one threshold by one notch at a time: the one that saves most per loss that it adds."""
    start = np.full(scores.shape[1], np.inf)
    start[list(tiers)] = ASKED
    walk = _Walk(scores, losses, prices, {tier: _notches(scores[:, tier]) for tier in tiers})
    steps = [walk.measured(start)]
    while tries := {tier: step for tier in tiers if (step := walk.lowered(steps[-1], tier)) is not None}:
        chosen = max(tries, key=lambda tier: steps[-1].gain(tries[tier], 1.0 / len(losses)))
        walk.notches[chosen] = walk.notches[chosen][1:]
        steps.append(tries[chosen])
    table = [(step.thresholds, step.risk, step.cost) for step in steps]
    vectors, risks, costs = zip(*table, strict=True)
    return Path(np.stack(vectors), np.asarray(risks), np.asarray(costs))


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
        return _Step(thresholds, risk, float(np.cumsum(self.prices * asked(thresholds))[tier].mean()))


def _notches(scores: Floats) -> Floats:
    """Thresholds from high to low."""
    known = scores[~np.isnan(scores)]
    found: Floats = np.unique(np.quantile(known, np.linspace(0.0, 1.0, NOTCHES + 1), method="lower"))[::-1]
    return found
