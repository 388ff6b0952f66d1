"""Decisions over views: distributions, missing answers, reordering, storage."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.aggregate import DecisionModel, Ensemble, fit_decisions
from curator.errors import InputError


def answers(seed=0, n=300, views=2, options=3, bias=2.0, noise=1.0):
    """Log-probabilities of a biased model with balanced classes, and the truth."""
    random = np.random.default_rng(seed)
    gold = random.integers(0, options, n)
    shared = 2.5 * np.eye(options)[gold] + random.normal(0, noise, (n, options))
    logprobs = (
        shared[:, None, :] + random.normal(0, 0.5, (n, views, options)) + random.normal(0, bias, (views, options))
    )
    return logprobs - 5.0, gold


sizes = {"seed": st.integers(0, 10_000), "views": st.integers(1, 4), "options": st.integers(2, 6)}


@given(**sizes)
@settings(max_examples=20)
def test_probabilities_are_distributions_and_confidence_is_their_top(seed, views, options):
    logprobs, _ = answers(seed, 60, views, options)
    result = fit_decisions(logprobs).transform(logprobs)
    assert result.probabilities.sum(axis=1) == pytest.approx(1.0)
    assert result.confidence == pytest.approx(result.probabilities.max(axis=1))
    assert ((result.effective_votes >= 1 - 1e-9) & (result.effective_votes <= views + 1e-9)).all()
    assert ((result.flip >= 0) & (result.flip <= 1)).all()


@given(**sizes, random=st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_reordering_options_or_views_reorders_the_answer(seed, views, options, random):
    logprobs, _ = answers(seed, 60, views, options)
    plain = fit_decisions(logprobs).transform(logprobs)
    o, v = random.sample(range(options), options), random.sample(range(views), views)
    moved = logprobs[:, v][:, :, o]
    result = fit_decisions(moved).transform(moved)
    assert result.probabilities == pytest.approx(plain.probabilities[:, o], abs=1e-4)
    assert result.flip == pytest.approx(plain.flip)


@given(**sizes)
@settings(max_examples=10)
def test_a_rows_answer_depends_on_no_other_row(seed, views, options):
    logprobs, _ = answers(seed, 60, views, options)
    model = fit_decisions(logprobs)
    together = model.transform(logprobs).probabilities
    assert model.transform(logprobs[7:8]).probabilities[0] == pytest.approx(together[7])


@pytest.mark.parametrize("prior", ["auto", "uniform"])
def test_the_label_bias_is_removed(prior):
    gains = []
    for seed in range(5):
        logprobs, gold = answers(seed, 1500, bias=3.0)
        raw = (logprobs[:, 0].argmax(axis=1) == gold).mean()
        mended = fit_decisions(logprobs, prior=prior).transform(logprobs).probabilities.argmax(axis=1)
        gains.append((mended == gold).mean() - raw)
    assert min(gains) > -0.01
    assert np.mean(gains) > 0.1


def test_a_given_prior_becomes_the_mean_answer():
    logprobs, _ = answers(n=800, views=1)
    model = fit_decisions(logprobs, prior=[0.6, 0.3, 0.1])
    assert model.transform(logprobs).probabilities.mean(axis=0) == pytest.approx([0.6, 0.3, 0.1], abs=0.01)
    assert model.report()["prior_identified"] is True


def test_missing_views_and_rows():
    logprobs, _ = answers(views=3)
    whole = fit_decisions(logprobs, prior="uniform").transform(logprobs)
    logprobs[0] = np.nan
    logprobs[1, 2] = np.nan
    logprobs[2, :, 1] = -np.inf
    result = fit_decisions(logprobs, prior="uniform").transform(logprobs)
    assert result.top[0] is None
    assert np.isnan(result.confidence[0])
    assert result.effective_votes[0] == 0
    assert result.effective_votes[1] < result.effective_votes[2]
    assert np.isfinite(result.probabilities[1:]).all()
    assert result.probabilities[2, 1] < 1e-6
    assert result.probabilities[3:] == pytest.approx(whole.probabilities[3:], abs=0.02)


def test_nothing_answered_at_all():
    model = fit_decisions(np.full((5, 2, 3), np.nan))
    assert model.transform(np.full((5, 2, 3), np.nan)).top == [None] * 5
    assert model.report()["rows"] == 0


def test_a_hundred_and_fifty_options():
    logprobs, gold = answers(1, 2000, 1, 150, noise=0.7)
    result = fit_decisions(logprobs).transform(logprobs)
    assert (result.probabilities.argmax(axis=1) == gold).mean() > (logprobs[:, 0].argmax(axis=1) == gold).mean()


def test_copied_views_are_worth_one_vote_and_change_nothing():
    logprobs, _ = answers(views=1)
    copied = np.repeat(logprobs, 4, axis=1)
    one, four = (fit_decisions(x).transform(x) for x in (logprobs, copied))
    assert four.effective_votes == pytest.approx(1.0)
    assert four.probabilities == pytest.approx(one.probabilities)


def test_a_view_without_weight_is_not_heard():
    logprobs, _ = answers(views=2)
    alone = fit_decisions(logprobs[:, :1], prior="uniform").transform(logprobs[:, :1])
    weighted = fit_decisions(logprobs, prior="uniform", weights=[1.0, 0.0]).transform(logprobs)
    assert weighted.probabilities == pytest.approx(alone.probabilities)


def test_a_model_survives_json_and_answers_the_same():
    logprobs, _ = answers()
    model = fit_decisions(logprobs)
    again = DecisionModel.from_json(json.loads(json.dumps(model.to_json())))
    assert again.transform(logprobs).probabilities.tolist() == model.transform(logprobs).probabilities.tolist()
    assert again.report() == model.report()
    with pytest.raises(InputError, match="not a decision model"):
        DecisionModel.from_json({"basis": "batch"})


def test_the_report_says_that_nothing_is_calibrated():
    report = fit_decisions(answers()[0]).report()
    assert report["basis"] == "batch"
    assert report["calibrated"] is False
    assert report["prior_identified"] in (True, False)


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((5, 3), {}, "views >= 1"),
        ((5, 1, 1), {}, "options >= 2"),
        ((5, 2, 3), {"prior": [0.5, 0.5]}, "3 shares above 0"),
        ((5, 2, 3), {"prior": [1.0, 0.0, 0.0]}, "3 shares above 0"),
        ((5, 2, 3), {"weights": [1.0]}, "2 numbers >= 0"),
        ((5, 2, 3), {"weights": [0.0, 0.0]}, "2 numbers >= 0"),
    ],
)
def test_wrong_shapes_and_settings_are_named(shape, settings, message):
    with pytest.raises(InputError, match=message):
        fit_decisions(np.zeros(shape), **settings)


def test_a_model_refuses_other_views():
    model = fit_decisions(np.zeros((5, 2, 3)))
    with pytest.raises(InputError, match="fitted on 2 views of 3 options, given 1 of 3"):
        model.transform(np.zeros((5, 1, 3)))


def test_an_ensemble_is_the_mean_of_the_rounds_that_answered():
    chance = np.random.default_rng(3)
    rounds = [np.log(chance.dirichlet(np.ones(3), (200, views))) for views in (1, 2)]
    models = tuple(fit_decisions(values, prior="uniform") for values in rounds)
    both = np.concatenate(rounds, axis=1)
    both[0, 1:] = np.nan
    both[1, :1] = np.nan
    both[2] = np.nan
    found = Ensemble(models).transform(both)
    first, second = (model.transform(values) for model, values in zip(models, rounds, strict=True))
    np.testing.assert_allclose(found.probabilities[3:], (first.probabilities + second.probabilities)[3:] / 2)
    np.testing.assert_allclose(found.probabilities[0], first.probabilities[0])
    np.testing.assert_allclose(found.probabilities[1], second.probabilities[1])
    assert np.isnan(found.probabilities[2]).all()
    assert found.effective_votes[2] == 0
    assert found.effective_votes[0] == first.effective_votes[0]
    assert found.top[2] is None


def test_an_ensemble_refuses_other_views():
    values = np.log(np.random.default_rng(0).dirichlet(np.ones(2), (50, 2)))
    model = Ensemble((fit_decisions(values), fit_decisions(values)))
    with pytest.raises(InputError, match="4 views, given 2"):
        model.transform(values)
    assert model.report()["rounds_averaged"] == 2
    assert model.basis == "batch"
