"""The order of testing."""

from __future__ import annotations

import numpy as np
import pytest
from recorded_world import PRICES, world

from cascade.outcomes import differ, serve, served
from cascade.path import ASKED, asked, best_path, promised

TEST = (1000, 0.1, 0.1)


def test_the_path_goes_from_the_last_tier_to_the_first() -> None:
    outcomes = world(2000)
    scores = outcomes.signals["top_probability"][:, :1]
    path = best_path(scores, differ(outcomes), np.array([0.1, 1.0]), TEST)
    assert path.thresholds[0].tolist() == [ASKED]
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
        assert path.cost[step] == np.cumsum(prices * asked(path.thresholds[step]))[tier].mean()
    assert (path.thresholds[1:] <= path.thresholds[:-1]).all()


def test_two_drafts_are_used_where_both_save() -> None:
    random = np.random.default_rng(0)
    easy = random.random(4000)
    losses = np.stack([easy < 0.5, easy < 0.1, np.zeros(4000)], axis=1).astype(float)
    scores = np.stack([easy, easy], axis=1)
    path = best_path(scores, losses, np.array([0.05, 0.2, 1.0]), TEST)
    assert asked(path.thresholds[-1]).tolist() == [True, True, True]
    expensive = best_path(scores, losses, np.array([0.05, 0.9, 1.0]), TEST)
    assert asked(expensive.thresholds[-1]).tolist() == [True, False, True]
    assert promised(path, TEST) < promised(expensive, TEST) < 1.0


def test_without_a_score_there_is_one_step() -> None:
    path = best_path(np.full((50, 1), np.nan), np.zeros((50, 2)), np.array([0.1, 1.0]), TEST)
    assert path.thresholds.tolist() == [[np.inf]]
    assert path.cost.tolist() == [1.0]


def test_a_tier_whose_answer_is_compared_is_asked_even_if_it_never_serves() -> None:
    outcomes = world(2000, tiers=3)
    scores = np.stack([np.where(np.arange(2000) < 1, 0.5, np.nan), outcomes.signals["top_probability"][:, 1]], axis=1)
    losses, prices = differ(outcomes), np.array([0.01, 0.3, 1.0])
    assert asked(best_path(scores, losses, prices, TEST).thresholds[-1]).tolist() == [False, True, True]
    path = best_path(scores, losses, prices, TEST, compared={1})
    assert path.thresholds[0].tolist() == [ASKED, ASKED]
    assert path.cost[0] == pytest.approx(1.31)
