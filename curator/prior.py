"""How often each class occurs, estimated without gold, and whether that can be known at all.

A label bias and a skewed class prior both shift a model's log-odds; no shift can be told from the
other. What tells them apart is shape: where the classes form separate clusters of log-odds, the
clusters' sizes are the prior. So a mixture with one Gaussian per class is fitted to the
bias-corrected log-odds, and believed only where the density between every two clusters falls well
below both, and every cluster is the one that its own option's log-probability is highest in.
Where it does not, the prior is *not identified*: equal classes are assumed, and the report says so.

Measured on a 0.5B model (`benchmarks/label_quality.py`): believing the mixture without this
check, EM on calibrated probabilities (Saerens et al. 2002), Dawid & Skene (1979) over templates and
the mean-log variant of batch calibration all lost to equal classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from curator.calibration import batch_bias
from curator.confidence import Floats, Ints, log_normalise
from curator.errors import ConfigError, InputError

VALLEY: Final = 0.8
"""Most that the density between two clusters may reach, relative to the lower of their peaks."""
APART: Final = 2.5
"""Least distance of clusters, in standard deviations, that supports what the raw labels say."""
RAW_AGREEMENT: Final = 0.9
"""Least agreement of the clusters with the raw labels for weakly separated clusters to be used."""
EVIDENCE: Final = 10.0
"""Least by which the Bayesian information criterion must prefer weakly separated clusters to a single one: "very
strong" evidence (Kass and Raftery 1995). Else the tail of one cluster passes for a rare class, and the raw labels of a
model that almost always says the same agree with that."""
LEAST_ROWS: Final = 10
"""Rows that the smallest cluster must hold."""
DEEPEST: Final = 12.0
"""Nats below a row's best option at which log-probabilities are cut: a Gaussian is no match for -inf."""
MOST_ROWS: Final = 5000
"""About as many rows are fitted, evenly spaced: more would not change what is found, only the time."""
PROBE_STEPS: Final = 3
"""Measured with 2, 3 and 5 on four data sets: alike on average, and from 5 on rare classes are lost."""
MOST_OPTIONS: Final = 20
"""Above this many options a cluster per class cannot be fitted from a sample."""


@dataclass(frozen=True, slots=True)
class PriorEstimate:
    """Class prior (k,), and whether the data identify it.

    `interval` holds the lower and upper end (k,) of 90% per class, (0, 1) where nothing is known.
    When `identified` is False, `prior` is what was assumed instead, and a report says so. `method` is
    `given`, `uniform`, `clusters` (separate ones), `clusters+raw` (weakly separated, but the raw
    labels say the same), `probes` or `audited`.
    """

    prior: Floats
    identified: bool
    method: str
    interval: tuple[Floats, Floats]


def assumed(prior: Floats, method: str) -> PriorEstimate:
    """A prior that was given, or taken for want of a better one; not estimated."""
    size = len(prior)
    if method == "given":
        return PriorEstimate(prior, True, method, (prior, prior))
    return PriorEstimate(prior, False, method, (np.zeros(size), np.ones(size)))


def prior_from_shares(shares: Mapping[str, float], labels: Sequence[str]) -> PriorEstimate:
    """The class prior that somebody knows: label -> share. The labels that `shares` leaves out have what is left of 1,
    equally. Raises: ConfigError for an unknown label, or shares that cannot be."""
    if unknown := [label for label in shares if label not in labels]:
        raise ConfigError(
            f"shares of {', '.join(unknown)}, which no option is called", hint=f"known: {', '.join(labels)}"
        )
    left, others = 1.0 - sum(shares.values()), len(labels) - len(shares)
    if not all(0 < share < 1 for share in shares.values()) or not (left > 1e-6 if others else abs(left) < 0.01):
        raise ConfigError(
            f"the shares of classes {dict(shares)} are not above 0 with the sum 1",
            hint="leave out classes whose share you do not know: they get what is left, equally",
        )
    prior = np.asarray([shares.get(label, left / max(others, 1)) for label in labels])
    return assumed(prior / prior.sum(), "given")


