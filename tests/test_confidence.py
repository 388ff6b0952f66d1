"""Signals: ranges, missing values, and what reordering must not change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from curator.confidence import (
    SIGNALS,
    agreement,
    certainty,
    expected_value,
    flips,
    log_normalise,
    margin,
    mean_label_mass,
    signal,
    top_probability,
    tops,
)
from curator.errors import InputError

tables = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=8), elements=st.floats(-200, 0))
cubes = arrays(np.float64, array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=6), elements=st.floats(-60, 0))


@given(tables)
def test_normalised_probabilities_sum_to_one(logprobs):
    assert np.exp(log_normalise(logprobs)).sum(axis=1) == pytest.approx(1.0)


@given(tables, st.floats(-50, 50))
def test_normalising_ignores_a_shift_of_the_whole_row(logprobs, shift):
    assert log_normalise(logprobs + shift) == pytest.approx(log_normalise(logprobs), abs=1e-9)


def test_missing_rows_stay_missing_and_leave_others_alone():
    logprobs = np.array([[-1.0, np.nan], [-np.inf, -np.inf], [-1.0, -np.inf]])
    result = log_normalise(logprobs)
    assert np.isnan(result[:2]).all()
    assert result[2] == pytest.approx([0.0, -30.0], abs=1e-9)


@given(tables)
def test_signals_lie_between_zero_and_one_and_ignore_option_order(logprobs):
    probabilities = np.exp(log_normalise(logprobs))
    for name, rule in SIGNALS.items():
        values = rule(probabilities)
        assert ((values >= 0) & (values <= 1 + 1e-12)).all(), name
        assert rule(probabilities[:, ::-1]) == pytest.approx(values), name


def test_signals_of_known_distributions():
    probabilities = np.array([[0.25, 0.25, 0.25, 0.25], [0.7, 0.2, 0.1, 0.0], [np.nan] * 4])
    assert top_probability(probabilities)[:2].tolist() == [0.25, 0.7]
    assert margin(probabilities)[:2] == pytest.approx([0.0, 0.5])
    assert certainty(probabilities)[0] == pytest.approx(0.0)
    assert all(np.isnan(rule(probabilities)[2]) for rule in SIGNALS.values())


def test_an_unknown_signal_is_named_with_the_known_ones():
    assert signal("margin") is margin
    with pytest.raises(InputError, match=r"no signal is called 'entropy'.*top_probability"):
        signal("entropy")


def test_one_option_is_no_distribution():
    with pytest.raises(InputError, match="options >= 2"):
        top_probability(np.ones((3, 1)))


def test_tops_take_the_first_of_equals_and_mark_missing_rows():
    assert tops(np.array([[0.5, 0.5], [0.1, 0.9], [np.nan, 1.0], [-np.inf, -np.inf]])).tolist() == [0, 1, -1, -1]


def test_agreement_and_flips_count_answered_views_only():
    logprobs = np.log(np.array([[[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]], [[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]]]))
    logprobs[1, 2] = np.nan
    assert agreement(logprobs, np.array([0, 1])) == pytest.approx([2 / 3, 1 / 2])
    assert flips(logprobs) == pytest.approx([2 / 3, 1.0])
    logprobs[0] = np.nan
    assert np.isnan(flips(logprobs)[0])
    assert np.isnan(agreement(logprobs, np.array([0, 1]))[0])


@given(cubes)
def test_flips_ignore_the_order_of_views(logprobs):
    assert flips(logprobs[:, ::-1]) == pytest.approx(flips(logprobs))


def test_one_view_never_flips():
    assert flips(np.log(np.array([[[0.9, 0.1]], [[0.5, 0.5]]]))).tolist() == [0.0, 0.0]


def test_label_mass_is_the_mean_over_views_that_know_it():
    mass = np.array([[0.8, 0.6], [0.5, np.nan], [np.nan, np.nan]])
    assert mean_label_mass(mass)[:2] == pytest.approx([0.7, 0.5])
    assert np.isnan(mean_label_mass(mass)[2])


def test_expected_value_of_a_score():
    assert expected_value(np.array([[0.5, 0.0, 0.5]]), np.array([1.0, 2.0, 4.0])) == pytest.approx([2.5])
