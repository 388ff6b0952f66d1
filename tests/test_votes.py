"""Votes: invalid ones are missing, dependent ones are discounted, order never matters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator.votes import effective_votes, vote

corpora = st.lists(st.lists(st.sampled_from(["4", "7", "11", None]), max_size=6), min_size=1, max_size=15)


@given(corpora, st.randoms(use_true_random=False))
def test_the_order_of_samples_and_rows_never_matters(samples, random):
    result = vote(samples)
    order = list(range(len(samples)))
    random.shuffle(order)
    again = vote([random.sample(samples[i], len(samples[i])) for i in order])
    assert [result.values[i] for i in order] == list(again.values)
    assert result.confidence[order] == pytest.approx(again.confidence, nan_ok=True)


@given(corpora)
def test_confidence_never_exceeds_the_share_and_votes_are_never_worth_more_than_they_are(samples):
    result = vote(samples)
    valid = result.votes > 0
    assert (result.confidence[valid] <= result.share[valid] + 1e-12).all()
    assert (result.effective_votes <= result.votes + 1e-12).all()
    assert (result.effective_votes[valid] >= 1 - 1e-9).all()


def test_an_invalid_vote_is_missing_and_never_a_class():
    result = vote([["4", None, "4"], [None, None], [], ["7"]])
    assert result.values == ("4", None, None, "7")
    assert result.share[[0, 3]].tolist() == [1.0, 1.0]
    assert np.isnan(result.share[[1, 2]]).all()
    assert np.isnan(result.confidence[[1, 2]]).all()
    assert result.votes.tolist() == [2, 0, 0, 1]
    assert result.report()["unanswered"] == 2


def test_ties_go_to_the_value_more_frequent_over_the_corpus():
    assert vote([["4", "7"], ["7", "7"]]).values == ("7", "7")


def test_identical_votes_are_worth_one():
    result = vote([["4"] * 5, ["7"] * 5, ["4"] * 5])
    assert result.correlation == pytest.approx(1.0)
    assert result.effective_votes == pytest.approx(1.0)
    assert result.confidence.max() <= 0.84


def test_votes_that_know_nothing_of_the_row_are_worth_what_chance_is():
    random = np.random.default_rng(0)
    result = vote([[str(value) for value in row] for row in random.integers(0, 4, (2000, 5))], options=4)
    assert result.correlation == pytest.approx(0.0, abs=0.02)
    assert result.confidence.mean() == pytest.approx(0.25, abs=0.05)


def test_one_vote_per_row_says_nothing_about_dependence():
    result = vote([["4"], ["7"]])
    assert result.correlation == 1.0
    assert (result.confidence < 1).all()


def test_nothing_valid_at_all():
    result = vote([[None], []])
    assert result.values == (None, None)
    assert result.report()["mean_share"] == 0.0


def test_the_design_effect():
    assert effective_votes(np.array([0.0, 1.0, 5.0]), 0.5).tolist() == pytest.approx([0.0, 1.0, 5 / 3])


def test_a_page_uses_the_correlation_of_the_corpus():
    random = np.random.default_rng(1)
    corpus = [[str(value) for value in row] for row in random.integers(0, 3, (200, 4)) // 2]
    whole = vote(corpus)
    page = vote(corpus[:3], options=2, correlation=whole.correlation)
    assert page.confidence.tolist() == whole.confidence[:3].tolist()
    assert page.correlation == whole.correlation
