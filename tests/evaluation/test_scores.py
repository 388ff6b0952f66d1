"""Evaluation: figures checked by hand and against scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from curator.errors import InputError
from curator.evaluation import (
    accuracy,
    bootstrap,
    brier,
    ece,
    evaluate,
    macro_f1,
    nll,
    paired_difference,
    precision_at,
    reliability,
)

pairs = st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(pairs)
def test_macro_f1_agrees_with_scikit_learn(data):
    predicted, gold = (np.array(column) for column in zip(*data, strict=True))
    labels = np.unique(gold).tolist()
    expected = f1_score(gold, predicted, labels=labels, average="macro", zero_division=0)
    assert macro_f1(predicted, gold) == pytest.approx(expected)


def test_expected_calibration_error_by_hand():
    confidence = np.array([0.9, 0.9, 0.6, 0.6])
    correct = np.array([True, False, True, True])
    assert ece(confidence, correct) == pytest.approx((2 * 0.4 + 2 * 0.4) / 4)
    table = reliability(confidence, correct, bins=10)
    assert [(item.rows, item.accuracy) for item in table] == [(2, 1.0), (2, 0.5)]
    assert table[0].low <= 0.6 < table[0].high


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_calibration_error_lies_between_zero_and_one_and_ignores_order(confidence, random):
    data = [(value, random.random() < 0.5) for value in confidence]
    shuffled = random.sample(data, len(data))
    values = [ece(np.array([c for c, _ in rows]), np.array([r for _, r in rows])) for rows in (data, shuffled)]
    assert 0 <= values[0] <= 1
    assert values[0] == pytest.approx(values[1])


def test_brier_and_nll_of_a_sure_and_a_uniform_answer():
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5]])
    assert brier(probabilities, np.array([0, 1])) == pytest.approx(0.25)
    assert brier(probabilities, np.array([1, 1])) == pytest.approx(1.25)
    assert nll(probabilities, np.array([0, 1])) == pytest.approx(np.log(2) / 2)
    assert np.isfinite(nll(probabilities, np.array([1, 1])))


def test_precision_at_coverage_takes_the_surest_rows_and_shares_ties():
    confidence = np.array([0.9, 0.8, 0.5, 0.5])
    correct = np.array([True, True, True, False])
    assert precision_at(confidence, correct, (0.5, 0.75, 1.0)) == pytest.approx({0.5: 1.0, 0.75: 2.5 / 3, 1.0: 0.75})
    swapped = precision_at(confidence, correct[[0, 1, 3, 2]], (0.75,))
    assert swapped[0.75] == pytest.approx(2.5 / 3)


def test_bootstrap_intervals_hold_the_figure_and_narrow_with_rows():
    random = np.random.default_rng(0)
    gold = random.integers(0, 3, 1000)
    predicted = np.where(random.random(1000) < 0.7, gold, (gold + 1) % 3)
    wide = bootstrap(accuracy, predicted[:50], gold[:50], draws=300)
    narrow = bootstrap(accuracy, predicted, gold, draws=300)
    assert narrow.low <= narrow.value <= narrow.high
    assert narrow.high - narrow.low < wide.high - wide.low
    assert narrow.low < 0.7 < narrow.high


def test_a_paired_difference_of_equals_is_exactly_zero():
    gold = np.arange(20) % 3
    same = paired_difference(accuracy, gold, gold, gold, draws=50)
    assert (same.low, same.value, same.high) == (0.0, 0.0, 0.0)
    worse = paired_difference(accuracy, gold, np.zeros(20, dtype=np.int64), gold, draws=200)
    assert worse.low > 0


def test_an_unanswered_row_counts_as_wrong():
    probabilities = np.array([[0.9, 0.1], [np.nan, np.nan], [0.2, 0.8]])
    scores = evaluate(probabilities, np.array([0, 0, 1]))
    assert scores.accuracy.value == pytest.approx(2 / 3)
    assert scores.precision[0.3] == 1.0
    assert scores.precision[1.0] == pytest.approx(2 / 3)
    assert json.loads(json.dumps(scores.to_json()))["precision"]["0.3"] == 1.0


def test_gold_of_another_length_is_refused():
    with pytest.raises(InputError, match="2 predictions for 3 gold labels"):
        evaluate(np.full((2, 2), 0.5), np.array([0, 1, 1]))


def test_no_error_in_few_rows_is_not_certainty():
    gold = np.zeros(40, dtype=np.int64)
    perfect, hopeless = (evaluate(np.tile(row, (40, 1)), gold).accuracy for row in ([0.9, 0.1], [0.1, 0.9]))
    # By hand: 0.025 ** (1 / 40) = exp(-3.6889 / 40) = 0.9119.
    assert (perfect.low, perfect.value, perfect.high) == (pytest.approx(0.9119, abs=1e-4), 1.0, 1.0)
    assert (hopeless.low, hopeless.value, hopeless.high) == (0.0, 0.0, pytest.approx(0.0881, abs=1e-4))
