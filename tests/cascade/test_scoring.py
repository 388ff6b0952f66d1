"""Scorers that are learned: which is taken, and what a score means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from recorded_world import refusing, world

from cascade.outcomes import NO_ANSWER, differ
from cascade.scoring import answered, choose, fit, score_table, signal_table


def test_the_best_single_signal_is_taken() -> None:
    outcomes = world(2000)
    found = choose(outcomes, 0, differ(outcomes)[:, 0], 0.05, fusion=False)
    assert found is not None
    assert found.scorer.signals == ("top_probability",)
    assert 0.1 < found.share < 0.6


def test_signals_that_tell_different_things_are_fused() -> None:
    random = np.random.default_rng(0)
    outcomes = world(3000)
    parts = random.random((3000, 2))
    right = random.random(3000) < np.clip(parts.sum(axis=1) - 0.2, 0, 1)
    answers = np.stack([np.where(right, 0, 1), np.zeros(3000, dtype=np.int64)], axis=1)
    signals = {name: np.tile(parts[:, i : i + 1], (1, 2)) for i, name in enumerate(("first", "second"))}
    two = replace(outcomes, answers=answers, signals=signals, quality=np.full((3000, 2), np.nan))
    found, single = (choose(two, 0, differ(two)[:, 0], 0.05, fusion=fusion) for fusion in (True, False))
    assert found is not None
    assert single is not None
    assert set(found.scorer.signals) == {"first", "second"}
    assert found.share > 1.2 * single.share


def test_an_answer_that_both_have_wrong_is_not_worth_an_escalation() -> None:
    """Where `hopeless` is high both are wrong, and `doubt` alone says that the answer is bad."""
    random = np.random.default_rng(0)
    hopeless, easy = random.random(4000) < 0.3, random.random(4000)
    small = np.where(hopeless, 0.0, random.random(4000) < easy).astype(float)
    strong = np.where(hopeless, 0.0, random.random(4000) < 0.97).astype(float)
    signals = {"sure": np.where(hopeless, 0.2 * easy, easy), "hopeless": hopeless.astype(float)}
    outcomes = replace(
        world(4000),
        answers=np.full((4000, 2), NO_ANSWER),
        signals={name: np.tile(table[:, None], (1, 2)) for name, table in signals.items()},
        quality=np.stack([small, strong], axis=1),
    )
    spoilt = np.clip(strong - small, 0, 1)
    found = choose(outcomes, 0, spoilt, 0.05)
    assert found is not None
    assert found.scorer.signals == ("sure", "hopeless")
    scores = score_table(outcomes, [found.scorer])[:, 0]
    assert scores[hopeless].mean() > scores[~hopeless].mean()


def test_a_score_is_the_chance_and_keeps_the_order() -> None:
    random = np.random.default_rng(0)
    signal = random.random(4000)
    right = (random.random(4000) < signal**2).astype(float)
    scorer = fit(signal[:, None], right, ("s",))
    scores = scorer.score(signal[:, None])
    assert np.abs(scores - signal**2).mean() < 0.03
    middle = (signal > 0.1) & (signal < 0.9)
    ordered = scores[middle][np.argsort(signal[middle])]
    assert (np.diff(ordered) >= 0).all()
    assert len(np.unique(ordered)) > 0.9 * middle.sum()
    assert ((scores > 0) & (scores < 1)).all()


def test_a_signal_that_is_always_right_still_has_an_order_at_the_top() -> None:
    signal = np.linspace(0, 1, 100)
    scorer = fit(signal[:, None], np.ones(100), ("s",))
    assert (np.diff(scorer.score(signal[60:, None])) > 0).all()


def test_the_fusion_of_answers_that_are_all_alike_is_finite() -> None:
    table = np.random.default_rng(0).random((50, 2))
    assert np.isfinite(fit(table, np.ones(50), ("a", "b")).score(table)).all()


def test_tiers_that_cannot_be_scored() -> None:
    outcomes = world(300)
    losses = differ(outcomes)[:, 0]
    assert choose(refusing(outcomes, 0), 0, losses, 0.05) is None
    assert choose(outcomes.take(np.arange(20)), 0, losses[:20], 0.05) is None
    constant = replace(outcomes, signals={"same": np.ones((300, 2))})
    assert choose(constant, 0, losses, 0.05) is None


def test_rows_without_an_answer_have_no_score() -> None:
    outcomes = world(300)
    outcomes.answers[:10, 0] = NO_ANSWER
    found = choose(outcomes, 0, differ(outcomes)[:, 0], 0.1, fusion=False)
    assert found is not None
    scores = score_table(outcomes, [found.scorer])
    assert np.isnan(scores[:10, 0]).all()
    assert not np.isnan(scores[10:, 0]).any()
    assert np.isnan(score_table(outcomes, [None])).all()
    assert signal_table(outcomes, 0, ()).shape == (300, 0)


def test_where_only_quality_was_recorded_it_says_what_was_answered() -> None:
    outcomes = world(10)
    recorded = replace(outcomes, answers=np.full((10, 2), NO_ANSWER))
    recorded.quality[3, 0] = np.nan
    assert answered(recorded, 0).sum() == 9
    assert answered(refusing(outcomes, 0), 0).sum() == 0


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from curator.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    outcomes = world(300)
    with pytest.raises(MissingExtraError, match=r"goldless\[cascade\].*fusion = false"):
        choose(outcomes, 0, differ(outcomes)[:, 0], 0.1)
    assert choose(outcomes, 0, differ(outcomes)[:, 0], 0.1, fusion=False) is not None
