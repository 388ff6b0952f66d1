"""A deferral rule without its threshold, and the curve of cost and quality over all thresholds.

Two tiers, the weak and the strong one. A query is escalated where the weak answer's score does not reach the
threshold; the weak call is paid then too. Shapes: n queries, m blocks of queries with equal scores (no threshold can
tell them apart), b resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascade.outcomes import NO_ANSWER, Outcomes
from curator.confidence import Bools, Floats, Ints
from curator.errors import InputError
from curator.types import JsonObject

POINTS = 201
"""Points of a curve that are kept for a table or a plot."""


@dataclass(frozen=True, slots=True)
class Deferral:
    """The weak answer to query i is served where `scores[i]` (n,) reaches a threshold; NaN reaches none.

    `cost` (n,) is what the score itself takes per query beside the two tiers, such as the calls of further models
    that vote.
    """

    name: str
    scores: Floats
    cost: Floats | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """What two tiers did on the same n queries; costs are NaN where unknown."""

    tiers: tuple[str, str]
    weak: Floats
    strong: Floats
    weak_cost: Floats
    strong_cost: Floats

    @classmethod
    def of(cls, outcomes: Outcomes) -> Pair:
        """Raises: InputError unless there are two tiers and every quality is known."""
        if len(outcomes.tiers) != 2:
            raise InputError(
                f"a curve is about two tiers, not {len(outcomes.tiers)}: {', '.join(outcomes.tiers)}",
                hint="choose the weak and the strong one",
            )
        if not len(outcomes):
            raise InputError("there is no query to replay")
        if np.isnan(outcomes.quality).any():
            row, tier = np.argwhere(np.isnan(outcomes.quality))[0]
            name = outcomes.ids[row] if outcomes.ids else f"number {row + 1}"
            raise InputError(
                f"the quality of {outcomes.tiers[tier]} is unknown for query {name}",
                hint="`judged` leaves such queries out",
            )
        weak, strong = outcomes.tiers
        return cls((weak, strong), *outcomes.quality.T, *outcomes.cost.T)

    @property
    def gain(self) -> Floats:
        """What escalation adds to the quality, (n,)."""
        return self.strong - self.weak

    def draft(self, rule: Deferral) -> Floats:
        """Cost (n,) of the weak answer and its score."""
        return self.weak_cost if rule.cost is None else self.weak_cost + rule.cost

    def take(self, rows: Ints) -> Pair:
        """The queries in `rows`, in that order."""
        parts = (part[rows] for part in (self.weak, self.strong, self.weak_cost, self.strong_cost))
        return Pair(self.tiers, *parts)


def judged(outcomes: Outcomes) -> tuple[Outcomes, str, int]:
    """The queries whose quality is known for all tiers; what it is measured against; how many are left out.

    Where no quality was recorded at all, an answer counts as right if it equals the last tier's (`vs_teacher`), and
    a query that the last tier did not answer is left out; else it is `vs_truth`.

    Raises: InputError if no query is left.
    """
    basis = "vs_truth"
    if np.isnan(outcomes.quality).all():
        basis, answers = "vs_teacher", outcomes.answers
        agrees = np.where(answers[:, -1:] == NO_ANSWER, np.nan, answers == answers[:, -1:])
        outcomes = replace(outcomes, quality=agrees)
    known: Bools = ~np.isnan(outcomes.quality.sum(axis=1))
    if not known.any():
        raise InputError(
            "no query has a known quality for every tier",
            hint="record `quality` (1 is right), or `answer` to compare with the last tier's",
        )
    return outcomes.take(known), basis, int((~known).sum())


def baselines(pair: Pair, seed: int = 0) -> tuple[Deferral, Deferral]:
    """Random routing, which every rule must beat, and the oracle that knows what escalation gains."""
    random = np.random.default_rng((seed, len(pair.weak))).random(len(pair.weak))
    return Deferral("random", random), Deferral("oracle", -pair.gain)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Queries in the order in which they are escalated, those of equal score together."""

    order: Ints
    starts: Ints
    thresholds: Floats

    @classmethod
    def of(cls, scores: Floats) -> Blocks:
        """Lowest score (n,) first; NaN before all."""
        filled = np.where(np.isnan(scores), -np.inf, scores)
        order = np.argsort(filled, kind="stable")
        values, starts = np.unique(filled[order], return_index=True)
        return cls(order.astype(np.int64), starts.astype(np.int64), values)

    def running(self, ordered: Floats) -> Floats:
        """Sums (b, m + 1) of a table (b, n), whose columns are in this order, over the first 0, 1, ... m blocks."""
        sums = ordered if len(self.starts) == len(self.order) else np.add.reduceat(ordered, self.starts, axis=1)
        result = np.zeros((len(sums), len(self.starts) + 1))
        np.cumsum(sums, axis=1, out=result[:, 1:])
        return result


@dataclass(frozen=True, slots=True)
class Curve:
    """Operating points from "never escalate" to "always": the threshold of each (infinity for always), the share of
    queries that the strong tier is called for, mean quality, and mean cost per query (NaN where unknown)."""

    name: str
    thresholds: Floats
    calls: Floats
    quality: Floats
    cost: Floats

    def to_json(self) -> JsonObject:
        """One list per figure; null for infinity and for an unknown cost."""
        parts = {"threshold": self.thresholds, "calls": self.calls, "quality": self.quality, "cost": self.cost}
        data: JsonObject = {"name": self.name}
        data |= {name: [float(x) if np.isfinite(x) else None for x in part] for name, part in parts.items()}
        return data


def curve(pair: Pair, rule: Deferral) -> Curve:
    """All operating points of a rule. Raises: InputError unless it scores every query once."""
    check(pair, [rule])
    blocks = Blocks.of(rule.scores)
    size = len(pair.weak)
    tables = (np.ones(size), pair.gain[blocks.order], pair.strong_cost[blocks.order])
    calls, gain, cost = (blocks.running(table[None])[0] / size for table in tables)
    limits = np.append(blocks.thresholds, np.inf)
    return Curve(rule.name, limits, calls, pair.weak.mean() + gain, pair.draft(rule).mean() + cost)


def thinned(full: Curve) -> Curve:
    """The curve at about `POINTS` evenly spaced shares of calls."""
    wanted = np.searchsorted(full.calls, np.linspace(0, 1, POINTS) - 1e-12)
    chosen = np.unique(np.append(wanted, len(full.calls) - 1))
    return Curve(full.name, full.thresholds[chosen], full.calls[chosen], full.quality[chosen], full.cost[chosen])


def check(pair: Pair, rules: Sequence[Deferral]) -> None:
    """Raises: InputError for a rule of another length, or two of one name."""
    for rule in rules:
        for part in (rule.scores, rule.cost):
            if part is not None and part.shape != pair.weak.shape:
                raise InputError(f"rule {rule.name} must be {pair.weak.shape} (queries), not {part.shape}")
    names = [rule.name for rule in rules]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"two rules are called {twice[0]!r}", hint="give each a name of its own")
