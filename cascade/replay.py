"""Deferral rules replayed on recorded outcomes: what would they have cost, and how good would they have been?

PGR = (q - q_w) / (q_s - q_w) is the share of the gap between weak and strong that is recovered; APGR is its mean over
the share of strong calls (Ong et al. 2024, RouteLLM, arXiv 2406.18665, s. 2.2), here the exact area under the curve
over all thresholds: 0.5 for random routing. CPT(50%) and CPT(80%) are the least shares of strong calls that recover so
much of it. Savings are against the strong tier alone, drafts and all; the threshold is chosen on one half of the
queries and scored on the other, both ways. Where it does not save on the half that it was chosen on, the strong tier
is called directly, as a certificate would have it.

Everything here is pure. Intervals are of a paired bootstrap over queries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cascade.deferral import Deferral, Pair, check
from cascade.outcomes import Outcomes
from cascade.replay_figures import LOSSES, SHARES, Figures, figures
from cascade.resampling import DRAWS, Estimate, resampled
from curator.confidence import Floats
from curator.errors import InputError
from curator.types import JsonObject


@dataclass(frozen=True, slots=True)
class Saving:
    """What is saved where at most `loss` of the strong tier's quality may be lost: the share of its cost, the share
    of queries it was called for, and the change of quality that really came of it on queries not chosen on."""

    loss: float
    saved: Estimate
    calls: Estimate
    change: Estimate

    def to_json(self) -> JsonObject:
        parts = {name: getattr(self, name).to_json() for name in ("saved", "calls", "change")}
        return {"loss": self.loss, **parts}


@dataclass(frozen=True, slots=True)
class Arm:
    """One rule's figures. `lead` is its APGR minus that of the rule `Replay.against`; `saved_more` the same of the
    savings, in the order of `savings`."""

    name: str
    apgr: Estimate
    calls: Mapping[float, Estimate]
    savings: tuple[Saving, ...]
    lead: Estimate
    saved_more: tuple[Estimate, ...]

    def to_json(self) -> JsonObject:
        return {
            "name": self.name,
            "apgr": self.apgr.to_json(),
            "calls": {f"{share:g}": found.to_json() for share, found in self.calls.items()},
            "savings": [found.to_json() for found in self.savings],
            "lead": self.lead.to_json(),
            "saved_more": [found.to_json() for found in self.saved_more],
        }


@dataclass(frozen=True, slots=True)
class Replay:
    """Rules side by side on `rows` queries of a weak and a strong tier. Costs are per query, None where unknown."""

    tiers: tuple[str, str]
    rows: int
    weak: Estimate
    strong: Estimate
    gap: Estimate
    weak_cost: float | None
    strong_cost: float | None
    against: str
    arms: tuple[Arm, ...]

    def to_json(self) -> JsonObject:
        names = ("weak", "strong", "gap")
        return {
            "tiers": list(self.tiers),
            "rows": self.rows,
            **{name: getattr(self, name).to_json() for name in names},
            "weak_cost": self.weak_cost,
            "strong_cost": self.strong_cost,
            "against": self.against,
            "arms": [arm.to_json() for arm in self.arms],
        }


def replay(
    outcomes: Outcomes, rules: Sequence[Deferral], *, against: str = "", draws: int = DRAWS, seed: int = 0
) -> Replay:
    """Every rule on the same queries of two tiers, against one of them (the first unless named).

    APGR, calls and leads have no value where the tiers do not differ (the gap's interval includes 0) or the strong
    one is worse; savings have none where a cost is unknown.

    Raises: InputError for other than two tiers, an unknown quality, no rule, or a rule of another length.
    """
    pair = Pair.of(outcomes)
    check(pair, rules)
    names = [rule.name for rule in rules]
    if not names or (against and against not in names):
        raise InputError(f"no rule is called {against!r}" if names else "there is no rule to replay")
    first = names.index(against) if against else 0
    gap = _means(pair, draws, seed)
    reason = _undefined(gap[2])
    found = figures(pair, rules, draws, seed)
    weak_cost, strong_cost = (_mean_cost(part) for part in (pair.weak_cost, pair.strong_cost))
    arms = tuple(
        _arm(rule.name, ours, found[first], (reason, _unpriced(pair, rule) or _unpriced(pair, rules[first])))
        for rule, ours in zip(rules, found, strict=True)
    )
    return Replay(pair.tiers, len(pair.weak), *gap, weak_cost, strong_cost, names[first], arms)


def _mean_cost(part: Floats) -> float | None:
    return None if np.isnan(part).any() else float(part.mean())


def _unpriced(pair: Pair, rule: Deferral) -> str:
    """Why there is no saving, if so. A price that is missing is never zero."""
    parts = {pair.tiers[0]: pair.weak_cost, pair.tiers[1]: pair.strong_cost, rule.name: rule.cost}
    missing = [name for name, part in parts.items() if part is not None and np.isnan(part).any()]
    if missing:
        return f"the cost of {', '.join(missing)} is unknown"
    return "" if pair.strong_cost.any() else f"{pair.tiers[1]} costs nothing"


def _means(pair: Pair, draws: int, seed: int) -> tuple[Estimate, Estimate, Estimate]:
    """Quality of weak and strong alone, and the gap between them."""
    parts = np.stack([pair.weak, pair.strong, pair.gain], axis=1)
    drawn = np.concatenate([counts @ parts for counts in resampled(len(parts), draws, seed)]) / len(parts)
    weak, strong, gap = (Estimate.of(float(parts[:, at].mean()), drawn[:, at]) for at in range(3))
    return weak, strong, gap


def _undefined(gap: Estimate) -> str:
    """Why there is no share of the gap to speak of, if so."""
    if gap.low is not None and gap.low > 0:
        return ""
    if gap.high is not None and gap.high < 0:
        return "the strong tier is worse than the weak one"
    return "weak and strong do not differ: the interval of the gap includes 0"


def _arm(name: str, ours: Figures, theirs: Figures, reasons: tuple[str, str]) -> Arm:
    """`reasons` say why there is no share of the gap, and no saving."""
    no_gap, no_cost = reasons
    gap = _estimates(ours.gap, ours.gap_drawn, no_gap)
    lead = _estimates(ours.gap[:1] - theirs.gap[:1], ours.gap_drawn[:, :1] - theirs.gap_drawn[:, :1], no_gap)
    (saved, drawn), (other, others) = _column(ours, 0), _column(theirs, 0)
    calls, change = (_estimates(*_column(ours, at), "") for at in (1, 2))
    savings = zip(LOSSES, _estimates(saved, drawn, no_cost), calls, change, strict=True)
    return Arm(
        name,
        gap[0],
        dict(zip(SHARES, gap[1:], strict=True)),
        tuple(Saving(*parts) for parts in savings),
        lead[0],
        _estimates(saved - other, drawn - others, no_cost),
    )


def _column(found: Figures, at: int) -> tuple[Floats, Floats]:
    """One of saved, calls and change, per loss."""
    return found.savings[at::3], found.savings_drawn[:, at::3]


def _estimates(values: Floats, drawn: Floats, reason: str) -> tuple[Estimate, ...]:
    if reason:
        return tuple(Estimate(None, reason=reason) for _ in values)
    return tuple(Estimate.of(float(value), drawn[:, at]) for at, value in enumerate(values))
