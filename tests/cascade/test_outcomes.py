"""cascade/outcomes.py: the table of recorded answers, and who answers under given thresholds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cascade.outcomes import Outcomes, differ, serve, served, spent, tier_agreement
from curator.errors import InputError

NAN = float("nan")


def table() -> Outcomes:
    """Four queries to three tiers; the second tier refused the last query, the first was not asked about the third."""
    return Outcomes(
        tiers=("head", "small", "large"),
        answers=np.array([[0, 0, 0], [1, 0, 0], [-1, 2, 2], [1, -1, 3]]),
        signals={"margin": np.array([[0.9, 0.8, NAN], [0.4, 0.8, NAN], [NAN, 0.7, NAN], [0.2, NAN, NAN]])},
        cost=np.array([[1.0, 10, 100], [1, 10, 100], [NAN, 10, 100], [1, 10, 100]]),
        latency=np.full((4, 3), 0.5),
        quality=np.full((4, 3), NAN),
        ids=("a", "b", "c", "d"),
    )


def test_the_first_tier_whose_score_reaches_its_threshold_answers():
    scores = table().signals["margin"][:, :2]
    assert serve(scores, np.array([0.5, 0.5])).tolist() == [0, 1, 1, 2]
    assert serve(scores, np.array([0.4, 0.9])).tolist() == [0, 0, 2, 2]
    assert serve(scores, np.array([np.inf, np.inf])).tolist() == [2, 2, 2, 2]


def test_drafts_are_paid_for_too_and_the_unknown_stays_unknown():
    tier = np.array([0, 1, 1, 2])
    np.testing.assert_array_equal(spent(table().cost, tier), [1, 11, NAN, 111])
    np.testing.assert_array_equal(served(table().cost, tier), [1, 10, 10, 100])


def test_queries_and_tiers_are_taken_with_all_that_is_known_of_them():
    part = table().take(np.array([False, True, False, True]))
    assert (part.ids, part.answers.tolist()) == (("b", "d"), [[1, 0, 0], [1, -1, 3]])
    pair = table().only("large", "head")
    assert pair.tiers == ("large", "head")
    assert pair.answers[:, 1].tolist() == [0, 1, -1, 1]
    assert np.isnan(pair.signals["margin"][:, 0]).all()
    with pytest.raises(InputError, match="no outcomes of medium"):
        table().only("medium")


def test_no_answer_is_a_difference_and_scores_may_be_a_level_off():
    assert differ(table()).tolist() == [[0, 0, 0], [1, 0, 0], [1, 0, 0], [1, 1, 0]]
    assert differ(table(), tolerance=2)[:, 0].tolist() == [0, 0, 1, 0]
    silent = replace(table(), answers=np.where([[False, False, True]], -1, table().answers))
    with pytest.raises(InputError, match="large has no answers"):
        differ(silent)


def test_agreement_is_with_the_tier_before():
    expected = [[NAN, 1, 1], [NAN, 0, 1], [NAN, NAN, 1], [NAN, NAN, NAN]]
    np.testing.assert_array_equal(tier_agreement(table().answers), expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tiers": ("head", "head", "large")}, "different names"),
        ({"cost": np.zeros((4, 2))}, r"cost must be \(4, 3\)"),
        ({"signals": {"margin": np.zeros((3, 3))}}, "margin must be"),
        ({"latency": np.full((4, 3), -1.0)}, "latency must be a number from 0"),
        ({"cost": np.full((4, 3), np.inf)}, "cost must be a number from 0"),
        ({"ids": ("a",)}, "1 ids for 4 queries"),
    ],
)
def test_a_table_that_cannot_be_is_refused(change, said):
    with pytest.raises(InputError, match=said):
        replace(table(), **change)
