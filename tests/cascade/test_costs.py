"""Money and time of a cascade, and what is said where it does not pay or where prices are missing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cascade.costs import expect, worth
from cascade.outcomes import Outcomes

TIERS = ("small", "middle", "teacher")


def outcomes(cost: tuple[float, ...] = (1, 3, 10), seconds: tuple[float, ...] = (0.1, 0.2, 1)) -> Outcomes:
    answers, blank = np.zeros((4, 3), dtype=np.int64), np.full((4, 3), np.nan)
    return Outcomes(TIERS, answers, {}, np.tile(cost, (4, 1)).astype(float), np.tile(seconds, (4, 1)), blank)


ALL = np.ones(3, dtype=np.bool_)


def test_drafts_are_paid_on_escalation_and_skipped_tiers_are_not() -> None:
    tier = np.array([0, 1, 2, 2])
    found = expect(outcomes(), tier, ALL)
    assert found.shares == (0.25, 0.25, 0.5)
    assert found.cost == pytest.approx((1 + 4 + 14 + 14) / 4)
    assert found.drafts == pytest.approx((1 + 4 + 4 + 4) / 4)
    assert found.break_even == pytest.approx(0.325)
    assert found.cost_saved == pytest.approx(1 - 8.25 / 10)
    skipping = expect(outcomes((1, np.nan, 10)), np.array([0, 0, 2, 2]), np.array([True, False, True]))
    assert skipping.cost == pytest.approx((1 + 1 + 11 + 11) / 4)


def test_a_missing_price_makes_the_cost_unknown() -> None:
    found = expect(outcomes((np.nan, 3, 10)), np.array([0, 1, 2, 2]), ALL)
    assert (found.cost, found.cost_saved, found.break_even) == (None, None, None)
    assert found.baseline_cost == 10
    assert found.latency == pytest.approx((0.1 + 0.3 + 1.3 + 1.3) / 4)


def test_a_few_missing_prices_are_left_out_of_the_mean() -> None:
    rows = outcomes()
    many = replace(
        rows,
        answers=np.zeros((40, 3), dtype=np.int64),
        **{part: np.tile(getattr(rows, part)[0], (40, 1)) for part in ("cost", "latency", "quality")},
    )
    many.cost[:3, 0] = np.nan
    assert expect(many, np.zeros(40, dtype=np.int64), ALL).cost == pytest.approx(1)
    many.cost[:5, 0] = np.nan
    assert expect(many, np.zeros(40, dtype=np.int64), ALL).cost is None


def test_money_decides_and_a_slower_cascade_says_so() -> None:
    tier = np.array([0, 0, 0, 2])
    assert worth(expect(outcomes(), tier, ALL), TIERS, 0.01).reason == "saves 57.5% of the cost"
    slow = worth(expect(outcomes(seconds=(2, 2, 1)), tier, ALL), TIERS, 0.01)
    assert (slow.saves, slow.reason) == (True, "saves 57.5% of the cost, but answers later on average")
    assert worth(expect(outcomes(), tier, ALL), TIERS, 0.6).saves is False


def test_a_cascade_that_loses_money_names_the_break_even() -> None:
    lost = worth(expect(outcomes((4, 4, 10)), np.array([0, 2, 2, 2]), ALL), TIERS, 0.01)
    assert lost.saves is False
    assert "take 70.0% of teacher's money" in lost.reason
    assert "25.0% would be: use teacher alone" in lost.reason
    never = worth(expect(outcomes((11, 0, 10)), np.array([0, 2, 2, 2]), ALL), TIERS, 0.01)
    assert "which no share can pay for" in never.reason


@pytest.mark.parametrize(
    ("cost", "seconds", "saves", "said"),
    [
        ((np.nan, 3, 10), (0.1, 0.2, 1), True, "nothing can be said about money; saves 60.0% of the time"),
        ((np.nan, 3, 10), (2, 2, 1), None, "use teacher alone"),
        ((np.nan, 3, 10), (np.nan, 1, 1), None, "nor about time, as no latencies were recorded"),
        ((0, 0, 0), (0.1, 0.2, 1), True, "teacher costs nothing, so no money can be saved; saves 60.0% of the time"),
        ((0, 0, 0), (2, 2, 1), False, "use teacher alone"),
    ],
)
def test_time_decides_where_money_cannot(
    cost: tuple[float, ...], seconds: tuple[float, ...], saves: bool | None, said: str
) -> None:
    found = worth(expect(outcomes(cost, seconds), np.array([0, 0, 0, 2]), ALL), TIERS, 0.01)
    assert found.saves is saves
    assert said in found.reason
