"""Operating points over any number of tiers, by hand."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from cascade.operating import deferral, operate, question_of, scores, signal_rules
from cascade.outcomes import Outcomes
from cascade.policy import Certificate, Policy, QuestionPolicy, Rule, Scorer, TierRecord, Verdict
from curator.errors import InputError


def three_tiers() -> Outcomes:
    """Four queries; the head is sure of the first, the small tier of the first two."""
    sure = np.array([[0.9, 0.9, np.nan], [0.2, 0.8, np.nan], [0.1, 0.3, np.nan], [np.nan, 0.1, np.nan]])
    quality = np.array([[1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]], dtype=float)
    cost = np.tile([1.0, 2.0, 10.0], (4, 1))
    return Outcomes(("head", "small", "strong"), np.full((4, 3), -1), {"sure": sure}, cost, cost / 10, quality)


def test_every_draft_up_to_the_served_answer_is_paid():
    found = operate(three_tiers(), "sure=0.5", signal_rules(three_tiers(), "sure", 0.5), draws=200)
    assert found.shares == (0.25, 0.25, 0.5)
    assert found.quality.value == 0.75
    assert found.cost.value == (1 + 3 + 13 + 13) / 4
    assert found.saved.value == pytest.approx(1 - 7.5 / 10)
    assert found.change.value == 0.0
    assert found.quality.low < 0.75 < found.quality.high


def test_a_tier_without_a_threshold_is_skipped_and_costs_nothing():
    given = three_tiers()
    scorer = Scorer(signals=("sure",), weights=(1.0,))
    rules = (Rule(tier="head", scorer=scorer, threshold=None), Rule(tier="small", scorer=scorer, threshold=0.5))
    found = operate(given, "skips", rules, draws=200)
    assert found.shares == (0.0, 0.5, 0.5)
    assert found.cost.value == (2 + 2 + 12 + 12) / 4


def test_the_share_of_the_gap_needs_a_gap():
    given = three_tiers()
    many = given.take(np.tile(np.arange(4), 50))
    assert operate(many, "all", signal_rules(many, "sure", 0.5), draws=200).pgr.value == pytest.approx(1.0)
    same = many.only("strong", "head", "small")
    assert "not better" in operate(same, "none", signal_rules(same, "sure", 0.5), draws=200).pgr.reason


def test_an_unknown_cost_is_no_cost():
    given = three_tiers()
    unknown = Outcomes(given.tiers, given.answers, given.signals, np.full((4, 3), np.nan), given.latency, given.quality)
    found = operate(unknown, "sure", signal_rules(unknown, "sure", 0.5), draws=100)
    assert found.cost.value is None
    assert found.saved.reason == "a cost is unknown"
    assert found.to_json()["quality"]["value"] == 0.75


def test_scores_are_the_policys_own_function_of_the_signals():
    given = three_tiers()
    scorer = Scorer(signals=("sure",), weights=(2.0,), bias=-1.0, knots=(-1.0, 1.0), values=(0.0, 1.0))
    rules = tuple(Rule(tier=tier, scorer=scorer, threshold=0.5) for tier in given.tiers[:-1])
    assert scores(given, rules)[:3, 0] == pytest.approx([0.9, 0.2, 0.1])
    with pytest.raises(InputError, match="two tiers, not 3"):
        deferral(given, "sure", rules)
    two = given.only("small", "strong")
    assert deferral(two, "sure", rules[1:]).scores == pytest.approx([0.9, 0.8, 0.3, 0.1])


def test_rules_must_fit_the_outcomes():
    given = three_tiers()
    with pytest.raises(InputError, match="no signal margin"):
        operate(given, "margin", signal_rules(given, "margin", 0.5))
    with pytest.raises(InputError, match="rules are for small, the outcomes of head, small, strong"):
        operate(given, "short", signal_rules(given, "sure", 0.5)[1:])


def test_a_question_is_named_where_there_are_several():
    certificate = Certificate(
        basis="vs_teacher", verdict=Verdict.PASS, reason="", alpha=0.05, delta=0.1, rows=1, risk=0.0, bound=0.05,
        shares=(1.0, 0.0),
    )  # fmt: skip
    questions = tuple(
        QuestionPolicy(name=name, fingerprint=name, rules=(), certificate=certificate) for name in ("topic", "spam")
    )
    policy = Policy(created=datetime.now(UTC), tiers=(TierRecord(name="a", identity="a"),), questions=questions)
    assert question_of(policy, "spam").fingerprint == "spam"
    assert question_of(policy.model_copy(update={"questions": questions[:1]})).name == "topic"
    with pytest.raises(InputError, match="2 questions"):
        question_of(policy)
    with pytest.raises(InputError, match="no question 'tone'"):
        question_of(policy, "tone")
