"""The curve over all thresholds, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from replay_builders import outcomes

from cascade.deferral import Blocks, Deferral, Pair, baselines, curve, judged, thinned
from curator.errors import InputError


def test_a_curve_escalates_the_lowest_scores_first_and_pays_the_draft_too():
    pair = Pair.of(outcomes([0, 1, 0, 1], [1, 1, 1, 0]))
    found = curve(pair, Deferral("sure", np.array([0.1, 0.9, 0.4, 0.6])))
    assert found.calls.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.quality.tolist() == [0.5, 0.75, 1.0, 0.75, 0.75]
    assert found.cost.tolist() == [1, 3.5, 6, 8.5, 11]
    assert found.thresholds.tolist() == [0.1, 0.4, 0.6, 0.9, np.inf]


def test_equal_scores_cannot_be_told_apart_and_a_missing_one_escalates_first():
    pair = Pair.of(outcomes([0, 1, 0, 1], [1, 1, 1, 0]))
    found = curve(pair, Deferral("sure", np.array([0.5, 0.5, np.nan, 0.5])))
    assert found.calls.tolist() == [0, 0.25, 1]
    assert found.quality.tolist() == [0.5, 0.75, 0.75]


def test_what_a_score_costs_is_paid_for_every_query():
    pair = Pair.of(outcomes([0, 1], [1, 1]))
    found = curve(pair, Deferral("votes", np.array([0.0, 1.0]), np.array([2.0, 4.0])))
    assert found.cost.tolist() == [4.0, 9.0, 14.0]


def test_an_unknown_cost_stays_unknown():
    found = curve(Pair.of(outcomes([0, 1], [1, 1], costs=(1.0, np.nan))), Deferral("sure", np.array([0.0, 1.0])))
    assert np.isnan(found.cost[1:]).all()
    assert found.to_json()["cost"][1:] == [None, None]
    assert found.to_json()["threshold"] == [0.0, 1.0, None]


def test_the_oracle_takes_every_gain_and_no_loss():
    pair = Pair.of(outcomes([0, 1, 0, 1], [1, 1, 0, 0]))
    random, oracle = baselines(pair)
    assert curve(pair, oracle).quality.max() == 0.75
    assert len(set(random.scores)) == 4


def test_running_sums_follow_the_blocks():
    blocks = Blocks.of(np.array([3.0, 1.0, 1.0]))
    table = np.array([[5.0, 1.0, 2.0]])[:, blocks.order]
    assert blocks.running(table).tolist() == [[0.0, 3.0, 8.0]]


def test_a_thinned_curve_keeps_its_ends():
    random = np.random.default_rng(0)
    pair = Pair.of(outcomes(random.integers(0, 2, 900), random.integers(0, 2, 900)))
    full = curve(pair, Deferral("noise", random.random(900)))
    short = thinned(full)
    assert len(short.calls) <= 202
    assert (short.calls[0], short.calls[-1]) == (0.0, 1.0)
    assert short.quality[-1] == full.quality[-1]


def test_without_recorded_quality_the_last_tier_is_the_measure():
    given = outcomes([np.nan] * 4, [np.nan] * 4, answers=[[1, 1], [2, 1], [-1, 3], [4, -1]])
    known, basis, left_out = judged(given)
    assert (basis, left_out, known.ids) == ("vs_teacher", 1, ("q0", "q1", "q2"))
    assert known.quality.tolist() == [[1, 1], [0, 1], [0, 1]]


def test_queries_of_unknown_quality_are_left_out_and_counted():
    known, basis, left_out = judged(outcomes([1, np.nan, 0], [1, 1, 1]))
    assert (basis, left_out, known.ids) == ("vs_truth", 1, ("q0", "q2"))
    with pytest.raises(InputError, match="no query has a known quality"):
        judged(outcomes([np.nan, 1], [1, np.nan]))


def test_an_unknown_quality_is_refused_by_name():
    with pytest.raises(InputError, match="quality of strong is unknown for query q1"):
        Pair.of(outcomes([1, 1], [1, np.nan]))


def test_a_rule_of_another_length_is_refused():
    with pytest.raises(InputError, match="rule sure must be"):
        curve(Pair.of(outcomes([1, 1], [1, 1])), Deferral("sure", np.zeros(3)))


def test_a_curve_needs_two_tiers():
    with pytest.raises(InputError, match="two tiers, not 1"):
        Pair.of(outcomes([1, 1], [1, 1]).only("weak"))
