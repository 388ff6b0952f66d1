"""Resamples are paired by their seed, and halves never share a query."""

from __future__ import annotations

import numpy as np

from cascade import resampling
from cascade.resampling import Estimate, halves, resampled


def test_every_resample_draws_as_many_queries_as_there_are():
    drawn = np.concatenate(list(resampled(50, 30, seed=1)))
    assert drawn.shape == (30, 50)
    assert (drawn.sum(axis=1) == 50).all()
    assert len(np.unique(drawn, axis=0)) == 30
    assert (drawn == np.concatenate(list(resampled(50, 30, seed=1)))).all()


def test_chunks_do_not_change_what_is_drawn(monkeypatch):
    whole = np.concatenate(list(resampled(40, 25, seed=3)))
    monkeypatch.setattr(resampling, "CELLS", 40 * 7)
    pieces = list(resampled(40, 25, seed=3))
    assert [len(piece) for piece in pieces] == [7, 7, 7, 4]
    assert (np.concatenate(pieces) == whole).all()


def test_halves_are_halves():
    first = np.concatenate(list(halves(21, 40, seed=0)))
    assert (first.sum(axis=1) == 10).all()
    assert first.mean(axis=0).min() > 0.3
    assert first.mean(axis=0).max() < 0.7


def test_an_interval_covers_a_mean_about_as_often_as_it_says():
    random = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        sample = random.random(60) < 0.4
        drawn = np.concatenate([counts @ sample for counts in resampled(60, 300, seed)]) / 60
        found = Estimate.of(float(sample.mean()), drawn)
        hits += found.low <= 0.4 <= found.high
    assert hits >= 178  # 95% of 200 minus four standard errors


def test_an_undefined_figure_says_why():
    assert Estimate(None, reason="no gap").to_json() == {"value": None, "low": None, "high": None, "reason": "no gap"}
    assert "reason" not in Estimate(1.0, 0.5, 1.5).to_json()
