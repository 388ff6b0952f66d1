"""The order of testing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from recorded_world import PRICES, world

from cascade.outcomes import differ, serve, served
from cascade.path import best_path, fallbacks, promised

TEST = (1000, 0.1, 0.1)


def test_the_path_goes_from_the_last_tier_to_the_first() -> None:
    outcomes = world(2000)
    scores = outcomes.signals["top_probability"][:, :1]
    path = best_path(scores, differ(outcomes), np.array([0.1, 1.0]), TEST)
    assert np.isinf(path.thresholds[0]).all()
    assert (path.risk[0], path.cost[0]) == (0.0, pytest.approx(1.1))
    assert (np.diff(path.risk) >= 0).all()
    assert path.cost[-1] == pytest.approx(0.1)
    assert len(path.risk) > 90


def test_what_a_step_promises_is_what_it_measures() -> None:
    outcomes, losses = world(2000, tiers=3), differ(world(2000, tiers=3))
    scores, prices = outcomes.signals["top_probability"][:, :2], np.array(PRICES)
    path = best_path(scores, losses, prices, TEST)
    for step in (0, len(path.risk) // 2, -1):
        tier = serve(scores, path.thresholds[step])
        assert path.risk[step] == served(losses, tier).mean()
        assert path.cost[step] == np.cumsum(prices * path.active)[tier].mean()
    assert (path.thresholds[1:] <= path.thresholds[:-1]).all()


def test_two_drafts_are_used_where_both_save() -> None:
    random = np.random.default_rng(0)
    easy = random.random(4000)
    losses = np.stack([easy < 0.5, easy < 0.1, np.zeros(4000)], axis=1).astype(float)
    scores = np.stack([easy, easy], axis=1)
    path = best_path(scores, losses, np.array([0.05, 0.2, 1.0]), TEST)
    assert path.active.tolist() == [True, True, True]
    expensive = best_path(scores, losses, np.array([0.05, 0.9, 1.0]), TEST)
    assert expensive.active.tolist() == [True, False, True]
    assert promised(path, TEST) < promised(expensive, TEST) < 1.0


def test_without_a_score_there_is_one_step() -> None:
    path = best_path(np.full((50, 1), np.nan), np.zeros((50, 2)), np.array([0.1, 1.0]), TEST)
    assert path.thresholds.tolist() == [[np.inf]]
    assert path.active.tolist() == [False, True]
    assert path.cost.tolist() == [1.0]


def test_fallbacks_lie_before_the_step_and_serve_ever_less() -> None:
    outcomes = world(2000, tiers=3)
    scores = outcomes.signals["top_probability"][:, :2]
    path = best_path(scores, differ(outcomes), np.array(PRICES), TEST)
    chosen = path.thresholds[90]
    back = fallbacks(path, chosen, scores)
    shares = [float((serve(scores, step) < 2).mean()) for step in (chosen, *back)]
    assert len(back) >= 2
    assert all(0 < after <= before / 2 for before, after in pairwise(shares))
    assert all((step >= chosen).all() for step in back)
    assert fallbacks(path, path.thresholds[0], scores) == []
