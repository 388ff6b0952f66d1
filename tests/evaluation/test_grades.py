"""Grades by hand: accuracies over seeds, paired gains, rows without gold, groups, and what does not match."""

from __future__ import annotations

import numpy as np
import pytest

from curator.errors import InputError
from curator.evaluation.grades import Sitting, grade, mean_interval

GOLD = np.arange(100) % 2


def answers(right: int) -> np.ndarray:
    """Distributions that are right on the first so many rows."""
    top = np.where(np.arange(100) < right, GOLD, 1 - GOLD)
    return np.eye(2)[top] * 0.8 + 0.1


def sitting(arm: str, *rights: int) -> Sitting:
    return Sitting(arm, "xent", 50, np.stack([answers(right) for right in rights]))


def test_everything_by_hand():
    arms = [sitting("naive", 70, 80), sitting("filtered", 76, 84), sitting("random", 60, 60)]
    weak, naive, filtered, random, top = grade(answers(60), arms, GOLD, ceiling=sitting("ceiling", 90, 90))
    assert [one.accuracy.value for one in (weak, naive, filtered, random, top)] == pytest.approx(
        [0.6, 0.75, 0.8, 0.6, 0.9]
    )
    assert naive.spread == pytest.approx(0.05)
    assert naive.gain.value == pytest.approx(0.15)
    assert naive.gain.low > 0
    assert (naive.over_random, random.over_random) == (None, None)
    assert filtered.over_random.value == pytest.approx(0.2)
    assert naive.recovery.value.value == pytest.approx(0.5)
    assert (weak.recovery, top.recovery) == (None, None)
    # A right answer costs 2 * 0.1^2, a wrong one 2 * 0.9^2.
    assert naive.squared_gain == pytest.approx(0.15 * 2 * (0.81 - 0.01))
    assert naive.to_json()["recovery"]["rows"] == 100


def test_a_teacher_that_guesses_leaves_pgr_undefined_however_large_the_gap():
    _, naive, _ = grade(answers(49), [sitting("naive", 70)], GOLD, ceiling=sitting("ceiling", 90))
    assert naive.recovery.value is None
    assert naive.recovery.reason == "the teacher is right in 49.0%, no more than guessing among 2 options"


def test_rows_without_gold_are_left_out_and_missing_answers_are_wrong():
    gold = GOLD.copy()
    gold[:50] = -1
    weak = answers(60)
    weak[50:55] = np.nan
    (found,) = grade(weak, [], gold)
    assert found.accuracy.value == pytest.approx(0.1)
    with pytest.raises(InputError, match="no held-out row has gold"):
        grade(weak, [], np.full(100, -1))


def test_groups_are_resampled_together():
    alone, grouped = (
        grade(answers(60), [], GOLD, groups=groups)[0].accuracy for groups in (None, np.arange(100) // 10)
    )
    assert alone.value == pytest.approx(grouped.value)
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)
    with pytest.raises(InputError, match="groups of rows have 1 to 99 rows"):
        grade(answers(60), [], GOLD, groups=np.minimum(np.arange(100), 1))


def test_shapes_that_do_not_match():
    with pytest.raises(InputError, match="do not match answers"):
        grade(answers(60), [], GOLD[:50])
    assert mean_interval(np.ones(9)).low == 1
