"""Tests and bounds of a risk from finitely many rows, without assumptions about the models.

*Learn then test* (Angelopoulos et al. 2021, arXiv 2110.01052): every vector of thresholds is a hypothesis "its risk is
above alpha". They are tested in an order that was fixed beforehand, the safest first, each at the full level delta;
testing stops at the first that is not rejected (fixed-sequence testing, section 2.2 there). With probability 1 - delta
none of the rejected ones has a risk above alpha, so any of them may be used.

A 0/1 loss is tested exactly: with the binomial tail, or where doubtful rows were audited more often than others with
the worst case over how the failures divide among the two kinds. Losses that are fractions, and rows that were audited
with more than two chances, are tested by betting (Waudby-Smith & Ramdas 2023, arXiv 2010.09686), which is looser.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import numpy as np

from curator.confidence import Floats, Ints
from curator.errors import InputError

STAKES: Final = (0.3, 0.6, 0.95)
"""Shares of the highest stake that cannot lose everything; the mean of the three capitals is used. The stakes are
fixed beforehand, so the capital does not depend on the order of the rows."""

DOUBTFUL: Final = 0.2
"""Share of the rows, those most likely wrong, that are audited `OFTENER` than the others."""

OFTENER: Final = 2.0
"""Measured with 1,000 rows, alpha 0.05 and a true risk of 0.015: 100 audits certify in 75-79% of draws, uniform ones in
58-60%; with a fifth three times as often 33-39%, as the other rows then get too few. With 50 audits that is so at twice
as often already: 0% against 46-47%."""

_MOST: Final = 1_000_000
"""Rows beyond which nobody would go on."""

_SPLITS: Final = 33
"""Ways in which the failures may divide among the two kinds of rows, of which the worst counts."""


def binomial_tail(failures: int, rows: int, rate: float) -> float:
    """P(at most `failures` of `rows` fail) where each fails with chance `rate`. Exact."""
    if failures >= rows or rate <= 0:
        return 1.0
    if rate >= 1:
        return 0.0
    counts = np.arange(1, failures + 1)
    steps = np.log(rows - counts + 1) - np.log(counts) + math.log(rate) - math.log1p(-rate)
    logs = rows * math.log1p(-rate) + np.concatenate([[0.0], np.cumsum(steps)])
    return min(1.0, float(np.exp(logs).sum()))


def upper_bound(failures: int, rows: int, delta: float) -> float:
    """The rate that is exceeded with chance `delta` at most (Clopper & Pearson 1934, one-sided); 1 without rows."""
    if failures >= rows:
        return 1.0
    return _root(lambda rate: binomial_tail(failures, rows, rate) > delta)


def lower_bound(failures: int, rows: int, delta: float) -> float:
    """The rate that is undercut with chance `delta` at most; 0 without rows."""
    return 1.0 - upper_bound(rows - failures, rows, delta) if rows else 0.0


def _root(below: Callable[[float], bool]) -> float:
    """The rate in [0, 1] at which `below` turns false, from its far side: a bound is never too small."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return high


def rows_needed(alpha: float, delta: float) -> int:
    """Rows without a single failure that it takes to certify a risk of `alpha` with confidence 1 - `delta`."""
    return math.ceil(math.log(delta) / math.log1p(-alpha))


def rows_for(risk: float, alpha: float, delta: float) -> int | None:
    """Rows that it takes where the share `risk` of them fails; None where no number does."""
    rows = rows_needed(alpha, delta)
    if risk >= alpha:
        return None
    while binomial_tail(math.ceil(risk * rows), rows, alpha) > delta:
        rows = math.ceil(rows * 1.05) + 1
        if rows > _MOST:
            return None
    return rows


def p_value(losses: Floats, alpha: float, chance: Floats | None = None) -> float:
    """p-value of "the mean loss is `alpha` or more", from losses (n,) in [0, 1] of independent rows.

    With `chance` (n,), the probability with which each row was audited, `losses` is NaN where it was not. Without, all
    are known.
    Raises: InputError for a chance that is no probability, or a loss that is unknown.
    """
    binary = bool((np.isnan(losses) | (losses == 0) | (losses == 1)).all())
    if chance is None:
        if np.isnan(losses).any():
            raise InputError("a loss is unknown", hint="say with which chance each row was audited, or leave it out")
        if binary:
            return binomial_tail(int(losses.sum()), len(losses), alpha)
        return betting_p_value(losses, alpha, 1.0)
    if not ((chance > 0) & (chance <= 1)).all():
        raise InputError("the chance of being audited must be above 0 for every row, and 1 at most")
    rates = np.unique(chance)
    if binary and len(rates) <= 2:
        failures = [int(np.nansum(losses[chance == rate])) for rate in rates]
        return two_rate_tail((failures[0], failures[-1]), (float(rates[0]), float(rates[-1])), len(losses), alpha)
    weighted = np.where(np.isnan(losses), 0.0, losses / chance)
    return betting_p_value(weighted, alpha, float(1.0 / chance.min()))


