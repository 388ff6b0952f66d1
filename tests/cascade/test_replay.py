"""Replayed figures: by hand where that is possible, against known worlds where it is not."""

from __future__ import annotations

import numpy as np
import pytest
from replay_builders import outcomes

from cascade.deferral import Deferral, Pair, baselines
from cascade.replay import replay
from curator.errors import InputError


def world(rows=1500, seed=0, costs=(1.0, 10.0)):
    """A strong tier that mends most of what the weak one gets wrong, and a signal that knows something of it."""
    random = np.random.default_rng(seed)
    weak = random.random(rows) < 0.7
    strong = np.where(weak, random.random(rows) < 0.95, random.random(rows) < 0.7)
    sure = weak + random.normal(0, 0.7, rows)
    return outcomes(weak, strong, costs=costs), Deferral("sure", sure)


def arm(result, name):
    return next(found for found in result.arms if found.name == name)


def test_a_signal_that_knows_all_and_one_that_knows_nothing_by_hand():
    # Two of four queries gain; sorted rightly they go first: PGR is 0, 1/2, 1, 1, 1 at 0..4 calls.
    given = outcomes([0, 0, 1, 1] * 30, [1, 1, 1, 1] * 30)
    right = Deferral("right", np.tile([0.0, 0.0, 1.0, 1.0], 30))
    flat = Deferral("flat", np.zeros(120))
    result = replay(given, [right, flat], draws=200)
    assert arm(result, "right").apgr.value == pytest.approx(0.75)
    assert arm(result, "right").calls[0.5].value == pytest.approx(0.25)
    assert arm(result, "right").calls[0.8].value == pytest.approx(0.4)
    assert arm(result, "flat").apgr.value == pytest.approx(0.5)
    assert arm(result, "flat").calls[0.8].value == pytest.approx(0.8)
    # Half of the queries at 1 + 10, half at 1, against 10 each.
    equal = arm(result, "right").savings[0]
    assert equal.saved.value == pytest.approx(1 - 6 / 10, abs=0.01)
    assert equal.change.value == pytest.approx(0.0, abs=1e-9)
    # One block is all or nothing; all of it costs 11 > 10, so the strong tier is called directly.
    assert arm(result, "flat").savings[0].saved.value == 0.0
    assert arm(result, "flat").savings[0].calls.value == 1.0
    assert arm(result, "flat").lead.value == pytest.approx(-0.25)


def test_random_routing_is_at_a_half_and_the_oracle_above_everything():
    given, sure = world()
    result = replay(given, [sure, *baselines(Pair.of(given))])
    random, oracle, ours = (arm(result, name) for name in ("random", "oracle", "sure"))
    assert random.apgr.low <= 0.5 <= random.apgr.high
    assert abs(random.apgr.value - 0.5) < 0.06
    assert random.apgr.high < ours.apgr.value < oracle.apgr.value
    assert oracle.calls[0.8].value < ours.calls[0.8].value < random.calls[0.8].value
    assert oracle.savings[0].saved.value > ours.savings[0].saved.value > random.savings[0].saved.value
    assert ours.savings[1].saved.value > ours.savings[0].saved.value
    assert result.against == "sure"
    assert random.lead.high < 0 < oracle.lead.low


def test_intervals_of_pairs_are_narrower_than_those_of_each():
    given, sure = world()
    near = Deferral("near", sure.scores + np.random.default_rng(1).normal(0, 0.05, len(sure.scores)))
    result = replay(given, [sure, near])
    lead, alone = arm(result, "near").lead, arm(result, "near").apgr
    assert lead.high - lead.low < 0.5 * (alone.high - alone.low)
    assert lead.low <= 0 <= lead.high
    assert arm(result, "near").saved_more[0].low <= 0 <= arm(result, "near").saved_more[0].high


def test_the_interval_of_apgr_covers_the_truth():
    many, signal = world(60_000, seed=99)
    expected, hits = replay(many, [signal], draws=2).arms[0].apgr.value, 0
    for seed in range(40):
        given, sure = world(400, seed=seed)
        found = replay(given, [sure], draws=300).arms[0].apgr
        hits += found.low <= expected <= found.high
    assert hits >= 34


def test_a_threshold_from_the_other_half_keeps_the_quality_that_it_promises_on_average():
    changes = []
    for seed in range(25):
        given, sure = world(600, seed=seed)
        changes.append(replay(given, [sure], draws=100).arms[0].savings[1].change.value)
    # One point may go; learning on 300 queries costs a little more, never several points.
    assert -0.02 < np.mean(changes) < 0.0


def test_without_a_gap_there_is_no_share_of_it():
    random = np.random.default_rng(0)
    weak = random.random(300) < 0.8
    flat = outcomes(weak, random.permutation(weak))
    found = replay(flat, [Deferral("sure", random.random(300))]).arms[0]
    assert found.apgr.value is None
    assert "interval of the gap includes 0" in found.apgr.reason
    assert all(calls.value is None for calls in found.calls.values())
    assert found.savings[1].saved.value is not None


def test_a_strong_tier_that_is_worse_is_said_to_be():
    given, sure = world()
    swapped = given.only("strong", "weak")
    assert "worse" in replay(swapped, [sure], draws=200).arms[0].apgr.reason


@pytest.mark.parametrize(("costs", "missing"), [((1.0, np.nan), "strong"), ((np.nan, 10.0), "weak")])
def test_a_missing_price_is_never_zero(costs, missing):
    given, sure = world(200, costs=costs)
    found = replay(given, [sure], draws=100)
    saving = found.arms[0].savings[0]
    assert saving.saved.value is None
    assert saving.saved.reason == f"the cost of {missing} is unknown"
    assert 0 < saving.calls.value <= 1
    assert found.to_json()["arms"][0]["savings"][0]["saved"]["value"] is None


def test_a_strong_tier_for_nothing_saves_nothing():
    given, sure = world(200, costs=(1.0, 0.0))
    assert replay(given, [sure], draws=100).arms[0].savings[0].saved.reason == "strong costs nothing"


def test_a_cascade_that_loses_money_is_not_run():
    given, sure = world(costs=(9.5, 10.0))
    saving = replay(given, [sure], draws=100).arms[0].savings[0]
    assert saving.saved.value == 0.0
    assert saving.calls.value == 1.0
    assert saving.change.value == 0.0


def test_the_same_seed_gives_the_same_figures():
    given, sure = world(300)
    assert replay(given, [sure], draws=100, seed=4) == replay(given, [sure], draws=100, seed=4)


def test_names_that_do_not_fit_are_refused():
    given, sure = world(50)
    with pytest.raises(InputError, match="no rule is called 'other'"):
        replay(given, [sure], against="other")
    with pytest.raises(InputError, match="two rules are called 'sure'"):
        replay(given, [sure, sure])
    with pytest.raises(InputError, match="no rule to replay"):
        replay(given, [])
