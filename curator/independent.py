"""A second, independent voter makes confidence from dependent votes honest.

Two voters that err independently cannot both be scored from their agreement alone: it is one
equation for two accuracies. What identifies them here is an *anchor*: some pattern of the first
voter's votes whose candidates nearly always hold the truth (as anchor points do in learning with
noisy labels, Scott et al. 2013). There the second voter's agreement is its own accuracy; everywhere
else, its disagreement beyond that is the first voter's error.

Assumed: the second voter's errors are spread evenly over the wrong options, whatever the first said
(the one-coin model of Dawid & Skene 1979). Without an anchor the second voter looks worse, and the
first better, than they are; `second_accuracy` is therefore a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curator.calibration import wilson
from curator.confidence import Bools, Floats, Ints
from curator.errors import InputError

SMOOTHING = 8.0
"""Rows' worth of the corpus' rates that each pattern's rates are drawn towards."""
CAUTION = 3.0
"""Standard errors held against a pattern's bound when the best is chosen, so that the largest of many
noisy ones does not win."""
ROWS_PER_PATTERN = 200
"""With fewer rows per pattern of votes, patterns are quantiles of the top probability instead."""


@dataclass(frozen=True, slots=True)
class Combined:
    """`probabilities` (n, k) given both voters, their top as `confidence` (n,), `first_confidence`
    (n,) = chance that the first voter's own top is right, `second_accuracy`, `basis`."""

    probabilities: Floats
    confidence: Floats
    first_confidence: Floats
    second_accuracy: float
    basis: str


def combine_independent(probabilities: Floats, second: Ints, name: str) -> Combined:
    """Combine the first voter's distribution (n, k) (vote shares, or probabilities) with one answer
    per row (n,) of an independent second voter called `name`; -1 or a NaN row is missing.

    Raises: InputError when fewer than 50 rows have both, or they agree no more than by chance.
    """
    first = np.asarray(probabilities, dtype=np.float64)
    answered = ~np.isnan(first).any(axis=1)
    both = answered & (second >= 0)
    if both.sum() < 50:
        raise InputError(f"only {int(both.sum())} rows have both voters' answers", hint="at least 50 are needed")
    known = np.asarray(np.round(np.nan_to_num(first), 9), dtype=np.float64)
    order = np.argsort(-known, axis=1, kind="stable")
    named = (order == np.asarray(second)[:, None]) & both[:, None]
    ordered = np.take_along_axis(known, order, axis=1)
    pattern = _patterns(ordered)
    rates, counts = _rates(pattern, ordered, named)
    accuracy = _second_accuracy(rates, counts)
    truth = _truth_by_role(rates, accuracy)[pattern]
    likely = np.where(named, accuracy, (1 - accuracy) / (first.shape[1] - 1))
    joint = np.where(both[:, None], truth * likely, truth)
    joint[~answered] = np.nan
    joint /= joint.sum(axis=1, keepdims=True)
    combined = np.empty_like(joint)
    np.put_along_axis(combined, order, joint, axis=1)
    sure = np.where(answered, truth[:, 0], np.nan)
    return Combined(combined, combined.max(axis=1), sure, accuracy, f"reference:{name}")


def _patterns(ordered: Floats) -> Ints:
    """Rows with the same shape of votes, sorted highest first, share a pattern."""
    shapes, index = np.unique(np.round(ordered, 6), axis=0, return_inverse=True)
    rows = len(ordered)
    if len(shapes) * ROWS_PER_PATTERN <= rows:
        return index.reshape(-1).astype(np.int64)
    bins = int(np.clip(rows // ROWS_PER_PATTERN, 2, 20))
    edges = np.quantile(ordered[:, 0], np.arange(1, bins) / bins)
    _, index = np.unique(np.searchsorted(edges, ordered[:, 0]), return_inverse=True)
    return index.astype(np.int64)


def _rates(pattern: Ints, ordered: Floats, named: Bools) -> tuple[Floats, Floats]:
    """Per pattern, how often the second voter names the first one's 1st, 2nd, ... option. `named`
    (n, k) is all False where it gave no answer. Options with equal votes share their rates, so that
    the order of options never matters."""
    _, example = np.unique(pattern, return_index=True)
    table = np.zeros((len(example), ordered.shape[1]))
    np.add.at(table, pattern, named)
    counts: Floats = table.sum(axis=1) + SMOOTHING
    rates: Floats = (table + SMOOTHING * table.sum(axis=0) / table.sum()) / counts[:, None]
    equal = ordered[example][:, :, None] == ordered[example][:, None, :]
    return np.einsum("pij,pj->pi", equal / equal.sum(axis=2, keepdims=True), rates), counts


def _second_accuracy(rates: Floats, counts: Floats) -> float:
    """Largest lower bound: were the truth always among the first r options of a pattern, the second
    voter would name one of them with a + (1 - a)(r - 1)/(k - 1)."""
    options = rates.shape[1]
    size = np.arange(1, options)
    within = np.clip(np.cumsum(rates, axis=1)[:, :-1], 0.0, 1.0)

    def bound(caution: float) -> Floats:
        lower, _ = wilson(within, counts[:, None], z=caution)
        result: Floats = (lower * (options - 1) - (size - 1)) / (options - size)
        return result

    best = float(bound(1.0).flat[np.argmax(bound(CAUTION))])
    if best <= 1 / options:
        raise InputError(
            "the second voter agrees with the first no more than by chance",
            hint="nothing can be calibrated with it; check that both answer the same question",
        )
    return min(best, 1 - 1e-3)


def _truth_by_role(rates: Floats, accuracy: float) -> Floats:
    """Per pattern, how often the truth is the first voter's 1st, 2nd, ... option."""
    chance = (1 - accuracy) / (rates.shape[1] - 1)
    truth: Floats = np.clip((rates - chance) / (accuracy - chance), 1e-4, None)
    truth /= truth.sum(axis=1, keepdims=True)
    return truth
