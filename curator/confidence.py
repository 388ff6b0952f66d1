"""Signals: how sure an answer looks before anything has calibrated it.

The curator keeps a label, and the cascade accepts the small model's answer, where a signal is high
enough. Every signal here grows with confidence and lies in [0, 1]; none of them is a probability of
being right until a calibrator (`curator.calibration`) has made it one.

Shapes: n rows, v views (prompt variants, option orders, models), k options. NaN means missing and
stays missing: a row without an answer has the signal NaN, never a made-up one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from curator.errors import InputError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Signal = Callable[[Floats], Floats]
"""Probabilities (n, k) -> confidence (n,), higher is surer."""

FLOOR: Final = 30.0
"""Nats below a row's best option at which a log-probability is cut: beyond it lie rounding, and the
-inf of servers that report only their top tokens, which would otherwise outvote all other views."""


def log_normalise(logprobs: Floats) -> Floats:
    """Log-probabilities over the options alone (last axis); any leading shape.

    A row with a NaN or without any finite entry is missing: NaN throughout.
    """
    values = np.asarray(logprobs, dtype=np.float64)
    top: Floats = np.max(values, axis=-1, keepdims=True)
    bad = ~np.isfinite(top)
    shifted: Floats = np.maximum(np.where(bad, 0.0, values) - np.where(bad, 0.0, top), -FLOOR)
    total: Floats = np.sum(np.exp(shifted), axis=-1, keepdims=True)
    result: Floats = np.where(bad, np.nan, shifted - np.log(total))
    return result


def top_probability(probabilities: Floats) -> Floats:
    """Probability of the most probable option."""
    result: Floats = np.max(_table(probabilities), axis=1)
    return result


def margin(probabilities: Floats) -> Floats:
    """Lead of the most probable option over the second."""
    ordered = np.sort(_table(probabilities), axis=1)
    result: Floats = ordered[:, -1] - ordered[:, -2]
    return np.where(np.isnan(probabilities).any(axis=1), np.nan, result)


def certainty(probabilities: Floats) -> Floats:
    """1 - entropy / ln k: 0 for a uniform distribution, 1 for a sure one."""
    table = _table(probabilities)
    entropy = -np.sum(table * np.log(np.maximum(table, 1e-300)), axis=1)
    result: Floats = np.clip(1.0 - entropy / np.log(table.shape[1]), 0.0, 1.0)
    return result


SIGNALS: Final[Mapping[str, Signal]] = {
    "top_probability": top_probability,
    "margin": margin,
    "certainty": certainty,
}


def signal(name: str) -> Signal:
    """The signal of that name. Raises: InputError naming the known ones."""
    try:
        return SIGNALS[name]
    except KeyError:
        raise InputError(f"no signal is called {name!r}", hint=f"known signals: {', '.join(SIGNALS)}") from None


def tops(logprobs: Floats) -> Ints:
    """Index of the best option (the first of equals), -1 where the row is missing."""
    values = np.asarray(logprobs, dtype=np.float64)
    missing = np.isnan(values).any(axis=-1) | ~np.isfinite(np.max(values, axis=-1))
    return np.where(missing, -1, np.argmax(np.where(np.isnan(values), -np.inf, values), axis=-1)).astype(np.int64)


def agreement(logprobs: Floats, chosen: Ints) -> Floats:
    """Share of a row's answered views (n, v, k) whose best option is the chosen one (n,)."""
    best = tops(logprobs)
    answered = (best >= 0).sum(axis=1)
    same = (best == np.asarray(chosen)[:, None]) & (best >= 0)
    share = same.sum(axis=1) / np.maximum(answered, 1)
    return np.where(answered > 0, share, np.nan)


def flips(logprobs: Floats) -> Floats:
    """Share of a row's pairs of answered views (n, v, k) that differ in their best option; 0 with
    one view. Over views that differ only in option order its mean is the *order-flip rate*."""
    best = tops(logprobs)
    answered = (best >= 0).sum(axis=1).astype(np.float64)
    same = np.zeros(len(best))
    for option in range(logprobs.shape[2]):
        votes = (best == option).sum(axis=1)
        same += votes * (votes - 1.0)
    pairs = answered * (answered - 1.0)
    share = np.where(pairs > 0, 1.0 - same / np.maximum(pairs, 1.0), 0.0)
    return np.where(answered > 0, share, np.nan)


def mean_label_mass(label_mass: Floats) -> Floats:
    """Mean over a row's views (n, v) of the probability that all options got together.

    Low mass says that the model wanted to answer something else. NaN where no view knows it.
    """
    mass = np.asarray(label_mass, dtype=np.float64)
    known = ~np.isnan(mass)
    total = np.where(known, mass, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)


def expected_value(probabilities: Floats, values: Floats) -> Floats:
    """Expected value (n,) of a score question whose options stand for `values` (k,), lowest first."""
    result: Floats = _table(probabilities) @ np.asarray(values, dtype=np.float64)
    return result


def _table(probabilities: Floats) -> Floats:
    table = np.asarray(probabilities, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] < 2:
        raise InputError(f"probabilities must be (rows, options >= 2), not {table.shape}")
    return table