def estimate_prior(raw: Floats, corrected: Floats) -> PriorEstimate:
    """Class prior from log-probabilities (n, k) before (`raw`) and after (`corrected`) the removal of
    the label bias under equal classes. Rows with NaN are left out."""
    rows = np.flatnonzero(~np.isnan(raw[:, 0] + corrected[:, 0]))
    rows = rows[:: max(1, len(rows) // MOST_ROWS)]
    raw, corrected = raw[rows], corrected[rows]
    options = raw.shape[1]
    uniform = assumed(np.full(options, 1.0 / options), "uniform")
    if options > MOST_OPTIONS or len(raw) < 2 * LEAST_ROWS * options:
        return uniform
    mixture = _best_mixture(raw, corrected)
    if mixture is None:
        return uniform
    low, high = _interval(mixture)
    if mixture.valley() <= VALLEY:
        return PriorEstimate(mixture.prior, True, "clusters", (low, high))
    agree = float((mixture.rows.argmax(axis=1) == raw.argmax(axis=1)).mean())
    if agree >= RAW_AGREEMENT and mixture.distance() >= APART and mixture.evidence() >= EVIDENCE:
        return PriorEstimate(mixture.prior, False, "clusters+raw", (np.zeros(options), np.ones(options)))
    return uniform


def prior_from_probes(logprobs: Floats, probes: Floats) -> PriorEstimate:
    """Class prior from log-probabilities (n, v, k) of the corpus, and (m, v, k) of texts without content.

    Per view, the bias under which the probes' mean answer is uniform is taken from the corpus' answers, and the
    prior follows by `PROBE_STEPS` steps of expectation maximisation (Saerens et al. 2002); the views' priors are
    averaged, by rows. It is an estimate, not identified: a model's evidence is too weak for the maximum, at which
    rare classes vanish. The interval spans the views. Views without probes or rows are left out.
    """
    options = logprobs.shape[2]
    uniform = np.full(options, 1.0 / options)
    found: list[Floats] = []
    sizes: list[int] = []
    for view in range(logprobs.shape[1]):
        rows, empty = (log_normalise(part[:, view]) for part in (logprobs, probes))
        rows, empty = (part[~np.isnan(part).any(axis=1)] for part in (rows, empty))
        if len(rows) and len(empty):
            found.append(_prior_shift(log_normalise(rows - batch_bias(empty, uniform)), PROBE_STEPS))
            sizes.append(len(rows))
    if not found:
        return assumed(uniform, "uniform")
    table = np.stack(found)
    prior = np.exp(np.average(np.log(np.maximum(table, 1e-4)), axis=0, weights=sizes))
    ends = (table.min(axis=0), table.max(axis=0)) if len(found) > 1 else (np.zeros(options), np.ones(options))
    return PriorEstimate(prior / prior.sum(), False, "probes", ends)


def _prior_shift(logprobs: Floats, steps: int) -> Floats:
    """The prior (k,) that `steps` of expectation maximisation make of uniform, for log-probabilities (n, k) that
    were given under uniform."""
    prior: Floats = np.full(logprobs.shape[1], 1.0 / logprobs.shape[1])
    for _ in range(steps):
        prior = np.exp(log_normalise(logprobs + np.log(np.maximum(prior, 1e-12)))).mean(axis=0)
    return prior


def prior_from_audits(
    probabilities: Floats, audited: Ints, truth: Ints, weights: Floats | None = None
) -> PriorEstimate:
    """Class prior from rows that people checked: `truth` (a,) of the rows `audited` (a,).

    The mean answer over all rows (n, k), plus the audited rows' mean error: unbiased whatever the
    model, and tighter than the audits' own shares where the model is good (prediction-powered
    inference, Angelopoulos et al. 2023, arXiv 2301.09633). `weights` (a,) as in
    `calibrate_with_audits`.
    """
    options = probabilities.shape[1]
    if len(audited) != len(truth) or len(audited) < 10:
        raise InputError(f"{len(audited)} audited rows with {len(truth)} true classes are too few", hint="10 at least")
    mass = np.ones(len(audited)) if weights is None else np.asarray(weights, dtype=np.float64)
    mass = mass / mass.sum()
    guess = np.nan_to_num(probabilities, nan=1.0 / options)
    error = np.eye(options)[truth] - guess[audited]
    share = guess.mean(axis=0) + mass @ error
    variance = (mass[:, None] ** 2 * (error - mass @ error) ** 2).sum(axis=0) + guess.var(axis=0) / len(guess)
    prior = np.clip(share, 0.5 / (len(audited) + options), None)
    spread = 1.645 * np.sqrt(variance)
    ends = (np.clip(share - spread, 0, 1), np.clip(share + spread, 0, 1))
    return PriorEstimate(prior / prior.sum(), True, "audited", ends)


@dataclass(frozen=True, slots=True)
class _Mixture:
    """Gaussians with one shared covariance. `points` (n, d), `rows` (n, k) = chance that a row is of
    a class, `means` (k, d), `precision` (d, d)."""

    points: Floats
    rows: Floats
    prior: Floats
    means: Floats
    precision: Floats
    likelihood: float

    def distance(self) -> float:
        """Smallest Mahalanobis distance of two means."""
        gaps = self.means[:, None] - self.means[None]
        square = np.einsum("abi,ij,abj->ab", gaps, self.precision, gaps)
        return float(np.sqrt(square[~np.eye(len(gaps), dtype=np.bool_)].min()))

    def evidence(self) -> float:
        """By how much the Bayesian information criterion is better than that of a single Gaussian."""
        rows, width = self.points.shape
        spread = np.cov(self.points.T, bias=True).reshape(width, width)
        single = -0.5 * rows * (float(np.linalg.slogdet(spread)[1]) + width)
        return float(2 * (self.likelihood - single) - (len(self.prior) - 1) * (width + 1) * np.log(rows))

    def valley(self) -> float:
        """Highest ratio, over pairs of clusters, of the density between them to the lower peak."""
        options = len(self.prior)
        return max(self._pair(a, b) for a in range(options) for b in range(a))

    def _pair(self, a: int, b: int) -> float:
        """Density along the line that tells a from b best, in standard deviations."""
        axis = self.precision @ (self.means[a] - self.means[b])
        axis /= np.sqrt((self.means[a] - self.means[b]) @ axis)
        label = self.rows.argmax(axis=1)
        line = self.points[(label == a) | (label == b)] @ axis
        start, end = float(self.means[a] @ axis), float(self.means[b] @ axis)
        grid = np.linspace(min(start, end), max(start, end), 41)
        width = 0.5 * max(len(line) / 500, 1.0) ** -0.2
        density = np.exp(-0.5 * ((grid[:, None] - line) / width) ** 2).sum(axis=1)
        return float(density[8:-8].min() / min(density[:8].max(), density[-8:].max()))


def _best_mixture(raw: Floats, corrected: Floats) -> _Mixture | None:
    """The likeliest of the mixtures, from several starts, whose clusters are those of the options."""
    options = raw.shape[1]
    corrected = np.maximum(corrected, corrected.max(axis=1, keepdims=True) - DEEPEST)
    centred = corrected - corrected.mean(axis=1, keepdims=True)
    plane = np.linalg.svd(np.eye(options) - 1.0 / options)[0][:, : options - 1]
    points = centred @ plane
    sharper = 3 * (centred - centred.mean(axis=0))
    starts = [np.exp(log_normalise(start)) for start in (corrected, raw, sharper)]
    fits = [_fit_mixture(points, start) for start in starts]
    sound = [
        fit
        for fit in fits
        if ((fit.means @ plane.T).argmax(axis=0) == np.arange(options)).all()
        and np.bincount(fit.rows.argmax(axis=1), minlength=options).min() >= LEAST_ROWS
    ]
    return max(sound, key=lambda fit: fit.likelihood, default=None)


def _fit_mixture(points: Floats, rows: Floats, *, steps: int = 200) -> _Mixture:
    """Expectation maximisation (Dempster et al. 1977), one row's worth of prior mass per class."""
    size, width = points.shape
    ridge = 1e-3 * np.eye(width) * max(float(points.var(axis=0).mean()), 1e-9)
    likelihood = -np.inf
    for _ in range(steps):
        mass = rows.sum(axis=0) + 1e-9
        prior = (mass + 1) / (mass + 1).sum()
        means = (rows.T @ points) / mass[:, None]
        scatter = points.T @ points - (means.T * mass) @ means
        precision = np.linalg.inv(scatter / size + ridge)
        square = np.einsum("ni,ij,nj->n", points, precision, points)[:, None] - 2 * points @ precision @ means.T
        square = square + np.einsum("ki,ij,kj->k", means, precision, means)
        scores = np.log(prior) - 0.5 * square + 0.5 * np.linalg.slogdet(precision)[1]
        top = scores.max(axis=1, keepdims=True)
        total = np.exp(scores - top).sum(axis=1, keepdims=True)
        rows = np.exp(scores - top) / total
        before, likelihood = likelihood, float((np.log(total) + top).sum())
        if abs(likelihood - before) < 1e-6 * size:
            break
    return _Mixture(points, rows, prior, means, precision, likelihood)


def _interval(mixture: _Mixture) -> tuple[Floats, Floats]:
    """90% of a multinomial share, widened by the rows whose cluster is open."""
    open_rows = (mixture.rows * (1 - mixture.rows)).mean(axis=0)
    spread = 1.645 * np.sqrt(mixture.prior * (1 - mixture.prior) / len(mixture.rows)) + open_rows
    return np.clip(mixture.prior - spread, 0, 1), np.clip(mixture.prior + spread, 0, 1)
