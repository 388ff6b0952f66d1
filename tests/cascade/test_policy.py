"""A policy as data: what a scorer makes of signals, and what cannot be one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from route_builders import certificate, policy, row, scripted

from cascade.policy import Policy, Rule, Scorer

UNIT = st.floats(0, 1)


@st.composite
def scorers(draw):
    size = draw(st.integers(1, 4))
    apart = st.floats(-3, 3).map(lambda knot: round(knot, 300))
    knots = sorted(draw(st.lists(apart, max_size=6, unique=True)))
    values = draw(st.lists(UNIT, min_size=len(knots), max_size=len(knots)))
    weights = draw(st.lists(st.floats(-4, 4), min_size=size, max_size=size))
    names = tuple(f"s{number}" for number in range(size))
    return Scorer(signals=names, weights=weights, bias=draw(st.floats(-2, 2)), knots=knots, values=values)


@given(scorers(), st.data())
def test_one_answer_scores_to_the_last_bit_as_in_the_table_that_its_threshold_comes_from(scorer, data):
    width = len(scorer.signals)
    signals = data.draw(st.lists(st.lists(UNIT | st.just(math.nan), min_size=width, max_size=width), max_size=8))
    table = scorer.score(np.array(signals, dtype=np.float64).reshape(-1, width))
    assert [scorer.score_one(row).hex() for row in signals] == [float(score).hex() for score in table]


@given(scorers(), st.data())
def test_the_table_is_the_weighted_sum_drawn_through_the_knots(scorer, data):
    signals = np.array([data.draw(st.lists(UNIT, min_size=len(scorer.signals), max_size=len(scorer.signals)))])
    total = signals @ np.array(scorer.weights) + scorer.bias
    # Where two knots nearly touch, the last bit of the sum decides between their values.
    touching = any(high - low < 1e-6 for low, high in zip(scorer.knots, scorer.knots[1:], strict=False))
    if not touching:
        wanted = np.interp(total, scorer.knots, scorer.values) if scorer.knots else total
        assert scorer.score(signals) == pytest.approx(wanted, abs=1e-6)


def test_a_single_signal_is_its_own_score():
    scorer = Scorer(signals=("margin",), weights=(1.0,))
    assert scorer.score_one([0.1 + 0.2]) == 0.1 + 0.2


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"weights": (1.0, 1.0)}, "one weight per signal"),
        ({"knots": (0.0, 1.0)}, "one value per knot"),
        ({"knots": (1.0, 0.0), "values": (0.0, 1.0)}, "knots of a scorer ascend"),
        ({"knots": (0.0, 5e-324), "values": (0.0, 1.0)}, "knots of a scorer ascend"),
        ({"knots": (0.5, 0.5), "values": (0.0, 1.0)}, "knots of a scorer ascend"),
        ({"knots": (math.nan, 1.0), "values": (0.0, 1.0)}, "knots of a scorer ascend"),
        ({"signals": ()}, "at least 1 item"),
        ({"values": (1.5,), "knots": (0.0,)}, "less than or equal to 1"),
    ],
)
def test_a_scorer_whose_parts_do_not_fit_is_none(changed, match):
    with pytest.raises(ValidationError, match=match):
        Scorer(**{"signals": ("margin",), "weights": (1.0,), **changed})


def test_a_rule_without_a_threshold_is_never_reached():
    scorer = Scorer(signals=("margin",), weights=(1.0,))
    assert Rule(tier="small", scorer=scorer, threshold=None).limit == math.inf
    assert Rule(tier="small", scorer=scorer, threshold=0.5).limit == 0.5


def test_a_policy_survives_its_file():
    tiers = {"small": scripted("small", decide=[]), "strong": scripted("strong", decide=[])}
    found = policy(tiers, row(), {"mood": [0.8]}, certified=certificate("BLOCK", notes=("seen little",)))
    assert Policy.model_validate_json(found.model_dump_json()) == found
    with pytest.raises(ValidationError, match="extra"):
        Policy.model_validate({**found.model_dump(), "thresholds": []})
