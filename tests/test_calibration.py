"""Calibration: the batch bias reaches its fixed point; calibrators are monotone and honest on small n."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.isotonic import IsotonicRegression

from curator.calibration import (
    Calibrator,
    batch_bias,
    calibrate_with_audits,
    calibrate_with_reference,
    choose_audits,
    isotonic,
)
from curator.confidence import log_normalise
from curator.errors import InputError
from curator.evaluation import ece


def sample(n, seed=0):
    """Confidences that are too high, and outcomes."""
    random = np.random.default_rng(seed)
    confidence = random.beta(5, 2, n)
    return confidence, random.random(n) < confidence**2


@given(st.integers(0, 1000), st.integers(2, 6))
@settings(max_examples=25)
def test_without_its_bias_the_mean_answer_is_the_prior(seed, options):
    random = np.random.default_rng(seed)
    logprobs = log_normalise(random.normal(0, 2, (200, options)) + random.normal(0, 3, options))
    prior = random.dirichlet(np.full(options, 5.0))
    bias = batch_bias(logprobs, prior)
    assert np.exp(log_normalise(logprobs - bias)).mean(axis=0) == pytest.approx(prior, abs=1e-4)


def test_a_constant_bias_is_found_and_missing_rows_are_ignored():
    clean = log_normalise(np.random.default_rng(0).normal(0, 2, (400, 3)))
    uniform = np.full(3, 1 / 3)
    added = np.array([1.0, -2.0, 1.0])
    found = batch_bias(log_normalise(clean + added), uniform) - batch_bias(clean, uniform)
    assert found == pytest.approx(added, abs=1e-4)
    gaps = np.vstack([clean, np.full((5, 3), np.nan)])
    assert batch_bias(gaps, uniform).tolist() == batch_bias(clean, uniform).tolist()
    assert batch_bias(np.full((4, 3), np.nan), uniform).tolist() == [0.0, 0.0, 0.0]


@given(arrays(np.float64, st.integers(2, 30), elements=st.floats(0, 1)), st.data())
def test_isotonic_agrees_with_scikit_learn(targets, data):
    size = len(targets)
    weights = data.draw(arrays(np.float64, size, elements=st.floats(0.1, 10)))
    ours = isotonic(targets, weights)
    theirs = IsotonicRegression().fit_transform(np.arange(size), targets, sample_weight=weights)
    assert ours == pytest.approx(theirs, abs=1e-7)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
@given(outcomes=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=60))
def test_calibrators_never_reverse_an_order(method, outcomes):
    confidence, right = (np.array(column) for column in zip(*outcomes, strict=True))
    calibrator = calibrate_with_audits(confidence, right, method=method)
    grid = np.linspace(0, 1, 101)
    values = calibrator.transform(grid)
    low, high = calibrator.interval(grid)
    assert (np.diff(values) >= -1e-12).all()
    assert ((values >= 0) & (values <= 1) & (low <= values + 1e-9) & (values <= high + 1e-9)).all()


@pytest.mark.parametrize(("n", "bar"), [(100, 0.08), (2000, 0.03)])
def test_checked_rows_mend_overconfidence(n, bar):
    confidence, right = sample(20_000)
    before = ece(confidence, right)
    assert before > 0.15
    errors = []
    for seed in range(10):
        rows = np.random.default_rng(seed).choice(len(right), n, replace=False)
        errors.append(ece(calibrate_with_audits(confidence[rows], right[rows]).transform(confidence), right))
    assert np.mean(errors) <= bar


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    held = []
    for seed in range(60):
        confidence, right = sample(150, seed)
        low, high = calibrate_with_audits(confidence, right, method="platt").interval(np.array([0.8]))
        held.append(low[0] <= 0.64 <= high[0])
    assert np.mean(held) >= 0.8


def test_basis_says_what_the_confidence_rests_on():
    confidence, right = sample(60)
    assert calibrate_with_audits(confidence, right).basis == "audited(60)"
    assert calibrate_with_reference(confidence, right, "qwen-72b").basis == "reference:qwen-72b"
    gaps = np.append(confidence, np.nan)
    assert calibrate_with_audits(gaps, np.append(right, True)).basis == "audited(60)"


def test_a_calibrator_survives_json():
    calibrator = calibrate_with_audits(*sample(80))
    again = Calibrator.from_json(calibrator.to_json())
    assert again == calibrator
    with pytest.raises(InputError, match="not a calibrator"):
        Calibrator.from_json({"method": "platt"})


def test_too_few_checked_rows_are_refused():
    with pytest.raises(InputError, match=r"1 checked rows.*50 to 200"):
        calibrate_with_audits(np.array([0.5, np.nan]), np.array([True, True]))
    with pytest.raises(InputError, match="2 confidences for 1 outcomes"):
        calibrate_with_audits(np.array([0.5, 0.6]), np.array([True]))


def test_audits_are_drawn_where_the_answer_is_open():
    confidence = np.concatenate([np.full(500, 0.99), np.full(500, 0.5), [np.nan] * 10])
    rows, weights = choose_audits(confidence, 100, seed=1)
    assert len(set(rows.tolist())) == 100
    assert not np.isnan(confidence[rows]).any()
    assert (confidence[rows] == 0.5).sum() > 70
    assert weights.sum() == pytest.approx(1000)
    assert choose_audits(confidence, 100, seed=1)[0].tolist() == rows.tolist()
    with pytest.raises(InputError, match="cannot choose 2000 of 1000 rows"):
        choose_audits(confidence, 2000)
