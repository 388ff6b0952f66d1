"""From scores to probabilities: batch calibration without gold, and monotone calibrators with it.

*Batch calibration* removes what a model prefers whatever the text says: per view, the bias under
which the corpus' mean answer equals the class prior. *Reference* and *audited* calibration learn a
monotone map from a confidence to the chance of being right, from a stronger model's agreement or from
rows that people checked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

import numpy as np

from curator.confidence import Bools, Floats, Ints, log_normalise
from curator.errors import InputError
from curator.types import JsonObject

ISOTONIC_FROM: Final = 400
"""Rows from which pool-adjacent-violators is used. Below, Platt's two parameters vary less: on the
correlated-votes set, ECE 0.046 against 0.061 with 50 checked rows, 0.035 / 0.043 with 100, equal with
200 (40 draws each)."""

Method = Literal["platt", "isotonic"]


def batch_bias(logprobs: Floats, prior: Floats, *, steps: int = 200) -> Floats:
    """Bias (k,) whose removal makes the corpus' mean answer equal `prior` (k,).

    `logprobs` (n, k) are one view's normalised log-probabilities; rows with NaN are left out. The
    first step is batch calibration as published, log of the mean probability (Zhou et al. 2023,
    arXiv 2309.17249, eq. 3); repeated, it reaches the fixed point at which a calibrated model would
    be: E[p(y|x)] = p(y). Estimate it on a uniform sample of the corpus, never on the row itself.
    """
    rows = logprobs[~np.isnan(logprobs).any(axis=1)]
    bias = np.zeros(logprobs.shape[1])
    if not len(rows):
        return bias
    for _ in range(steps):
        mean = np.exp(log_normalise(rows - bias)).mean(axis=0)
        change = np.log(np.maximum(mean, 1e-12) / prior)
        bias += change
        if np.abs(change).max() < 1e-6:
            break
    result: Floats = bias - bias.mean()
    return result


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A monotone map from a confidence to the probability of being right.

    Between knots it is linear, outside them constant. `lower` and `upper` are the ends of a
    pointwise 90% interval. `basis` says what it was learned from, `n` from how many rows.
    """

    method: Method
    knots: tuple[float, ...]
    values: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    basis: str
    n: int

    def transform(self, confidence: Floats) -> Floats:
        """Calibrated probability per row; NaN stays NaN."""
        return np.interp(confidence, self.knots, self.values)

    def interval(self, confidence: Floats) -> tuple[Floats, Floats]:
        """Ends (n,), (n,) of the 90% interval around `transform`."""
        return np.interp(confidence, self.knots, self.lower), np.interp(confidence, self.knots, self.upper)

    def to_json(self) -> JsonObject:
        return {
            "method": self.method,
            "knots": list(self.knots),
            "values": list(self.values),
            "lower": list(self.lower),
            "upper": list(self.upper),
            "basis": self.basis,
            "n": self.n,
        }

    @classmethod
    def from_json(cls, data: JsonObject) -> Calibrator:
        """Raises: InputError when `data` is not what `to_json` wrote."""
        try:
            knots, values, lower, upper = (
                tuple(map(float, cast(list[float], data[name]))) for name in ("knots", "values", "lower", "upper")
            )
            method, basis, n = cast(Method, data["method"]), str(data["basis"]), int(cast(int, data["n"]))
            return cls(method, knots, values, lower, upper, basis, n)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a calibrator: {error!r}") from error


def calibrate_with_reference(
    confidence: Floats, agrees: Bools, reference: str, *, weights: Floats | None = None, method: Method | None = None
) -> Calibrator:
    """Chance that a stronger model agrees, from rows (n,) that it answered too.

    It is the chance of being right only as far as the reference is. Basis `reference:<name>`.
    """
    return _fit(confidence, agrees, f"reference:{reference}", weights, method)


def calibrate_with_audits(
    confidence: Floats, correct: Bools, *, weights: Floats | None = None, method: Method | None = None
) -> Calibrator:
    """Chance of being right, from rows (n,) that people checked. `weights` are inverse sampling
    probabilities where the audited rows were not drawn uniformly. Basis `audited(<n>)`."""
    return _fit(confidence, correct, f"audited({int((~np.isnan(confidence)).sum())})", weights, method)


def isotonic(targets: Floats, weights: Floats) -> Floats:
    """Non-decreasing fit of `targets` (n,), given in the order of their scores, by pooling adjacent
    violators (Ayer et al. 1955)."""
    blocks: list[tuple[float, float, int]] = []
    for target, weight in zip(targets, weights, strict=True):
        blocks.append((float(target), float(weight), 1))
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            value, mass, size = blocks.pop()
            before, base, count = blocks.pop()
            total = mass + base
            blocks.append(((value * mass + before * base) / total, total, size + count))
    return np.repeat([block[0] for block in blocks], [block[2] for block in blocks])


