"""Learnt and chosen rules on a made-up pair: honest where there is nothing to learn, better where there is."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("sklearn")

from benchmarks._routing import Recording
from benchmarks.replay import apgr, cross_fitted, measure, rounded, saved, show
from cascade.deferral import Curve, Pair, curve
from cascade.outcomes import Outcomes


def recording(rows, informative, seed=0):
    """A weak model whose errors show in two features at once, or not at all."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, 2))
    hard = features.sum(axis=1) if informative else random.normal(size=rows)
    weak = (hard + random.normal(0, 0.7, rows) < 0.7).astype(float)
    strong = (random.random(rows) < 0.95).astype(float)
    signals = {"first": -features[:, 0], "second": -features[:, 1]}
    tables = {name: np.stack([values, values], axis=1) for name, values in signals.items()}
    cost = np.tile([1.0, 10.0], (rows, 1))
    outcomes = Outcomes(
        ("weak", "strong"), np.full((rows, 2), -1), tables, cost, cost, np.stack([weak, strong], axis=1)
    )
    return Recording("made up", outcomes)


def no_texts(texts):
    raise AssertionError(texts)


def test_two_signals_together_beat_the_best_of_them(capsys):
    found = measure(recording(1200, informative=True), no_texts, draws=200)
    arms = {arm["name"]: arm for arm in found["result"]["arms"]}
    assert found["verdict"] == "better"
    assert arms["chosen"]["lead"]["low"] > 0
    assert set(found["picked"]["chosen"]) <= {"gain learned", "right learned"}
    assert arms["thrifty"]["savings"][1]["saved"]["value"] > arms[found["best_single"]]["savings"][1]["saved"]["value"]
    show({"made up": found})
    assert "| made up | chosen | 0." in capsys.readouterr().out
    json.dumps(rounded(found))


def test_where_there_is_nothing_to_learn_nothing_is_claimed():
    given = recording(1200, informative=False)
    rules, _ = cross_fitted(given, Pair.of(given.outcomes), no_texts)
    for rule in rules:
        pair = Pair.of(given.outcomes)

        assert abs(apgr(curve(pair, rule)) - 0.5) < 0.08


def test_area_and_saving_by_hand():
    points = Curve("r", np.zeros(3), np.array([0, 0.5, 1]), np.array([0.6, 0.8, 0.8]), np.array([1.0, 6.0, 11.0]))
    assert apgr(points) == pytest.approx(0.75)
    assert saved(points, 10.0) == pytest.approx(0.4)
    assert saved(points, 5.0) == 0.0