@lru_cache(maxsize=1024)  # The steps of a path often have the same failures.
def two_rate_tail(failures: tuple[int, int], rates: tuple[float, float], rows: int, alpha: float) -> float:
    """P(a weighted count of failures as low as this) where `alpha` of all `rows` fail, in the worst case.

    Rows of two kinds were audited with chances `rates`, and `failures` of each kind were found. The statistic is the
    sum of failures / rate. The share that fails of the first kind is unknown, so the worst of them counts (on a grid).
    With equal rates this is one kind: the failures are those of the second.
    """
    low, high = rates
    if low == high:
        return binomial_tail(failures[1], rows, alpha * high)
    total = failures[0] / low + failures[1] / high + 1e-9
    first, second = np.arange(min(rows, int(total * low)) + 1), np.arange(min(rows, int(total * high)) + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, rows + 1)))])
    rest = rows - first[:, None] - second
    inside = (first[:, None] / low + second / high <= total) & (rest >= 0)
    ways = logs[rows] - logs[first][:, None] - logs[second] - logs[np.maximum(rest, 0)]

    def tail(share: float) -> float:
        chances = share * low, (alpha - share) * high
        powers = [_times(count, chance) for count, chance in zip((first, second), chances, strict=True)]
        terms = ways + powers[0][:, None] + powers[1] + rest * math.log1p(-min(sum(chances), 1 - 1e-12))
        return float(np.exp(terms[inside]).sum())

    return min(1.0, max(tail(float(share)) for share in np.linspace(0.0, alpha, _SPLITS)))


def _times(counts: Ints, chance: float) -> Floats:
    """log(chance ** counts), 0 for a count of 0."""
    result: Floats = np.where(counts > 0, counts * math.log(max(chance, 1e-300)), 0.0)
    return result


def betting_p_value(values: Floats, alpha: float, ceiling: float) -> float:
    """p-value of "the mean is `alpha` or more" for independent values (n,), none above `ceiling`.

    A gambler stakes on each value being below alpha; if the mean is not, the capital is above 1 / p with chance p at
    most (Ville). The capital is the mean over three fixed stakes.
    """
    highest = 1.0 / max(ceiling - alpha, 1e-12)
    logs = np.array([np.log1p(np.maximum(share * highest * (alpha - values), -1 + 1e-12)).sum() for share in STAKES])
    capital = float(np.mean(np.exp(np.minimum(logs, 700.0))))
    return min(1.0, 1.0 / max(capital, 1e-300))


def bound(losses: Floats, delta: float, chance: Floats | None = None) -> float:
    """The mean loss that is exceeded with chance `delta` at most; arguments as of `p_value`. 1 without rows."""
    if not len(losses):
        return 1.0
    return _root(lambda rate: p_value(losses, rate, chance) > delta)


def fixed_sequence(test: Callable[[int], float], count: int, delta: float) -> int:
    """How many of `count` hypotheses are rejected in their order, where `test(i)` is the p-value of the i-th."""
    return next((number for number in range(count) if test(number) > delta), count)


def choose_audits(wrong: Floats, count: int, *, seed: int = 0) -> tuple[Ints, Floats]:
    """Rows that people should check so that a bound on the truth gets tight, and the chance (n,) each row had.

    `wrong` (n,) is a guess of the chance that the row's answer is wrong (NaN: no guess, taken as doubtful). The
    doubtful fifth is drawn twice as often as the rest. Each row is drawn on its own, so about `count` come.
    Raises: InputError for a count that is not between 1 and n.
    """
    chance = audit_chances(wrong, count)
    return np.flatnonzero(~np.isnan(drawn_places(chance, seed))).astype(np.int64), chance


def audit_chances(wrong: Floats, count: int, oftener: float = OFTENER) -> Floats:
    """The chance (n,) with which each row is to be audited, `oftener` for the doubtful fifth; see `choose_audits`."""
    rows = len(wrong)
    if not 0 < count <= rows:
        raise InputError(f"cannot choose {count} of {rows} rows for audit")
    doubtful = np.zeros(rows, dtype=np.bool_)
    doubtful[np.argsort(-np.nan_to_num(wrong, nan=1.0), kind="stable")[: round(DOUBTFUL * rows)]] = True
    rate = count / (rows + (oftener - 1.0) * doubtful.sum())
    result: Floats = np.minimum(np.where(doubtful, oftener * rate, rate), 1.0)
    return result


def drawn_places(chance: Floats, seed: int) -> Floats:
    """The places (n,) of the rows that are drawn, uniform in [0, 1); NaN where a row is not.

    In the order of the places people may stop at any time: the rows whose place is below t are a draw with t times the
    chances.
    """
    random = np.random.default_rng(seed).random(len(chance))
    return np.where(random < chance, random / chance, np.nan)


def best_ratio(rows: int, count: int, alpha: float, delta: float) -> float | None:
    """How much oftener the doubtful ones of `rows` rows are best audited: `OFTENER`, or 1 where too few of the others
    would be left to show a risk of `alpha`, were all right; None where that cannot be shown with `count` audits."""
    for ratio in (OFTENER, 1.0):
        rate = count / (rows + (ratio - 1.0) * round(DOUBTFUL * rows))
        if ratio * rate <= 1 and two_rate_tail((0, 0), (rate, ratio * rate), rows, alpha) <= delta:
            return ratio
    return None


def fewest_audits(rows: int, alpha: float, delta: float) -> int:
    """Audits, drawn uniformly from `rows` rows and all of them right, that it takes to show a risk of `alpha`; more
    than `rows` where no number does."""
    return math.ceil(rows * -math.expm1(math.log(delta) / rows) / alpha)