def platt(scores: Floats, targets: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Logistic fit right ~ a + b x with b >= 0 (Platt 1999), and the covariance (2, 2) of (a, b).

    `scores` are logits. A weak normal prior (a about 0, b about 1) keeps separable data finite.
    """
    design = np.stack([np.ones_like(scores), scores], axis=1)
    centre, precision = np.array([0.0, 1.0]), np.diag([0.5, 0.5])
    theta = centre.copy()
    hessian = precision
    for _ in range(100):
        chance = 1.0 / (1.0 + np.exp(-np.clip(design @ theta, -30, 30)))
        gradient = design.T @ (weights * (targets - chance)) - precision @ (theta - centre)
        hessian = (design * (weights * chance * (1 - chance))[:, None]).T @ design + precision
        step = np.linalg.solve(hessian, gradient)
        theta = theta + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-9:
            break
    theta[1] = max(theta[1], 0.0)
    return theta, np.linalg.inv(hessian)


def logit(probability: Floats) -> Floats:
    """Log-odds, finite at 0 and 1."""
    clipped = np.clip(probability, 1e-4, 1 - 1e-4)
    result: Floats = np.log(clipped) - np.log1p(-clipped)
    return result


def wilson(rate: Floats, count: Floats, z: float = 1.645) -> tuple[Floats, Floats]:
    """Wilson score interval of a proportion (Wilson 1927); z = 1.645 is 90%."""
    spread = z * np.sqrt(rate * (1 - rate) / count + z**2 / (4 * count**2))
    middle, scale = rate + z**2 / (2 * count), 1 + z**2 / count
    return np.maximum((middle - spread) / scale, 0.0), np.minimum((middle + spread) / scale, 1.0)


def _fit(confidence: Floats, right: Bools, basis: str, weights: Floats | None, method: Method | None) -> Calibrator:
    scores = np.asarray(confidence, dtype=np.float64)
    targets = np.asarray(right, dtype=np.float64)
    mass = np.ones_like(scores) if weights is None else np.asarray(weights, dtype=np.float64)
    if len(scores) != len(targets):
        raise InputError(f"{len(scores)} confidences for {len(targets)} outcomes")
    known = ~np.isnan(scores)
    if known.sum() < 2:
        raise InputError(
            f"{int(known.sum())} checked rows with a confidence are too few to calibrate with",
            hint="check 50 to 200 rows, spread over low and high confidence",
        )
    scores, targets, mass = scores[known], targets[known], mass[known]
    mass = mass * len(mass) / mass.sum()
    chosen = method or ("isotonic" if len(scores) >= ISOTONIC_FROM else "platt")
    fit = _fit_isotonic if chosen == "isotonic" else _fit_platt
    return fit(scores, targets, mass, basis)


def _fit_platt(scores: Floats, targets: Floats, weights: Floats, basis: str) -> Calibrator:
    theta, covariance = platt(logit(scores), targets, weights)
    knots = np.linspace(0.0, 1.0, 201)
    design = np.stack([np.ones_like(knots), logit(knots)], axis=1)
    middle = design @ theta
    spread = 1.645 * np.sqrt(np.einsum("ni,ij,nj->n", design, covariance, design))
    curves = [1.0 / (1.0 + np.exp(-value)) for value in (middle, middle - spread, middle + spread)]
    return _calibrator("platt", knots, curves, basis, len(scores))


def _fit_isotonic(scores: Floats, targets: Floats, weights: Floats, basis: str) -> Calibrator:
    knots, index = np.unique(scores, return_inverse=True)
    mass = np.bincount(index, weights).astype(np.float64)
    means = np.bincount(index, weights * targets) / mass
    values = isotonic(means, mass)
    block = np.concatenate([[0], np.cumsum(np.diff(values) > 0)]).astype(np.int64)
    count = np.bincount(block, mass)[block].astype(np.float64)
    lower, upper = wilson(values, count)
    return _calibrator("isotonic", knots, [values, lower, upper], basis, len(scores))


def _calibrator(method: Method, knots: Floats, curves: Sequence[Floats], basis: str, n: int) -> Calibrator:
    values, lower, upper = ([float(x) for x in curve] for curve in curves)
    if any(math.isnan(value) for value in values):
        raise InputError("the checked rows have weights or outcomes that are not numbers")
    return Calibrator(method, tuple(map(float, knots)), tuple(values), tuple(lower), tuple(upper), basis, n)


def choose_audits(confidence: Floats, count: int, *, seed: int = 0) -> tuple[Ints, Floats]:
    """Rows for people to check where they tighten the calibration most, with sampling weights.

    Stratified by confidence (at most 10 strata of equal size), drawn in proportion to rows x
    sqrt(c (1 - c)) (Neyman 1934). Returns row indices (count,) and their weights for
    `calibrate_with_audits`; rows without a confidence (NaN) are never chosen.
    """
    scores = np.asarray(confidence, dtype=np.float64)
    rows = np.flatnonzero(~np.isnan(scores))
    if not 0 < count <= len(rows):
        raise InputError(f"cannot choose {count} of {len(rows)} rows for audit")
    edges = np.unique(np.quantile(scores[rows], np.arange(1, 10) / 10))
    stratum = np.searchsorted(edges, scores[rows])
    strata = [rows[stratum == number] for number in np.unique(stratum)]
    sizes = np.array([len(group) for group in strata])
    middle = np.clip([scores[group].mean() for group in strata], 0.02, 0.98)
    wanted = _allot(sizes * np.sqrt(middle * (1 - middle)), sizes, count)
    random = np.random.default_rng(seed)
    chosen = [random.choice(group, want, replace=False) for group, want in zip(strata, wanted, strict=True)]
    weights = [np.full(want, size / max(want, 1)) for want, size in zip(wanted, sizes, strict=True)]
    return np.concatenate(chosen).astype(np.int64), np.concatenate(weights)


def _allot(shares: Floats, sizes: Ints, count: int) -> Ints:
    """Whole numbers summing to `count`, in proportion to `shares`, none above its size."""
    wanted = np.zeros(len(sizes), dtype=np.int64)
    for _ in range(count):
        need = np.where(wanted < sizes, shares / (wanted + 0.5), -1.0)
        wanted[int(np.argmax(need))] += 1
    return wanted
