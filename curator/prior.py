"""How often each class occurs, estimated without gold; and whether that can be known at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curator.confidence import Floats


@dataclass(frozen=True, slots=True)
class PriorEstimate:
    """Class prior (k,), and whether the data identify it.

    `interval` holds the lower and upper end (k,) per class, (0, 1) where nothing is known. When
    `identified` is False, `prior` is the assumption that was used instead and a report says so.
    """

    prior: Floats
    identified: bool
    method: str
    interval: tuple[Floats, Floats]


def assumed(prior: Floats, method: str) -> PriorEstimate:
    """A prior that was given or taken for want of a better one, not estimated."""
    return PriorEstimate(prior, method == "given", method, (np.zeros(len(prior)), np.ones(len(prior))))


def estimate_prior(logprobs: Floats) -> PriorEstimate:
    """Class prior from log-probabilities (n, v, k)."""
    options = logprobs.shape[2]
    return assumed(np.full(options, 1.0 / options), "uniform")
