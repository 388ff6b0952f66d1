"""Tails and bounds against exact values and simulations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cascade.risk import (
    best_ratio,
    betting_p_value,
    binomial_tail,
    bound,
    choose_audits,
    drawn_places,
    fewest_audits,
    fixed_sequence,
    lower_bound,
    p_value,
    rows_needed,
    two_rate_tail,
    upper_bound,
)
from curator.errors import InputError


@pytest.mark.parametrize(("failures", "rows", "rate"), [(0, 45, 0.05), (3, 20, 0.2), (19, 20, 0.9), (7, 9, 0.999)])
def test_the_tail_is_the_binomial_one(failures: int, rows: int, rate: float) -> None:
    exact = math.fsum(math.comb(rows, k) * rate**k * (1 - rate) ** (rows - k) for k in range(failures + 1))
    assert binomial_tail(failures, rows, rate) == pytest.approx(exact, rel=1e-9)


def test_the_tail_of_many_rows_does_not_underflow() -> None:
    assert 0.4 < binomial_tail(50_000, 1_000_000, 0.05) < 0.6
    assert (binomial_tail(5, 5, 0.3), binomial_tail(4, 5, 1.0), binomial_tail(0, 5, 0.0)) == (1.0, 0.0, 1.0)


def test_bounds_are_those_of_clopper_and_pearson() -> None:
    """Values are quantiles of Beta(4, 47) and Beta(3, 48)."""
    assert upper_bound(3, 50, 0.05) == pytest.approx(0.14784, abs=5e-5)
    assert lower_bound(3, 50, 0.05) == pytest.approx(0.01655, abs=5e-5)
    assert upper_bound(0, 20, 0.1) == pytest.approx(1 - 0.1 ** (1 / 20))
    assert (upper_bound(0, 0, 0.1), lower_bound(0, 0, 0.1), lower_bound(0, 9, 0.1)) == (1.0, 0.0, 0.0)


def test_the_rows_that_are_needed_are_just_enough() -> None:
    rows = rows_needed(0.05, 0.1)
    assert rows == 45
    assert binomial_tail(0, rows, 0.05) <= 0.1 < binomial_tail(0, rows - 1, 0.05)


def test_a_known_loss_is_tested_exactly_and_a_fraction_by_betting() -> None:
    losses = np.zeros(100)
    losses[:2] = 1.0
    assert p_value(losses, 0.05) == binomial_tail(2, 100, 0.05)
    assert p_value(losses * 0.5, 0.05) == betting_p_value(losses * 0.5, 0.05, 1.0)
    assert bound(losses, 0.1) == pytest.approx(upper_bound(2, 100, 0.1))
    assert bound(np.empty(0), 0.1) == 1.0
    with pytest.raises(InputError, match="a loss is unknown"):
        p_value(np.array([0.0, np.nan]), 0.05)
    with pytest.raises(InputError, match="above 0 for every row"):
        p_value(np.array([0.0, np.nan]), 0.05, np.array([0.5, 0.0]))


def test_equal_rates_are_one_kind_and_unequal_ones_cost_little() -> None:
    assert two_rate_tail((0, 3), (0.1, 0.1), 1000, 0.05) == pytest.approx(binomial_tail(3, 1000, 0.005))
    alike = two_rate_tail((1, 2), (0.0999999, 0.1), 1000, 0.05)
    assert alike == pytest.approx(binomial_tail(3, 1000, 0.005), rel=0.01)


@pytest.mark.parametrize("kind", ["binary", "two rates", "fractions", "many rates"])
def test_a_risk_of_alpha_is_certified_with_chance_delta_at_most(kind: str) -> None:
    """The definition of a p-value, on 1,000 draws per kind of loss at the edge of what is allowed."""
    random = np.random.default_rng(7)
    alpha, delta, rows, hits = 0.1, 0.1, 400, 0
    for _ in range(1000):
        wrong = random.beta(0.5, 4.5, rows)
        losses = (random.random(rows) < wrong).astype(float)
        chance = None
        if kind == "fractions":
            losses = wrong
        if kind == "two rates":
            drawn, chance = choose_audits(wrong, 120, seed=int(random.integers(1 << 30)))
        if kind == "many rates":
            chance = np.clip(wrong, 0.2, 0.9)
            drawn = np.flatnonzero(random.random(rows) < chance)
        if chance is not None:
            known = np.full(rows, np.nan)
            known[drawn] = losses[drawn]
            losses = known
        hits += p_value(losses, alpha, chance) <= delta
    assert hits / 1000 <= delta + 2 * math.sqrt(delta * (1 - delta) / 1000)


def test_audits_of_doubtful_rows_certify_more_often_than_uniform_ones() -> None:
    random = np.random.default_rng(3)
    uniform = doubtful = 0
    for seed in range(200):
        wrong = random.beta(0.045, 2.955, 1000)
        losses = (random.random(1000) < wrong).astype(float)
        plain = losses[random.choice(1000, 100, replace=False)]
        uniform += p_value(plain, 0.05) <= 0.1
        drawn, chance = choose_audits(wrong, 100, seed=seed)
        known = np.full(1000, np.nan)
        known[drawn] = losses[drawn]
        doubtful += p_value(known, 0.05, chance) <= 0.1
    assert doubtful > uniform + 10


def test_audits_are_as_many_as_asked_and_doubtful_rows_come_twice_as_often() -> None:
    wrong = np.linspace(0, 1, 1000)
    wrong[500] = np.nan
    drawn, chance = choose_audits(wrong, 150, seed=1)
    assert 120 < len(drawn) < 180
    assert chance[-1] == chance[500] == pytest.approx(2 * chance[0])
    assert chance.sum() == pytest.approx(150)
    with pytest.raises(InputError, match="cannot choose 0 of 1000"):
        choose_audits(wrong, 0)


def test_the_first_places_of_a_draw_are_a_smaller_draw() -> None:
    chance = np.array([0.2, 0.8] * 5000)
    places = drawn_places(chance, 3)
    assert np.isnan(places).mean() == pytest.approx(0.5, abs=0.02)
    for reach in (0.25, 0.6, 1.0):
        for rate in (0.2, 0.8):
            assert (places[chance == rate] < reach).mean() == pytest.approx(rate * reach, abs=0.02)


def test_doubtful_rows_are_drawn_oftener_only_where_enough_of_the_others_are_left() -> None:
    assert best_ratio(1000, 100, 0.05, 0.1) == 2.0
    assert best_ratio(1000, 50, 0.05, 0.1) == 1.0, "measured: with 50 audits the others get too few"
    assert best_ratio(1000, 40, 0.05, 0.1) is None
    assert best_ratio(60, 55, 0.05, 0.1) == 1.0, "no row is drawn with more than certainty"
    least = fewest_audits(1000, 0.05, 0.1)
    assert best_ratio(1000, least, 0.05, 0.1) == 1.0
    assert best_ratio(1000, least - 1, 0.05, 0.1) is None
    assert fewest_audits(100, 0.001, 0.1) > 100


def test_testing_stops_at_the_first_that_is_not_rejected() -> None:
    values = [0.01, 0.05, 0.2, 0.01]
    assert fixed_sequence(values.__getitem__, 4, 0.1) == 2
    assert fixed_sequence(values.__getitem__, 2, 0.1) == 2
    assert fixed_sequence(values.__getitem__, 4, 0.001) == 0
