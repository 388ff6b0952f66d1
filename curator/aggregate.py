"""Decisions over views -> one distribution per row.

The views of one model are dependent voters: their corrected log-probabilities add up to their mean
times their *effective* number, so that copies of one view make its answer no surer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np

from curator.calibration import batch_bias
from curator.confidence import Bools, Floats, flips, log_normalise
from curator.errors import InputError
from curator.prior import PriorEstimate, assumed, estimate_prior
from curator.types import Json, JsonObject
from curator.votes import VoteResult, vote

__all__ = ["Aggregated", "DecisionModel", "VoteResult", "fit_decisions", "vote"]


@dataclass(frozen=True, slots=True)
class Aggregated:
    """One answer per row: `probabilities` (m, k), `confidence` (m,) = the best one's,
    `effective_votes` (m,), `flip` (m,) = share of pairs of views that differ. A row that no view
    answered is NaN with 0 effective votes. `contradicted` (m,), where the labels were denoised: whether
    texts like it are labelled otherwise."""

    probabilities: Floats
    confidence: Floats
    effective_votes: Floats
    flip: Floats
    contradicted: Bools | None = None

    @property
    def top(self) -> list[int | None]:
        """Index of each row's label, None where nothing answered."""
        return [None if np.isnan(row[0]) else int(np.argmax(row)) for row in self.probabilities]


