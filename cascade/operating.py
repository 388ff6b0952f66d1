"""One operating point on recorded outcomes: a policy, or signals with stated thresholds, over any number of tiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade.deferral import Deferral
from cascade.outcomes import Outcomes, serve, served, spent
from cascade.policy import Policy, QuestionPolicy, Rule, Scorer
from cascade.resampling import DRAWS, Estimate, resampled
from curator.confidence import Floats
from curator.errors import InputError
from curator.types import JsonObject


@dataclass(frozen=True, slots=True)
class Point:
    """What a policy would have done with `rows` queries.

    `shares` are of the tiers that answer. `saved` is the share of the last tier's cost that is saved, all drafts
    paid; `change` is the quality minus that of the last tier; `pgr` the share recovered of the gap between the first
    and the last tier.
    """

    name: str
    rows: int
    tiers: tuple[str, ...]
    shares: tuple[float, ...]
    quality: Estimate
    cost: Estimate
    saved: Estimate
    change: Estimate
    pgr: Estimate

    def to_json(self) -> JsonObject:
        figures = ("quality", "cost", "saved", "change", "pgr")
        return {
            "name": self.name,
            "rows": self.rows,
            "tiers": list(self.tiers),
            "shares": list(self.shares),
            **{name: getattr(self, name).to_json() for name in figures},
        }


def signal_rules(outcomes: Outcomes, name: str, threshold: float | None = None) -> tuple[Rule, ...]:
    """One signal with one threshold for every tier but the last."""
    scorer = Scorer(signals=(name,), weights=(1.0,))
    return tuple(Rule(tier=tier, scorer=scorer, threshold=threshold) for tier in outcomes.tiers[:-1])


def question_of(policy: Policy, name: str = "") -> QuestionPolicy:
    """The question that a policy is replayed for. Raises: InputError unless it is named, or the only one."""
    names = [question.name for question in policy.questions]
    if not name and len(names) == 1:
        return policy.questions[0]
    if name not in names:
        message = f"the policy has no question {name!r}" if name else f"the policy has {len(names)} questions"
        raise InputError(message, hint=f"one of {', '.join(names)}")
    return policy.questions[names.index(name)]


def scores(outcomes: Outcomes, rules: Sequence[Rule]) -> Floats:
    """Scores (n, t - 1) of all tiers but the last. Raises: InputError unless there is one rule per tier, in order,
    and every signal was recorded."""
    tiers = [rule.tier for rule in rules]
    if tiers != list(outcomes.tiers[:-1]):
        raise InputError(
            f"the rules are for {', '.join(tiers) or 'no tier'}, the outcomes of {', '.join(outcomes.tiers)}",
            hint="name the tiers in the policy's order; the last one needs no rule",
        )
    return np.stack([_score(outcomes, at, rule) for at, rule in enumerate(rules)], axis=1)


def _score(outcomes: Outcomes, at: int, rule: Rule) -> Floats:
    known = outcomes.signals
    if missing := [name for name in rule.scorer.signals if name not in known]:
        raise InputError(
            f"the outcomes hold no signal {', '.join(missing)}", hint=f"recorded: {', '.join(known) or 'none'}"
        )
    return rule.scorer.score(np.stack([known[name][:, at] for name in rule.scorer.signals], axis=1))


def deferral(outcomes: Outcomes, name: str, rules: Sequence[Rule]) -> Deferral:
    """The rule of the weak one of two tiers, whatever its threshold: what a curve is drawn of."""
    if len(outcomes.tiers) != 2:
        raise InputError(f"a curve is about two tiers, not {len(outcomes.tiers)}: {', '.join(outcomes.tiers)}")
    return Deferral(name, scores(outcomes, rules)[:, 0])


def operate(outcomes: Outcomes, name: str, rules: Sequence[Rule], *, draws: int = DRAWS, seed: int = 0) -> Point:
    """The rules with their thresholds on queries whose quality is known. A tier without a threshold is skipped and
    costs nothing. Raises: InputError as `scores` does."""
    limits = np.array([rule.limit for rule in rules])
    tier = serve(scores(outcomes, rules), limits)
    asked = np.append(np.isfinite(limits), True)
    cost = spent(np.where(asked, outcomes.cost, 0.0), tier)
    quality, last = served(outcomes.quality, tier), outcomes.quality[:, -1]
    parts = np.stack([quality, last, outcomes.quality[:, 0], cost, outcomes.cost[:, -1]], axis=1)
    drawn = np.concatenate([counts @ parts for counts in resampled(len(parts), draws, seed)]) / len(parts)
    plain = parts.mean(axis=0)
    return Point(
        name,
        len(outcomes),
        outcomes.tiers,
        tuple(float((tier == number).mean()) for number in range(len(outcomes.tiers))),
        Estimate.of(float(plain[0]), drawn[:, 0]),
        _known(plain[3], drawn[:, 3]),
        _ratio(plain[4] - plain[3], plain[4], drawn[:, 4] - drawn[:, 3], drawn[:, 4]),
        Estimate.of(float(plain[0] - plain[1]), drawn[:, 0] - drawn[:, 1]),
        _recovered(plain, drawn),
    )


def _known(value: float, drawn: Floats) -> Estimate:
    return Estimate(None, reason="a cost is unknown") if np.isnan(value) else Estimate.of(float(value), drawn)


def _ratio(above: float, below: float, drawn_above: Floats, drawn_below: Floats) -> Estimate:
    if np.isnan(above) or np.isnan(below):
        return Estimate(None, reason="a cost is unknown")
    if below <= 0:
        return Estimate(None, reason="the last tier costs nothing")
    return Estimate.of(float(above / below), drawn_above / np.where(drawn_below > 0, drawn_below, np.nan))


def _recovered(plain: Floats, drawn: Floats) -> Estimate:
    """PGR, from the quality of the policy, of the last and of the first tier in the first three columns."""
    gaps = drawn[:, 1] - drawn[:, 2]
    if not np.quantile(gaps, 0.025) > 0:
        return Estimate(None, reason="the last tier is not better than the first: the gap's interval includes 0")
    ratios = (drawn[:, 0] - drawn[:, 2]) / np.where(gaps > 0, gaps, np.nan)
    return Estimate.of(float((plain[0] - plain[2]) / (plain[1] - plain[2])), ratios)
