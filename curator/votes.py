"""Sampled answers -> one value per row, for open fields (numbers, short strings).

Samples of one model are dependent voters: what all of them say may still be wrong. From their
agreement alone the truth cannot be identified, so the confidence made here is a discounted vote
share with the basis `agreement`, and is not calibrated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from curator.confidence import Floats
from curator.types import JsonObject

DOUBT: Final = 0.5
"""Least number of votes' worth of doubt held against every answer (Jeffreys' half a vote, spread over
the options), however well the samples agree."""


@dataclass(frozen=True, slots=True)
class VoteResult:
    """One winner per row: `values` (None where no valid vote), `share` (n,) of the valid votes that it
    got, `votes` (n,) valid votes, `effective_votes` (n,), `confidence` (n,) = the discounted share."""

    values: tuple[str | None, ...]
    share: Floats
    votes: Floats
    effective_votes: Floats
    confidence: Floats
    correlation: float
    basis: str = "agreement"

    def report(self) -> JsonObject:
        """What a person should know before trusting the labels."""
        return {
            "basis": self.basis,
            "calibrated": False,
            "rows": len(self.values),
            "unanswered": sum(value is None for value in self.values),
            "vote_correlation": self.correlation,
            "mean_share": float(np.nanmean(self.share)) if (self.votes > 0).any() else 0.0,
        }


def vote(
    samples: Sequence[Sequence[str | None]], *, options: int | None = None, correlation: float | None = None
) -> VoteResult:
    """Majority of each row's valid samples; None is an invalid answer: missing, never a class.

    Among equals the value that is more frequent over the corpus wins, then the greater string, so that
    the order of samples never matters. `options` is the number
    of possible values, by default the number of distinct ones seen. `correlation` is that of the whole
    corpus where `samples` are only a page of it; by default it is estimated from these rows.
    """
    counts = [Counter(value for value in row if value is not None) for row in samples]
    corpus = Counter[str]()
    for count in counts:
        corpus.update(count)
    values = [max(count, key=lambda v: (count[v], corpus[v], v), default=None) for count in counts]
    totals = np.array([count.total() for count in counts], dtype=np.float64)
    top = np.array([0 if v is None else count[v] for v, count in zip(values, counts, strict=True)], dtype=np.float64)
    share = np.where(totals > 0, top / np.maximum(totals, 1), np.nan)
    correlation = vote_correlation(counts) if correlation is None else correlation
    effective = effective_votes(totals, correlation)
    confidence = discounted_share(share, effective, correlation, options or len(corpus))
    return VoteResult(tuple(values), share, totals, effective, confidence, correlation)


def vote_correlation(counts: Sequence[Counter[str]]) -> float:
    """Pairwise agreement of a row's votes beyond chance, over the corpus, in [0, 1].

    (A - C) / (1 - C), A the mean agreement of two votes on a row, C that of two votes on random rows
    (Fleiss 1971). 1 where no row has two votes: then nothing says that votes are independent.
    """
    same = pairs = 0.0
    corpus = Counter[str]()
    for count in counts:
        total = count.total()
        same += sum(votes * (votes - 1) for votes in count.values())
        pairs += total * (total - 1)
        corpus.update(count)
    if pairs == 0:
        return 1.0
    chance = sum((votes / corpus.total()) ** 2 for votes in corpus.values())
    return 1.0 if chance >= 1 else min(1.0, max(0.0, (same / pairs - chance) / (1 - chance)))


def effective_votes(votes: Floats, correlation: float) -> Floats:
    """How many independent votes `votes` (n,) dependent ones are worth: v / (1 + (v - 1) rho), the
    design effect of cluster samples (Kish 1965, s. 5.4)."""
    result: Floats = votes / (1 + np.maximum(votes - 1, 0) * correlation)
    return result


def discounted_share(share: Floats, effective: Floats, correlation: float, options: int) -> Floats:
    """Vote share shrunk towards chance (1 / options) as if only the effective votes had been cast.

    The weight of chance is the concentration of the Dirichlet-multinomial whose intra-class
    correlation is `correlation`, (1 - rho) / rho votes (Mosimann 1962), and at least `DOUBT`. Never
    above `share`.
    """
    doubt = max(DOUBT, (1 - correlation) / max(correlation, 1e-6))
    shrunk = (effective * share + doubt / max(options, 2)) / (effective + doubt)
    result: Floats = np.minimum(shrunk, share)
    return result
