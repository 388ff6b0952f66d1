"""A second, independent voter: recovered accuracy, missing answers, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.correlated_votes import generate
from curator.errors import InputError
from curator.evaluation import ece
from curator.independent import combine_independent


def soft(seed, n=6000, options=3, noise=1.0):
    """A first voter with a distribution, a truth, and a second voter right in 75%."""
    random = np.random.default_rng(seed)
    gold = random.integers(0, options, n)
    scores = 5 * np.eye(options)[gold] * random.random((n, 1)) + random.gumbel(0, noise, (n, options))
    probabilities = np.exp(3 * scores) / np.exp(3 * scores).sum(axis=1, keepdims=True)
    wrong = (gold + random.integers(1, options, n)) % options
    return probabilities, gold, np.where(random.random(n) < 0.75, gold, wrong)


@pytest.mark.parametrize("seed", range(5))
def test_overconfident_distributions_become_calibrated(seed):
    probabilities, gold, second = soft(seed)
    top = probabilities.argmax(axis=1)
    before = ece(probabilities.max(axis=1), top == gold)
    result = combine_independent(probabilities, second, "b")
    assert result.second_accuracy == pytest.approx(0.75, abs=0.06)
    assert ece(result.first_confidence, top == gold) < before / 2
    assert ece(result.confidence, result.probabilities.argmax(axis=1) == gold) <= 0.05


def test_the_names_of_classes_do_not_matter():
    votes = generate(1, items=4000)
    swap = np.array([2, 0, 3, 1])
    plain = combine_independent(votes.shares, votes.second, "b")
    renamed = combine_independent(votes.shares[:, np.argsort(swap)], swap[votes.second], "b")
    untied = (np.sort(votes.shares, axis=1)[:, -1] - np.sort(votes.shares, axis=1)[:, -2]) > 0
    assert renamed.confidence[untied] == pytest.approx(plain.confidence[untied], abs=0.05)
    assert renamed.second_accuracy == pytest.approx(plain.second_accuracy, abs=0.02)


def test_missing_answers_stay_missing_and_a_missing_second_leaves_the_first():
    votes = generate(2, items=2000)
    shares, second = votes.shares.copy(), votes.second.copy()
    shares[0], second[1] = np.nan, -1
    result = combine_independent(shares, second, "b")
    assert np.isnan(result.probabilities[0]).all()
    assert np.isnan(result.confidence[0])
    assert result.confidence[1] == pytest.approx(result.first_confidence[1])
    assert result.probabilities[1:].sum(axis=1) == pytest.approx(1.0)


def test_a_voter_that_guesses_and_too_few_rows_are_refused():
    votes = generate(3, items=2000)
    guesses = np.random.default_rng(0).integers(0, 4, 2000)
    with pytest.raises(InputError, match="no more than by chance"):
        combine_independent(votes.shares, guesses, "b")
    with pytest.raises(InputError, match="only 20 rows"):
        combine_independent(votes.shares[:20], votes.second[:20], "b")
