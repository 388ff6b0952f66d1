"""Scores and choices: the best of every class, weights by rank, controls of the same size, and what each score sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curator.errors import ConfigError, InputError
from curator.methods.small_selection import Choice, Score, confidence, control, difficulty, disagreement, perplexity
from curator.types import Option, Question, Template

CLASSES = st.lists(st.integers(-1, 2), min_size=3, max_size=60).filter(lambda found: any(c >= 0 for c in found))


@settings(max_examples=60, deadline=None)
@given(CLASSES, st.floats(0.05, 1), st.integers(0, 99))
def test_the_best_share_of_every_class_is_kept_and_its_control_has_the_same_size(classes, share, seed):
    labels = np.array(classes)
    values = np.random.default_rng(seed).random(len(labels)) - 0.5
    ids = [f"r{i}" for i in range(len(labels))]
    kept = Choice(share).weights(ids, labels, Score("s", values))
    assert not kept[labels < 0].any()
    drawn = control(kept, labels, seed)
    for number in set(labels[labels >= 0].tolist()):
        inside = labels == number
        count = int(kept[inside].sum())
        assert count == max(1, int(np.ceil(share * inside.sum() - 1e-9)))
        assert int(drawn[inside].sum()) == count
        assert kept[inside][np.argsort(-values[inside])].tolist() == [1.0] * count + [0.0] * int(inside.sum() - count)


@settings(max_examples=40, deadline=None)
@given(CLASSES, st.integers(0, 99))
def test_weights_are_ranks_with_mean_one_and_the_control_shuffles_them(classes, seed):
    labels = np.array(classes)
    values = np.random.default_rng(seed).random(len(labels))
    found = Choice(weighted=True).weights([str(i) for i in range(len(labels))], labels, Score("s", values))
    assert ((found > 0) == (labels >= 0)).all()
    for number in set(labels[labels >= 0].tolist()):
        inside = labels == number
        assert found[inside].mean() == pytest.approx(1)
        assert (np.argsort(found[inside]) == np.argsort(values[inside])).all()
        assert sorted(control(found, labels, seed)[inside]) == pytest.approx(sorted(found[inside]))


def test_balance_caps_every_class_at_the_smallest():
    labels = np.array([0] * 20 + [1] * 6)
    kept = Choice(0.5, balanced=True).weights([str(i) for i in range(26)], labels, Score("s", np.arange(26.0)))
    assert (kept[:20].sum(), kept[20:].sum()) == (3, 3)


def test_choices_that_make_no_sense():
    with pytest.raises(ConfigError, match="share of rows to keep is 0"):
        Choice(0)
    with pytest.raises(ConfigError, match="cannot be balanced"):
        Choice(weighted=True, balanced=True)
    with pytest.raises(InputError, match="difficulty scores no labelled row"):
        Choice().weights(["a"], np.array([0]), Score("difficulty", np.array([np.nan])))


def test_disagreement_finds_the_wrong_labels():
    pytest.importorskip("torch")
    from tests.methods.weak_builders import noisy, world

    pool, gold = world()
    teacher = noisy(gold, 0.3, honest=False)
    found = disagreement(pool, teacher)
    train = ~pool.held
    assert np.isnan(found.values[pool.held]).all()
    wrong = (teacher.classes() != gold)[train]
    lowest = found.values[train] <= np.quantile(found.values[train], wrong.mean())
    assert (lowest == wrong).mean() > 0.9
    # The teacher's own confidence knows nothing here.
    assert np.ptp(confidence(teacher).values) < 1e-9


def test_a_language_model_scores_texts_and_answers(tiny_model):
    pytest.importorskip("torch")
    from curator.engines.likelihood import Likelihood
    from curator.methods.students import Teacher

    model = Likelihood(str(tiny_model), dtype="float32")
    texts = ["positive neutral", "negative negative", "zzqqxx", ""]
    found = perplexity(model, texts)
    assert found.values[:3].max() < 0
    assert np.isnan(found.values[3])
    assert (found.values[:3] == -model.mean_nll(texts[:3])).all()
    question = Question("tone", "choice", "Tone?", (Option("positive"), Option("negative")))
    teacher = Teacher("t", np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [np.nan, np.nan]]))
    ratio = difficulty(model, texts, teacher, (question, Template())).values
    prompts = model.prompts(texts, question, Template())
    by_hand = np.exp(model.mean_nll(["positive"], prompts[:1]) - model.mean_nll(["positive"]))
    assert np.isnan(ratio[0]) if by_hand > 1 else ratio[0] == pytest.approx(by_hand[0], rel=1e-4)
    assert np.isnan(ratio[3])
    assert (ratio[~np.isnan(ratio)] <= 1).all()
