"""Scorers, learned on recorded outcomes: signals of a tier's answer -> the chance that it may be served.

Candidates are every signal alone and the logistic fusion of all of them. Each is made a probability by an isotonic map
that keeps the order of the rows. Where the truth is known, each is also fitted to the *escalation value*: how likely
the last tier would mend the answer, less how likely it would spoil it; an answer that both have wrong is not worth an
escalation. The candidate that lets the tier serve most at the risk, judged on rows that it was not fitted on, is taken.

Everything here may overfit without harm to a certificate, which is tested on other rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cascade.outcomes import NO_ANSWER, Outcomes
from cascade.policy import Scorer
from curator.calibration import isotonic
from curator.confidence import Bools, Floats, Ints
from curator.errors import MissingExtraError

FOLDS: Final = 5
FEWEST: Final = 30
"""Rows below which nothing is fitted."""
RISKS: Final = (0.5, 1.0, 1.5)
"""Multiples of alpha at which the share that may be served is judged; one alone is noise on few rows."""
_EDGE: Final = 1e-3
"""Fitted chances keep so far from 0 and 1, that the surest rows still have an order."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The scorer that was taken for a tier, what it was fitted to, and the share that it would serve at the risk
    (on rows that it was not fitted on)."""

    scorer: Scorer
    target: str
    share: float


def choose(outcomes: Outcomes, tier: int, losses: Floats, alpha: float, *, fusion: bool = True) -> Choice | None:
    """The best scorer of a tier whose `losses` (n,) in [0, 1] are known on these rows; None where the tier has too few
    answers or no signal.

    Raises: MissingExtraError where scikit-learn is wanted for the fusion and not installed.
    """
    known = answered(outcomes, tier) & ~np.isnan(losses)
    names = _usable(outcomes, tier, known)
    if known.sum() < FEWEST or not names:
        return None
    right = 1.0 - losses
    found: list[tuple[float, str, tuple[str, ...], Floats]] = []
    for name in names:
        # The isotonic map keeps the order, so the signal itself is judged.
        table = signal_table(outcomes, tier, (name,))
        found.append((_reach(np.where(known, table[:, 0], np.nan), losses, alpha), "right", (name,), right))
    for target, goal in _targets(outcomes, tier, right) if fusion and len(names) > 1 else ():
        table = signal_table(outcomes, tier, names)
        scores = _cross_fitted(table, goal, _complete(known, table, goal), names)
        found.append((_reach(scores, losses, alpha), target, names, goal))
    share, target, signals, goal = max(found, key=lambda one: one[0])
    table = signal_table(outcomes, tier, signals)
    rows = _complete(known, table, goal)
    return Choice(fit(table[rows], goal[rows], signals), target, share)


def _complete(known: Bools, table: Floats, goal: Floats) -> Bools:
    """The rows that can be fitted: nothing of them is NaN."""
    result: Bools = known & ~np.isnan(table).any(axis=1) & ~np.isnan(goal)
    return result


def answered(outcomes: Outcomes, tier: int) -> Bools:
    """The rows (n,) that a tier answered; where only the quality of its answers was recorded, those that have one."""
    given: Bools = outcomes.answers != NO_ANSWER
    return given[:, tier] if given.any() else ~np.isnan(outcomes.quality[:, tier])


def _usable(outcomes: Outcomes, tier: int, known: Bools) -> tuple[str, ...]:
    """The signals that nearly all answers of the tier have, and that are not the same for all."""
    found = []
    for name in outcomes.signals:
        column = outcomes.signals[name][known, tier]
        column = column[~np.isnan(column)]
        if len(column) >= 0.9 * known.sum() and len(column) and np.ptp(column) > 0:
            found.append(name)
    return tuple(found)


def _targets(outcomes: Outcomes, tier: int, right: Floats) -> Iterator[tuple[str, Floats]]:
    yield "right", right
    value = (1.0 + outcomes.quality[:, tier] - outcomes.quality[:, -1]) / 2
    if (~np.isnan(value)).sum() >= FEWEST:
        yield "escalation value", value


def signal_table(outcomes: Outcomes, tier: int, names: Sequence[str]) -> Floats:
    """The signals (n, len(names)) of a tier; NaN where it did not answer or was not recorded."""
    columns = [outcomes.signals[name][:, tier] for name in names]
    table = np.stack(columns, axis=1) if columns else np.empty((len(outcomes), 0))
    return np.where(answered(outcomes, tier)[:, None], table, np.nan)


def score_table(outcomes: Outcomes, scorers: Sequence[Scorer | None]) -> Floats:
    """Scores (n, t - 1) of all tiers but the last, for `cascade.outcomes.serve`; NaN where a tier has no scorer."""
    scores = [
        np.full(len(outcomes), np.nan) if one is None else one.score(signal_table(outcomes, tier, one.signals))
        for tier, one in enumerate(scorers)
    ]
    return np.stack(scores, axis=1)


def fit(table: Floats, goal: Floats, signals: tuple[str, ...]) -> Scorer:
    """The scorer of `signals` from their values (n, s), none NaN, and what is to be predicted (n,) in [0, 1].

    Raises: MissingExtraError
    """
    weights, bias = (np.ones(1), 0.0) if len(signals) == 1 else _logistic(table, goal)
    knots, values = _steps(table @ weights + bias, goal)
    return Scorer(signals=signals, weights=tuple(map(float, weights)), bias=bias, knots=knots, values=values)


def _logistic(table: Floats, goal: Floats) -> tuple[Floats, float]:
    """Weights (s,) and bias on the log-odds. A goal that is a fraction counts as so much of a yes and of a no."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingExtraError(
            f"the fusion of signals needs {error.name or error}",
            hint="pip install 'goldless[cascade]', or leave it off (fusion = false): each signal is then tried alone",
        ) from error
    if goal.min() == goal.max():
        return np.ones(table.shape[1]) / table.shape[1], 0.0
    centre, spread = table.mean(axis=0), np.maximum(table.std(axis=0), 1e-9)
    points = np.concatenate([(table - centre) / spread] * 2)
    said = np.repeat([1, 0], len(goal))
    model = LogisticRegression(C=1.0, max_iter=1000).fit(points, said, sample_weight=np.concatenate([goal, 1 - goal]))
    weights: Floats = model.coef_[0] / spread
    return weights, float(model.intercept_[0] - weights @ centre)


