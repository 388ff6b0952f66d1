"""Decisions over views -> one distribution per row.

The views of one model are dependent voters, so their corrected log-probabilities are averaged, not
summed: many views of one model make its answer steadier, not surer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from curator.calibration import batch_bias
from curator.confidence import Floats, flips, log_normalise
from curator.errors import InputError
from curator.prior import PriorEstimate, assumed, estimate_prior
from curator.types import JsonObject
from curator.votes import VoteResult, vote

__all__ = ["Aggregated", "DecisionModel", "VoteResult", "fit_decisions", "vote"]


@dataclass(frozen=True, slots=True)
class Aggregated:
    """One answer per row: `probabilities` (m, k), `confidence` (m,) = the best one's,
    `effective_votes` (m,), `flip` (m,) = share of pairs of views that differ. A row that no view
    answered is NaN with 0 effective votes."""

    probabilities: Floats
    confidence: Floats
    effective_votes: Floats
    flip: Floats

    @property
    def top(self) -> list[int | None]:
        """Index of each row's label, None where nothing answered."""
        return [None if np.isnan(row[0]) else int(np.argmax(row)) for row in self.probabilities]


@dataclass(frozen=True, slots=True)
class DecisionModel:
    """What was learned from a uniform sample of the corpus, applied to all of it.

    `bias` (v, k) is subtracted from each view's normalised log-probabilities, `weights` (v,) sum to
    1, `correlation` is how much the views repeat each other.
    """

    bias: Floats
    weights: Floats
    prior: PriorEstimate
    correlation: float
    flip_rate: float
    rows: int

    @property
    def basis(self) -> str:
        """`batch`: corrected for the label bias, calibrated against nothing."""
        return "batch"

    def transform(self, logprobs: Floats) -> Aggregated:
        """Probabilities for (m, v, k) log-probabilities. A row depends on its own values only.

        Raises: InputError when views or options are not those of the fit.
        """
        values = _cube(logprobs)
        if values.shape[1:] != self.bias.shape:
            raise InputError(
                f"fitted on {self.bias.shape[0]} views of {self.bias.shape[1]} options, "
                f"given {values.shape[1]} of {values.shape[2]}"
            )
        corrected = log_normalise(log_normalise(values) - self.bias)
        answered = ~np.isnan(corrected[:, :, 0])
        share = np.where(answered, self.weights, 0.0)
        total = share.sum(axis=1)
        mixed = np.einsum("nv,nvk->nk", share, np.nan_to_num(corrected)) / np.where(total > 0, total, 1.0)[:, None]
        probabilities = np.exp(log_normalise(np.where(total[:, None] > 0, mixed, np.nan)))
        votes = answered.sum(axis=1)
        effective = votes / (1 + np.maximum(votes - 1, 0) * self.correlation)
        return Aggregated(probabilities, probabilities.max(axis=1), effective, flips(corrected))

    def report(self) -> JsonObject:
        """What a person should know before trusting the labels."""
        low, high = self.prior.interval
        return {
            "basis": self.basis,
            "calibrated": False,
            "rows": self.rows,
            "prior": self.prior.prior.tolist(),
            "prior_identified": self.prior.identified,
            "prior_method": self.prior.method,
            "prior_interval": [low.tolist(), high.tolist()],
            "view_bias": self.bias.tolist(),
            "view_weights": self.weights.tolist(),
            "view_correlation": self.correlation,
            "order_flip_rate": self.flip_rate,
        }

    def to_json(self) -> JsonObject:
        """Everything that `from_json` needs; the report is a superset of the model."""
        return self.report()

    @classmethod
    def from_json(cls, data: JsonObject) -> DecisionModel:
        """Raises: InputError when `data` is not what `to_json` wrote."""
        try:
            low, high = (np.asarray(end, dtype=np.float64) for end in cast(list[list[float]], data["prior_interval"]))
            prior = PriorEstimate(
                np.asarray(data["prior"], dtype=np.float64),
                bool(data["prior_identified"]),
                str(data["prior_method"]),
                (low, high),
            )
            return cls(
                np.asarray(data["view_bias"], dtype=np.float64),
                np.asarray(data["view_weights"], dtype=np.float64),
                prior,
                float(cast(float, data["view_correlation"])),
                float(cast(float, data["order_flip_rate"])),
                int(cast(int, data["rows"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a decision model: {error!r}") from error


def fit_decisions(
    logprobs: Floats,
    *,
    prior: Literal["auto", "uniform"] | Sequence[float] = "auto",
    weights: Sequence[float] | None = None,
) -> DecisionModel:
    """Learn the label bias of each view from log-probabilities (n, v, k) of a uniform sample.

    `prior` is how often the classes occur: given, taken as equal, or estimated. `weights` (v,) is
    how far each view is trusted, equal by default. NaN rows or views are missing.
    """
    values = log_normalise(_cube(logprobs))
    views = values.shape[1]
    estimate = _prior(values, prior)
    bias = np.stack([batch_bias(values[:, view], estimate.prior) for view in range(views)])
    trust = np.ones(views) if weights is None else np.asarray(weights, dtype=np.float64)
    if trust.shape != (views,) or not (trust >= 0).all() or trust.sum() <= 0:
        raise InputError(f"weights must be {views} numbers >= 0, one per view, not all zero")
    flip = flips(values)
    return DecisionModel(
        bias,
        trust / trust.sum(),
        estimate,
        _correlation(log_normalise(values - bias)),
        float(np.nanmean(flip)) if (~np.isnan(flip)).any() else 0.0,
        int((~np.isnan(flip)).sum()),
    )


def _prior(values: Floats, prior: Literal["auto", "uniform"] | Sequence[float]) -> PriorEstimate:
    options = values.shape[2]
    if prior == "auto":
        return estimate_prior(values)
    if isinstance(prior, str):
        return assumed(np.full(options, 1.0 / options), "uniform")
    given = np.asarray(prior, dtype=np.float64)
    if given.shape != (options,) or not (given > 0).all():
        raise InputError(f"the prior must hold {options} shares above 0, one per option, not {list(prior)}")
    return assumed(given / given.sum(), "given")


def _correlation(corrected: Floats) -> float:
    """Mean correlation of the views' corrected log-probabilities, at least 0; 1 with one view."""
    views = corrected.shape[1]
    flat = corrected.transpose(1, 0, 2).reshape(views, -1)
    flat = flat[:, ~np.isnan(flat).any(axis=0)]
    if views < 2 or flat.shape[1] < 3 or (flat.std(axis=1) < 1e-9).any():
        return 1.0
    matrix = np.corrcoef(flat)
    return float(np.clip((matrix.sum() - views) / (views * (views - 1)), 0.0, 1.0))


def _cube(logprobs: Floats) -> Floats:
    values = np.asarray(logprobs, dtype=np.float64)
    if values.ndim != 3 or values.shape[1] < 1 or values.shape[2] < 2:
        raise InputError(f"log-probabilities must be (rows, views >= 1, options >= 2), not {values.shape}")
    return values
