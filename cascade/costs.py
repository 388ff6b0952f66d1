"""What a cascade costs with its escalations, against its last tier alone; and whether that is worth it.

Every draft is paid, also one that is not served. What is unknown stays unknown: a missing price is never zero, and
where it matters the cost is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cascade.outcomes import Outcomes, spent
from curator.confidence import Bools, Floats, Ints

KNOWN: Final = 0.9
"""Share of the rows whose price or time must be known; the mean is then over these."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Means per query. `shares` is what each tier serves; `drafts` and `late_drafts` are the money and the seconds
    before the last tier; None is unknown."""

    shares: tuple[float, ...]
    cost: float | None
    baseline_cost: float | None
    drafts: float | None
    latency: float | None
    baseline_latency: float | None
    late_drafts: float | None

    @property
    def before(self) -> float:
        """Share that is served before the last tier."""
        return 1.0 - self.shares[-1]

    @property
    def cost_saved(self) -> float | None:
        """Share of the last tier's cost that is saved; negative where the cascade costs more."""
        return _saved(self.cost, self.baseline_cost)

    @property
    def time_saved(self) -> float | None:
        """Share of the last tier's latency that is saved."""
        return _saved(self.latency, self.baseline_latency)

    @property
    def break_even(self) -> float | None:
        """Share that must be served before the last tier for the drafts to pay; above 1 they never do."""
        return _ratio(self.drafts, self.baseline_cost)

    @property
    def time_break_even(self) -> float | None:
        """The same, for time."""
        return _ratio(self.late_drafts, self.baseline_latency)


def expect(outcomes: Outcomes, tier: Ints, active: Bools) -> Expected:
    """Means over recorded queries, of which `tier` (n,) says who serves and `active` (t,) who is asked at all."""
    shares = np.bincount(tier, minlength=len(outcomes.tiers)) / max(len(tier), 1)
    money, seconds = (_means(table, tier, active) for table in (outcomes.cost, outcomes.latency))
    return Expected(tuple(map(float, shares)), *money, *seconds)


def _means(table: Floats, tier: Ints, active: Bools) -> tuple[float | None, float | None, float | None]:
    """Per query: all that is spent, the last tier alone, and the drafts before the last tier."""
    asked = np.where(active, table, 0.0)
    drafts = asked.copy()
    drafts[:, -1] = 0.0
    return _mean(spent(asked, tier)), _mean(table[:, -1]), _mean(spent(drafts, tier))


def _mean(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) and len(known) >= KNOWN * len(values) else None


def _saved(spent_: float | None, baseline: float | None) -> float | None:
    share = _ratio(spent_, baseline)
    return None if share is None else 1.0 - share


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


@dataclass(frozen=True, slots=True)
class Worth:
    """Whether a cascade saves: yes, no, or None where that cannot be said; and why, for people."""

    saves: bool | None
    reason: str


def worth(expected: Expected, tiers: Sequence[str], least: float) -> Worth:
    """Money decides where it is known, else time. `least` is the share that must be saved."""
    teacher, cheaper = tiers[-1], expected.cost_saved
    if cheaper is not None:
        slower = expected.time_saved is not None and expected.time_saved < 0
        if cheaper >= least:
            return Worth(
                True, f"saves {cheaper:.1%} of the cost" + (", but answers later on average" if slower else "")
            )
        return Worth(False, _useless(expected, teacher, "money", expected.break_even))
    missing = f"the prices of {' and '.join(tiers)} are not all known, so nothing can be said about money"
    if expected.baseline_cost == 0:
        missing = f"{teacher} costs nothing, so no money can be saved"
    if (faster := expected.time_saved) is None:
        return Worth(None, f"{missing}, nor about time, as no latencies were recorded")
    if faster >= least:
        return Worth(True, f"{missing}; saves {faster:.1%} of the time")
    useless = _useless(expected, teacher, "time", expected.time_break_even)
    return Worth(False if expected.baseline_cost == 0 else None, f"{missing}; {useless}")


def _useless(expected: Expected, teacher: str, what: str, even: float | None) -> str:
    """Why the cascade is not worth it, and what to do instead."""
    figure = f"the drafts take {'no' if even is None else f'{even:.1%}'} of {teacher}'s {what}"
    never = even is not None and even >= 1
    pays = "which no share can pay for" if never else "which pays only if a greater share is served before it"
    return f"{figure}, {pays}; {expected.before:.1%} would be: use {teacher} alone"
