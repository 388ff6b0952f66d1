"""The class prior: found where classes form clusters, refused where they do not, audited where asked."""

from __future__ import annotations

import numpy as np
import pytest

from curator.aggregate import fit_decisions
from curator.calibration import choose_audits
from curator.errors import ConfigError, InputError
from curator.prior import estimate_prior, prior_from_audits, prior_from_shares

NOISE = {
    "normal": lambda random, shape: random.normal(size=shape),
    "heavy": lambda random, shape: random.standard_t(4, size=shape),
    "skewed": lambda random, shape: random.gamma(2, 1, size=shape) / 1.4,
}


def answers(prior, separation, noise="normal", n=800, seed=0, bias=1.5):
    """Log-probabilities (n, 1, k) of one view, and the truth."""
    random = np.random.default_rng(seed)
    options = len(prior)
    gold = random.choice(options, n, p=prior)
    scores = separation * np.eye(options)[gold] + NOISE[noise](random, (n, options))
    return (scores + random.normal(0, bias, options) - 9.0)[:, None, :], gold


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("prior", [(0.5, 0.5), (0.86, 0.14), (0.6, 0.27, 0.13)])
def test_separate_clusters_identify_the_prior_and_end_the_harm_of_equal_classes(prior, noise):
    logprobs, gold = answers(prior, 4.5, noise)
    model = fit_decisions(logprobs)
    assert model.prior.identified
    assert model.prior.method == "clusters"
    actual = np.bincount(gold) / len(gold)
    low, high = model.prior.interval
    assert model.prior.prior == pytest.approx(actual, abs=0.03)
    assert (low - 0.01 <= actual).all()
    assert (actual <= high + 0.01).all()
    right = (model.transform(logprobs).probabilities.argmax(axis=1) == gold).mean()
    equal = fit_decisions(logprobs, prior="uniform").transform(logprobs).probabilities.argmax(axis=1)
    assert right > 0.95
    assert right >= (equal == gold).mean() - 0.005


@pytest.mark.parametrize("noise", NOISE)
@pytest.mark.parametrize("separation", [0.0, 0.7])
@pytest.mark.parametrize("prior", [(0.86, 0.14), (0.4, 0.3, 0.2, 0.1)])
def test_one_cluster_identifies_nothing_and_classes_are_taken_as_equal(prior, separation, noise):
    model = fit_decisions(answers(prior, separation, noise)[0])
    assert not model.prior.identified
    assert model.prior.prior == pytest.approx(1 / len(prior))
    assert model.report()["prior_method"] == "uniform"
    assert [end.tolist() for end in model.prior.interval] == [[0.0] * len(prior), [1.0] * len(prior)]


def test_weak_clusters_are_used_only_where_the_raw_labels_say_the_same():
    fair, gold = answers((0.86, 0.14), 2.6, bias=0.0, seed=3)
    raw = (fair[:, 0].argmax(axis=1) == gold).mean()
    model = fit_decisions(fair)
    assert model.prior.method == "clusters+raw"
    assert not model.prior.identified
    assert (model.transform(fair).probabilities.argmax(axis=1) == gold).mean() >= raw - 0.01
    biased = fair + np.array([-4.0, 4.0])
    assert fit_decisions(biased).prior.method == "uniform"


def test_the_tail_of_one_cluster_is_no_rare_class_though_the_raw_labels_agree():
    odds = -np.random.default_rng(1).gamma(12, 1, 300)
    odds = 0.4 * (odds - odds.mean()) / odds.std()
    odds -= np.quantile(odds, 0.05)  # the model calls one in twenty by the other name
    logprobs = -np.logaddexp(0.0, np.stack([odds, -odds], axis=1))[:, None]
    assert fit_decisions(logprobs).prior.method == "uniform"


def test_no_prior_from_too_few_rows_or_too_many_options():
    few, _ = answers((0.8, 0.2), 6.0, n=30)
    assert not estimate_prior(few[:, 0], few[:, 0]).identified
    many, _ = answers(np.full(25, 0.04), 6.0, n=2000)
    assert not estimate_prior(many[:, 0], many[:, 0]).identified


def test_missing_rows_change_nothing():
    logprobs, _ = answers((0.8, 0.2), 5.0)
    gaps = np.concatenate([logprobs, np.full((7, 1, 2), np.nan)])
    assert fit_decisions(gaps).prior.prior == pytest.approx(fit_decisions(logprobs).prior.prior)


def test_audited_rows_give_the_prior_whatever_the_model_knows():
    for separation in (0.3, 4.0):
        inside = []
        for seed in range(20):
            logprobs, gold = answers((0.86, 0.14), separation, n=2000, seed=seed)
            result = fit_decisions(logprobs, prior="uniform").transform(logprobs)
            rows, weights = choose_audits(result.confidence, 100, seed=seed)
            estimate = prior_from_audits(result.probabilities, rows, gold[rows], weights)
            assert estimate.identified
            assert estimate.method == "audited"
            assert estimate.prior[0] == pytest.approx(0.86, abs=0.15)
            inside.append(estimate.interval[0][0] <= 0.86 <= estimate.interval[1][0])
        assert np.mean(inside) >= 0.7


def test_an_audited_prior_mends_labels_that_equal_classes_ruin():
    logprobs, gold = answers((0.86, 0.14), 1.0, n=2000)
    equal = fit_decisions(logprobs, prior="uniform").transform(logprobs)
    rows = np.random.default_rng(0).choice(2000, 100, replace=False)
    model = fit_decisions(logprobs, prior=prior_from_audits(equal.probabilities, rows, gold[rows]))
    mended = model.transform(logprobs).probabilities.argmax(axis=1)
    assert (mended == gold).mean() > (equal.probabilities.argmax(axis=1) == gold).mean() + 0.1
    assert model.report()["prior_method"] == "audited"


def test_too_few_audits_are_refused():
    with pytest.raises(InputError, match="3 audited rows"):
        prior_from_audits(np.full((20, 2), 0.5), np.arange(3), np.zeros(3, dtype=np.int64))


def test_shares_that_somebody_knows_are_the_prior():
    found = prior_from_shares({"spam": 0.13}, ["ham", "spam"])
    assert (found.prior.tolist(), found.method, found.identified) == ([0.87, 0.13], "given", True)
    assert prior_from_shares({"a": 0.5}, ["a", "b", "c"]).prior.tolist() == [0.5, 0.25, 0.25]
    assert prior_from_shares({"a": 0.504, "b": 0.5}, ["a", "b"]).prior.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({"eggs": 0.5}, "shares of eggs"),
        ({"spam": 0.0}, "not above 0"),
        ({"spam": float("nan")}, "not above 0"),
        ({"spam": 0.6, "ham": 0.6}, "the sum 1"),
        ({"spam": 0.2, "ham": 0.2}, "the sum 1"),
    ],
)
def test_shares_that_cannot_be_are_refused(shares, said):
    with pytest.raises(ConfigError, match=said):
        prior_from_shares(shares, ["ham", "spam"])
