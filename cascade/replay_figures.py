"""The figures of deferral rules and of their resamples, as arrays; `cascade.replay` says what they mean.

Shapes: n queries, b resamples, m blocks of queries with equal scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cascade.deferral import Blocks, Deferral, Pair
from cascade.resampling import halves, resampled
from curator.confidence import Floats

SHARES: Final = (0.5, 0.8)
"""Shares of the gap that the calls are counted for."""
LOSSES: Final = (0.0, 0.01)
"""Quality that may be given up against the strong tier alone: none, and one point."""
SPLITS: Final = 100
"""Random halves behind a saving."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Values of a rule's figures (f,) and of their resamples (b, f); the columns are APGR and the calls per share in
    `gap`, and saved, calls and change per loss in `savings`."""

    gap: Floats
    gap_drawn: Floats
    savings: Floats
    savings_drawn: Floats


@dataclass(frozen=True, slots=True)
class _Ordered:
    """A rule with everything in the order in which it escalates: the pair, and what a draft costs (n,)."""

    blocks: Blocks
    pair: Pair
    draft: Floats

    @classmethod
    def of(cls, pair: Pair, rule: Deferral) -> _Ordered:
        blocks = Blocks.of(rule.scores)
        return cls(blocks, pair.take(blocks.order), pair.draft(rule)[blocks.order])

    def side(self, counts: Floats) -> _Side:
        """Sums over queries drawn `counts` (b, n) times, given in the order of the recording."""
        drawn, pair, running = counts[:, self.blocks.order], self.pair, self.blocks.running
        alone = np.stack([pair.weak, pair.strong, self.draft, pair.strong_cost], axis=1)
        weak, best, draft, strong_cost = (part[:, None] for part in (drawn @ alone).T)
        calls, gains = running(drawn), running(drawn * pair.gain)
        return _Side(calls, weak + gains, draft + running(drawn * pair.strong_cost), best, strong_cost)


def figures(pair: Pair, rules: Sequence[Deferral], draws: int, seed: int) -> list[Figures]:
    """Figures of every rule; all see the same resamples and the same halves."""
    size, every = len(pair.weak), [_Ordered.of(pair, rule) for rule in rules]
    once = [rule.side(np.ones((1, size))) for rule in every]
    shares, savings, plain = ([list[Floats]() for _ in rules] for _ in range(3))
    for counts, first in zip(resampled(size, draws, seed), halves(size, draws, seed + 1), strict=True):
        for at, rule in enumerate(every):
            both, one = rule.side(counts), rule.side(counts * first)
            shares[at].append(_shares(both))
            savings[at].append(_savings(one, both.minus(one)))
    for first in halves(size, min(SPLITS, draws), seed + 2):
        for at, rule in enumerate(every):
            one = rule.side(first.astype(np.float64))
            plain[at].append(_savings(one, once[at].minus(one)))
    return [
        Figures(_shares(alone)[0], np.concatenate(gap), np.concatenate(here).mean(axis=0), np.concatenate(drawn))
        for alone, gap, here, drawn in zip(once, shares, plain, savings, strict=True)
    ]


def _shares(side: _Side) -> Floats:
    """APGR and the calls per share of the gap, (b, 1 + shares).

    Between the points that a threshold can reach, queries of one score are escalated in random order. NaN where a
    resample has no gap.
    """
    gains = side.quality - side.quality[:, :1]
    rows, gap = side.calls[:, -1:], np.where(gains[:, -1:] > 0, gains[:, -1:], np.nan)
    middles = (gains[:, 1:] + gains[:, :-1]) / 2
    area = (np.diff(side.calls, axis=1) * middles).sum(axis=1, keepdims=True) / (rows * gap)
    return np.concatenate([area, *(_least_calls(side.calls, gains, share * gap) / rows for share in SHARES)], axis=1)


def _least_calls(calls: Floats, gains: Floats, wanted: Floats) -> Floats:
    """The least number of strong calls (b, 1) that gains as much as wanted (b, 1), from running sums (b, m + 1)."""
    after = np.argmax(gains >= np.where(np.isnan(wanted), -np.inf, wanted - 1e-9), axis=1)[:, None]
    before = np.maximum(after - 1, 0)
    low, high, c_low, c_high = (
        np.take_along_axis(table, at, axis=1) for table in (gains, calls) for at in (before, after)
    )
    part = np.where(high > low, (wanted - low) / np.where(high > low, high - low, 1.0), 0.0)
    result: Floats = c_low + part * (c_high - c_low)
    return result


def _savings(one: _Side, other: _Side) -> Floats:
    """Saved, calls and change (b, 3 x losses) of thresholds chosen on one half and scored on the other, both ways."""
    rows, best, alone = (
        (getattr(one, name) + getattr(other, name)).ravel() for name in ("rows", "best", "strong_cost")
    )
    columns: list[Floats] = []
    for loss in LOSSES:
        cost, calls, quality = (one.at(other.choose(loss)) + other.at(one.choose(loss))).T
        with np.errstate(invalid="ignore", divide="ignore"):
            columns += [1.0 - cost / alone, calls / rows, (quality - best) / rows]
    return np.stack(columns, axis=1)


@dataclass(frozen=True, slots=True)
class _Side:
    """Sums over some queries, per resample: after the first 0..m blocks went to the strong tier (b, m + 1), and of
    the strong tier alone (b, 1)."""

    calls: Floats
    quality: Floats
    cost: Floats
    best: Floats
    strong_cost: Floats

    @property
    def rows(self) -> Floats:
        """How many queries (b, 1)."""
        return self.calls[:, -1:]

    def minus(self, part: _Side) -> _Side:
        """The queries that are not in `part`."""
        names = ("calls", "quality", "cost", "best", "strong_cost")
        return _Side(*(getattr(self, name) - getattr(part, name) for name in names))

    def choose(self, loss: float) -> Floats:
        """How many blocks to escalate (b, 1): the fewest that keep the quality here, -1 for the strong tier alone
        where that is no dearer."""
        enough = self.quality >= self.best - loss * self.rows - 1e-9
        enough[:, -1] = True
        fewest = np.argmax(enough, axis=1)[:, None]
        dear = np.take_along_axis(self.cost, fewest, axis=1) >= self.strong_cost
        return np.where(dear, -1, fewest)

    def at(self, blocks: Floats) -> Floats:
        """Cost, calls and quality (b, 3) where so many blocks (b, 1) are escalated."""
        place = np.maximum(blocks, 0).astype(np.int64)
        reached = [np.take_along_axis(table, place, axis=1) for table in (self.cost, self.calls, self.quality)]
        alone = (self.strong_cost, self.rows, self.best)
        parts = [np.where(blocks < 0, strong, ours) for strong, ours in zip(alone, reached, strict=True)]
        return np.concatenate(parts, axis=1)
