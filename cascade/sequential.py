"""Statements about a risk that hold at every moment of an endless stream, however often one looks.

Each query brings Z = disagreed / p where its answer was audited (with probability p >= `share`), else 0. So Z >= 0,
and its mean, given all that went before, is the risk: the probability that the query is served an answer that the
teacher would not give. Everything below is a nonnegative supermartingale under its null, so that Ville's inequality
bounds by delta the probability that it ever reaches 1 / delta. Sources: Waudby-Smith and Ramdas 2023 (arXiv
2010.09686), betting; Shin, Ramdas and Rinaldo 2024 (arXiv 2203.03532), changes at an unknown time; Robbins 1970, the
mixture behind the confidence sequence. `confseq`, the library for these, needs a C++ compiler and has not been
released since 2023; the little that is needed here is arithmetic on a few numbers per query.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma, log, log1p
from typing import Final

from curator.errors import ConfigError

RATIOS: Final = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
"""The risks, as multiples of alpha, that the drift test bets on: it is quickest where the drift is one of these."""

PATIENCE: Final = 20.0
"""Expected audits after which half of the drift test's stake is spread over later starts of a drift."""

_HIGHEST: Final = 0.9
_STEPS: Final = 60


@dataclass(frozen=True, slots=True)
class Bets:
    """The drift test's arithmetic for one (alpha, share): factors per ratio, fixed before the stream begins.

    A query without disagreement multiplies bet k by `quiet[k]`, an audited disagreement by 1 + stake[k] * (1 / p -
    alpha), which is RATIOS[k] where p = share: then a bet is the likelihood ratio of risk alpha * RATIOS[k] to alpha.
    """

    alpha: float
    share: float
    stakes: tuple[float, ...]
    quiet: tuple[float, ...]

    @classmethod
    def at(cls, alpha: float, share: float) -> Bets:
        """Raises: ConfigError for an alpha or a share that is not in (0, 1]."""
        for name, value in (("alpha", alpha), ("share", share)):
            if not 0 < value <= 1:
                raise ConfigError(f"{name} is {value}", hint=f"{name} must be above 0 and at most 1")
        ratios = [max(min(ratio * alpha, _HIGHEST) / alpha, 1.0) for ratio in RATIOS]
        stakes = tuple(share * (ratio - 1) / (1 - min(share * alpha, _HIGHEST)) for ratio in ratios)
        return cls(alpha, share, stakes, tuple(1 - stake * alpha for stake in stakes))

    def loud(self, probability: float) -> tuple[float, ...]:
        """Factors of a disagreement that was audited with `probability`."""
        gain = 1 / probability - self.alpha
        return tuple(1 + stake * gain for stake in self.stakes)

    def left(self, queries: int) -> float:
        """The share of the stake that has not been laid after so many queries. It falls as slowly as a logarithm,
        so that a drift after a million queries is not noticed much later than one after a thousand."""
        return 1 / (1 + log1p(queries * self.share / PATIENCE))


@dataclass(slots=True)
class DriftTest:
    """An e-process for the null "at every query the risk is at most alpha".

    The stake is spread over ratios and over the queries at which a drift may begin. `wealth[k]` is what the bets laid
    so far on ratio k are worth, after `queries` queries. Single owner: the order of the queries counts, so two
    processes keep two tests, each at delta / 2 where one bound is to hold for both.
    """

    bets: Bets
    queries: int = 0
    wealth: tuple[float, ...] = (0.0,) * len(RATIOS)

    def see(self, probability: float | None = None) -> None:
        """One more query; with `probability`, one whose audit (with that probability) found a disagreement."""
        factors = self.bets.quiet if probability is None else self.bets.loud(probability)
        laid = self.bets.left(self.queries) - self.bets.left(self.queries + 1)
        self.wealth = tuple((held + laid) * factor for held, factor in zip(self.wealth, factors, strict=True))
        self.queries += 1

    @property
    def value(self) -> float:
        """The e-value now: 1 / delta is reached, ever, with probability at most delta under the null."""
        return sum(self.wealth) / len(self.wealth) + self.bets.left(self.queries)


def risk_bounds(queries: int, low_weight: float, high_weight: float, bets: Bets, delta: float) -> tuple[float, float]:
    """A confidence sequence: with probability 1 - delta it holds, at all times at once, the mean over the queries so
    far of each one's risk given the past. It holds under drift too: that mean is then an average.

    `low_weight` is the sum of disagreed / p over the audits that are known, `high_weight` the same with every
    audit that is not known counted as a disagreement. The mixture's prior is Beta with mean share * alpha: narrowest
    where the risk is near alpha. Since Z * share lies in [0, 1], exp(theta * Z * share) lies below its chord and the
    logarithm of that chord's mean is concave in the mean (Jensen), which makes the Bernoulli mixture valid both
    for unequal p and for a risk that moves.
    """
    if not queries:
        return 0.0, 1.0
    prior = 1.0, 1 / (bets.share * bets.alpha)
    wanted = log(1 / delta)
    low = _edge(queries, low_weight * bets.share, prior, wanted, upper=False)
    high = _edge(queries, min(high_weight * bets.share, queries), prior, wanted, upper=True)
    return min(low / bets.share, 1.0), min(high / bets.share, 1.0)


def _edge(queries: int, successes: float, prior: tuple[float, float], wanted: float, *, upper: bool) -> float:
    """The rate above (below) the observed one beyond which the mixture's evidence exceeds `wanted`, by bisection."""
    failures = queries - successes
    mixture = _log_beta(prior[0] + successes, prior[1] + failures) - _log_beta(*prior)
    inside, outside = successes / queries, 1.0 if upper else 0.0
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        against = mixture - _times_log(successes, middle) - _times_log(failures, 1 - middle)
        inside, outside = (middle, outside) if against < wanted else (inside, middle)
    return outside


def _times_log(count: float, rate: float) -> float:
    if not count:
        return 0.0
    return count * log(rate) if rate > 0 else -float("inf")


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
