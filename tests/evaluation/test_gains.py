"""PGR, misfit and rank correlation, with values worked out by hand and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from curator.errors import InputError
from curator.evaluation import misfit, pgr, spearman


def rights(count: int, of: int) -> np.ndarray:
    return np.arange(of) < count


def test_pgr_by_hand():
    found = pgr(rights(60, 100), rights(70, 100), rights(80, 100))
    assert (found.rows, found.weak, found.student, found.ceiling) == (100, 0.6, 0.7, 0.8)
    # The gap is 20 rows of 100 that only the ceiling gets right: variance 0.2 - 0.04, times 100/99.
    assert found.error == pytest.approx(np.sqrt(0.16 / 99))
    assert found.value is not None
    assert found.value.value == pytest.approx(0.5)
    assert 0.2 < found.value.low < 0.5 < found.value.high < 0.8
    assert found.reason == ""


def test_pgr_is_undefined_on_a_gap_of_five_points():
    found = pgr(rights(600, 1000), rights(640, 1000), rights(650, 1000))
    assert found.value is None
    assert "ceiling - weak is 5.0 points; it must exceed 5 points" in found.reason
    assert pgr(rights(600, 1000), rights(640, 1000), rights(651, 1000)).value is not None


def test_pgr_is_undefined_within_three_standard_errors():
    weak, ceiling = np.array([True] * 4 + [False] * 6 + [True] * 10), np.array([False] * 4 + [True] * 6 + [True] * 10)
    found = pgr(weak, ceiling, ceiling)
    assert found.ceiling - found.weak == pytest.approx(0.1)
    assert found.value is None
    # Ten of twenty rows differ, by +-1: variance (10/20 - 0.01) * 20/19, so 3 SE are 48.2 points.
    assert "3 standard errors (48.2 points)" in found.reason


def test_a_ceiling_below_the_weak_arm_and_a_single_row_are_undefined():
    assert pgr(rights(90, 100), rights(95, 100), rights(50, 100)).value is None
    assert pgr(rights(0, 1), rights(1, 1), rights(1, 1)).reason == "1 row is too few"


def test_pgr_may_exceed_one_and_fall_below_zero():
    above, below = (pgr(rights(50, 100), rights(count, 100), rights(70, 100)).value for count in (80, 40))
    assert above is not None
    assert below is not None
    assert (above.value, below.value) == (pytest.approx(1.5), pytest.approx(-0.5))


def test_pgr_takes_the_share_of_seeds_that_are_right():
    seeds = np.stack([rights(70, 100), rights(60, 100), rights(80, 100)]).mean(axis=0)
    found = pgr(rights(60, 100), seeds, rights(80, 100))
    assert found.value is not None
    assert found.value.value == pytest.approx(0.5)


@pytest.mark.parametrize("sizes", [(3, 3, 4), (0, 0, 0)])
def test_pgr_refuses_other_rows(sizes):
    with pytest.raises(InputError, match="same rows"):
        pgr(*(np.ones(size, dtype=bool) for size in sizes))


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_pgr_is_defined_exactly_where_the_rule_says(rows):
    weak, student, ceiling = (np.array(column) for column in zip(*rows, strict=True))
    found = pgr(weak, student, ceiling, draws=20)
    gaps = ceiling.astype(float) - weak
    allowed = gaps.mean() > max(0.05, 3 * gaps.std(ddof=1) / np.sqrt(len(rows)))
    assert (found.value is not None) is bool(allowed)
    assert bool(found.reason) is not bool(allowed)
    if found.value is not None:
        assert found.value.value == pytest.approx((student.mean() - weak.mean()) / gaps.mean())


def test_misfit_by_hand():
    student = np.array([[1.0, 0.0], [0.5, 0.5], [np.nan, np.nan]])
    teacher = np.array([[0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    found = misfit(student, teacher)
    assert found.rows == 2
    assert found.squared.value == pytest.approx((0.25 + 0.25) / 2)
    assert found.kl.value == pytest.approx(np.log(2) / 2)
    assert found.kl.low <= found.kl.value <= found.kl.high


def test_kl_is_of_the_student_from_the_teacher():
    sure, unsure = np.array([[0.9, 0.1]]), np.array([[0.5, 0.5]])
    forward = 0.9 * np.log(0.9 / 0.5) + 0.1 * np.log(0.1 / 0.5)
    assert misfit(sure, unsure).kl.value == pytest.approx(forward)
    assert misfit(unsure, sure).kl.value == pytest.approx(0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1))
    assert np.isfinite(misfit(unsure, np.array([[1.0, 0.0]])).kl.value)


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(2, 5), st.integers(0, 99))
def test_misfit_is_zero_with_oneself_and_never_negative(rows, classes, seed):
    random = np.random.default_rng(seed)
    ours, theirs = random.dirichlet(np.ones(classes), (2, rows))
    same, other = misfit(ours, ours, draws=5), misfit(ours, theirs, draws=5)
    assert (same.squared.value, same.kl.value) == (0.0, pytest.approx(0.0, abs=1e-12))
    assert other.squared.value >= 0
    assert other.kl.value >= -1e-12


def test_misfit_refuses_other_shapes():
    with pytest.raises(InputError, match=r"\(rows, classes\) alike"):
        misfit(np.ones((2, 2)), np.ones((2, 3)))
    with pytest.raises(InputError, match="no row"):
        misfit(np.full((2, 2), np.nan), np.ones((2, 2)))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=4, max_size=30))
def test_rank_correlation_agrees_with_scipy(pairs):
    first, second = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        with pytest.raises(InputError, match="constant"):
            spearman(first, second)
        return
    found = spearman(first, second)
    assert found.value == pytest.approx(spearmanr(first, second).statistic)
    assert -1 <= found.low <= found.value <= found.high <= 1


def test_a_perfect_rank_correlation_of_few_pairs_is_not_certain():
    found = spearman(np.arange(5.0), np.array([1.0, 2.0, 4.0, 8.0, 16.0]))
    # By hand: r = 1 - 6/120 = 0.95; tanh(atanh 0.95 - 1.96 sqrt((1 + 0.45125) / 2)) = 0.1608.
    assert (found.value, found.high) == (pytest.approx(1.0), pytest.approx(1.0))
    assert found.low == pytest.approx(0.1608, abs=0.0001)
    assert spearman(np.arange(50.0), np.arange(50.0) ** 3).low > 0.99
    assert spearman(np.arange(5.0), -np.arange(5.0)).value == pytest.approx(-1.0)


def test_a_rank_correlation_needs_pairs():
    with pytest.raises(InputError, match="4 pairs"):
        spearman(np.arange(3.0), np.arange(3.0))
    with pytest.raises(InputError, match="4 pairs"):
        spearman(np.arange(5.0), np.arange(6.0))