@dataclass(frozen=True, slots=True)
class DecisionModel:
    """What was learned from a uniform sample of the corpus, applied to all of it.

    `bias` (v, k) is subtracted from each view's normalised log-probabilities and `offset` (k,) from
    their mean; `weights` (v,) sum to 1; `correlation` is how much the views repeat each other.
    """

    bias: Floats
    offset: Floats
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
        mixed, effective = _mix(corrected, self.weights, self.correlation)
        probabilities = np.exp(log_normalise(mixed - self.offset))
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
            "offset": self.offset.tolist(),
            "order_flip_rate": self.flip_rate,
        }

    def to_json(self) -> JsonObject:
        """What `from_json` needs, which is the report."""
        return self.report()

    @classmethod
    def from_json(cls, data: JsonObject) -> DecisionModel:
        """Raises: InputError when `data` is not what `to_json` wrote."""
        try:
            low, high = _array(data["prior_interval"])
            identified, method = bool(data["prior_identified"]), str(data["prior_method"])
            return cls(
                _array(data["view_bias"]),
                _array(data["offset"]),
                _array(data["view_weights"]),
                PriorEstimate(_array(data["prior"]), identified, method, (low, high)),
                float(cast(float, data["view_correlation"])),
                float(cast(float, data["order_flip_rate"])),
                int(cast(int, data["rows"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"not a decision model: {error!r}") from error


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Several rounds of one model: every round's views have a decision model of their own, in order, and a
    row's probabilities are the mean over the rounds that answered it.

    Of probabilities, not of their logarithms: where rounds differ, the answer becomes less sure. After three
    rounds with examples this takes the calibration error from 0.09-0.16 to 0.03-0.07 on four data sets.
    """

    parts: tuple[DecisionModel, ...]

    @property
    def basis(self) -> str:
        return self.parts[-1].basis

    @property
    def prior(self) -> PriorEstimate:
        """The last round's."""
        return self.parts[-1].prior

    def transform(self, logprobs: Floats) -> Aggregated:
        """As `DecisionModel.transform`, of all rounds' views (m, v, k)."""
        values = _cube(logprobs)
        ends = np.cumsum([len(part.bias) for part in self.parts])
        if values.shape[1] != ends[-1]:
            raise InputError(f"fitted on {ends[-1]} views, given {values.shape[1]}")
        cut = zip(self.parts, np.split(values, ends[:-1], axis=1), strict=True)
        found = [part.transform(views) for part, views in cut]
        probabilities = _answered_mean([one.probabilities for one in found])
        votes = _answered_mean([np.where(one.effective_votes > 0, one.effective_votes, np.nan) for one in found])
        flip = _answered_mean([one.flip for one in found])
        return Aggregated(probabilities, probabilities.max(axis=1), np.nan_to_num(votes), flip)

    def report(self) -> JsonObject:
        """The last round's, and how many there are."""
        return {**self.parts[-1].report(), "rounds_averaged": len(self.parts)}


def _answered_mean(parts: Sequence[Floats]) -> Floats:
    """Mean over the parts that are not NaN; NaN where all are."""
    stacked = np.stack(parts)
    known = ~np.isnan(stacked)
    count = known.sum(axis=0)
    mean: Floats = np.where(known, stacked, 0.0).sum(axis=0) / np.maximum(count, 1)
    return np.where(count > 0, mean, np.nan)


def fit_decisions(
    logprobs: Floats,
    *,
    prior: Literal["auto", "uniform"] | Sequence[float] | PriorEstimate = "auto",
    weights: Sequence[float] | None = None,
) -> DecisionModel:
    """Learn the label bias of each view from log-probabilities (n, v, k) of a uniform sample.

    `prior` is how often the classes occur: given or audited, taken as equal, or estimated where the
    data identify it (else equal, and `report` says so). `weights` (v,) is how far each view is
    trusted, equal by default. NaN rows or views are missing.
    """
    values = log_normalise(_cube(logprobs))
    trust = _trust(weights, values.shape[1])
    estimate = _prior(values, trust, prior)
    bias = _view_bias(values, estimate.prior)
    corrected = log_normalise(values - bias)
    correlation = _correlation(corrected)
    mixed, _ = _mix(corrected, trust, correlation)
    flip = flips(corrected)
    answered = ~np.isnan(flip)
    return DecisionModel(
        bias,
        batch_bias(log_normalise(mixed), estimate.prior),
        trust,
        estimate,
        correlation,
        float(flip[answered].mean()) if answered.any() else 0.0,
        int(answered.sum()),
    )


def _mix(corrected: Floats, weights: Floats, correlation: float) -> tuple[Floats, Floats]:
    """Log-scores (n, k) of all of a row's answered views, and how many independent ones they are worth.

    Equally correlated views add up to their mean times their effective number (Kish 1965, s. 5.4;
    `weights` count as sampling weights do, s. 11.7).
    """
    answered = ~np.isnan(corrected[:, :, 0])
    share = np.where(answered, weights, 0.0)
    total = share.sum(axis=1)
    share = share / np.where(total > 0, total, 1.0)[:, None]
    mean = np.einsum("nv,nvk->nk", share, np.nan_to_num(corrected))
    votes = 1.0 / np.maximum((share**2).sum(axis=1), 1e-12)
    effective = np.where(total > 0, votes / (1.0 + (votes - 1.0) * correlation), 0.0)
    return np.where(total[:, None] > 0, mean * effective[:, None], np.nan), effective


def _prior(
    values: Floats, trust: Floats, prior: Literal["auto", "uniform"] | Sequence[float] | PriorEstimate
) -> PriorEstimate:
    options = values.shape[2]
    uniform = np.full(options, 1.0 / options)
    if isinstance(prior, PriorEstimate):
        return prior
    if isinstance(prior, str):
        if prior == "uniform":
            return assumed(uniform, "uniform")
        raw, _ = _mix(values, trust, 1.0)
        corrected, _ = _mix(log_normalise(values - _view_bias(values, uniform)), trust, 1.0)
        return estimate_prior(raw, corrected)
    given = np.asarray(prior, dtype=np.float64)
    if given.shape != (options,) or not (given > 0).all():
        raise InputError(f"the prior must hold {options} shares above 0, one per option, not {list(prior)}")
    return assumed(given / given.sum(), "given")


def _view_bias(values: Floats, prior: Floats) -> Floats:
    return np.stack([batch_bias(values[:, view], prior) for view in range(values.shape[1])])


def _trust(weights: Sequence[float] | None, views: int) -> Floats:
    trust = np.ones(views) if weights is None else np.asarray(weights, dtype=np.float64)
    if trust.shape != (views,) or not (trust >= 0).all() or trust.sum() <= 0:
        raise InputError(f"weights must be {views} numbers >= 0, one per view, not all zero")
    result: Floats = trust / trust.sum()
    return result


def _correlation(corrected: Floats) -> float:
    """Mean rank correlation (Spearman 1904) of the views' centred log-probabilities, at least 0; 1 with
    one view. Of ranks, since one option cut at the floor would rule a correlation of values."""
    views = corrected.shape[1]
    centred = corrected - corrected.mean(axis=2, keepdims=True)
    flat = centred.transpose(1, 0, 2).reshape(views, -1)
    flat = flat[:, ~np.isnan(flat).any(axis=0)]
    if views < 2 or flat.shape[1] < 3 or (flat.std(axis=1) < 1e-9).any():
        return 1.0
    matrix = np.corrcoef(flat.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable"))
    return float(np.clip((matrix.sum() - views) / (views * (views - 1)), 0.0, 1.0))


def _array(value: Json) -> Floats:
    return np.asarray(value, dtype=np.float64)


def _cube(logprobs: Floats) -> Floats:
    values = np.asarray(logprobs, dtype=np.float64)
    if values.ndim != 3 or values.shape[1] < 1 or values.shape[2] < 2:
        raise InputError(f"log-probabilities must be (rows, views >= 1, options >= 2), not {values.shape}")
    return values
