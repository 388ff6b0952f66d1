"""The peers' benchmark: disjoint parts, and thresholds that hold their risk."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks.certified_peers import DELTAS, Arm, deal, neighbours, ours, recalibrated, scored, summary, threshold


def test_parts_are_disjoint_and_the_first_split_keeps_the_official_test_set():
    for split in (0, 1):
        parts = deal(13_083, split)
        assert sorted(np.concatenate(list(parts.values()))) == list(range(13_083))
        assert {part: len(rows) for part, rows in parts.items()} == {"fit": 7003, "calibration": 3000, "test": 3080}
    assert deal(13_083, 0)["test"].tolist() == list(range(10_003, 13_083))


@pytest.mark.parametrize("risk", ["served", "all"])
def test_a_threshold_breaks_alpha_no_more_often_than_delta(risk):
    broken, shares = 0, []
    for seed in range(300):
        random = np.random.default_rng(seed)
        sure = random.random(1500)
        right = random.random(1500) < 0.8 + 0.2 * sure
        limit = threshold(sure, right, 0.05, risk)
        # Exactly: a served query is wrong with chance 0.2 (1 - sure), sure is uniform above the threshold.
        share = max(0.0, 1 - limit)
        wrong = 0.2 * share**2 / 2
        broken += (wrong / share if risk == "served" and share else wrong) > 0.05
        shares.append(share)
    assert broken <= 300 * DELTAS[risk] + 2 * np.sqrt(300 * DELTAS[risk])
    assert np.mean(shares) > 0.3


def test_nothing_is_served_where_nothing_can_be_certified():
    assert threshold(np.linspace(0, 1, 30), np.ones(30, bool), 0.01, "served") == np.inf
    assert threshold(np.linspace(0, 1, 900), np.zeros(900, bool), 0.05, "all") < 1.0


def test_neighbours_answer_as_those_nearby():
    fitted = np.repeat(np.eye(2, 4, dtype=np.float32), 30, axis=0)
    targets = np.repeat(np.eye(2), 30, axis=0)
    found = neighbours(fitted, targets, np.array([[1, 0.1, 0, 0], [0, 1, 0, 0]], dtype=np.float32))
    assert found.argmax(axis=1).tolist() == [0, 1]
    assert found.sum(axis=1) == pytest.approx([1, 1])


def test_every_arm_and_its_figures():
    random = np.random.default_rng(0)
    gold = random.integers(0, 3, 900)
    features = (3 * np.eye(3, 8)[gold] + random.normal(0, 1, (900, 8))).astype(np.float32)
    parts = {"fit": np.arange(400), "calibration": np.arange(400, 700), "test": np.arange(700, 900)}
    scores = scored(features, [f"label {value}" for value in gold], parts)
    arms = ours(scores, 300)
    assert set(arms) == {
        (name, risk, alpha)
        for name in ("goldless", "goldless, with neighbours")
        for risk in DELTAS
        for alpha in (0.05, 0.01)
    }
    assert arms["goldless", "all", 0.05].figures()["share"] > 0.8
    again = recalibrated(scores, 40)
    assert len(again) == len(arms)
    assert all(row["broken"] <= row["delta"] + 2 * np.sqrt(row["delta"] / 40) for row in again)
    rows = [{"split": 0, "arm": "a", "risk": "served", "alpha": 0.1, **Arm(*flags).figures()} for flags in (
        (np.array([True, True, False, False]), np.array([True, False, True, True])),
        (np.array([True, False, False, False]), np.array([True, False, True, True])),
    )]  # fmt: skip
    only = summary(rows)[0]
    assert (only["share"], only["of_served"], only["of_all"], only["broken"]) == (0.375, 0.25, 0.125, 1)