def _steps(totals: Floats, goal: Floats) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots and values of the isotonic fit, drawn through the middles of its steps: no two rows with different totals
    get the same score, so that any threshold between them can be chosen."""
    order = np.argsort(totals, kind="stable")
    levels, index = np.unique(totals[order], return_inverse=True)
    mass = np.bincount(index).astype(np.float64)
    heights = isotonic(np.bincount(index, goal[order]) / mass, mass)
    step = np.concatenate([[0], np.cumsum(np.diff(heights) > 0)])
    size = np.bincount(step, mass)
    middle = np.bincount(step, levels * mass) / size
    value = _EDGE + (1 - 2 * _EDGE) * np.bincount(step, heights * mass) / size
    knots = [levels[0], *middle, levels[-1]]
    values = [value[0] - _EDGE / 2, *value, (1.0 + value[-1]) / 2]
    kept = [i for i in range(len(knots)) if i == 0 or knots[i] > knots[i - 1]]
    return tuple(float(knots[i]) for i in kept), tuple(float(values[i]) for i in kept)


def _cross_fitted(table: Floats, goal: Floats, fitted: Bools, signals: tuple[str, ...]) -> Floats:
    """Scores (n,) of scorers that did not see the row; NaN where the row is not to be fitted."""
    scores = np.full(len(table), np.nan)
    rows = np.flatnonzero(fitted)
    fold: Ints = np.random.default_rng(0).permutation(len(rows)) % FOLDS
    for number in range(FOLDS):
        seen, unseen = rows[fold != number], rows[fold == number]
        scores[unseen] = fit(table[seen], goal[seen], signals).score(table[unseen])
    return scores


def _reach(scores: Floats, losses: Floats, alpha: float) -> float:
    """Share of all rows that may be served from the highest score down, while their losses stay within the risk."""
    order = np.argsort(-np.nan_to_num(scores, nan=-1.0), kind="stable")[: int((~np.isnan(scores)).sum())]
    risk = np.cumsum(np.nan_to_num(losses[order], nan=1.0)) / max(len(scores), 1)
    last = np.append(np.diff(scores[order]) < 0, True)
    served = np.flatnonzero(last) + 1
    return float(np.mean([max([0, *served[risk[served - 1] <= alpha * part]]) for part in RISKS]) / max(len(scores), 1))
