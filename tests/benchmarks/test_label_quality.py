"""The analysis of cached log-probabilities."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.label_quality import load, main


@pytest.fixture
def caches(tmp_path):
    random = np.random.default_rng(0)
    gold = random.integers(0, 3, 400)
    for view in range(2):
        scores = 2 * np.eye(3)[gold] + random.normal(0, 1, (400, 3)) + random.normal(0, 3, 3)
        np.savez(tmp_path / f"v{view}.npz", L=scores - 8, gold=gold, labels=["a", "b", "c"])
    return tmp_path


def test_every_arm_is_scored_and_written(caches, capsys):
    main([f"toy={caches}/v0.npz", f"views={caches}/v0.npz+{caches}/v1.npz", "--json", str(caches / "out.json")])
    assert "toy" in capsys.readouterr().out
    results = json.loads((caches / "out.json").read_text())
    toy = {name: scores["accuracy"]["value"] for name, scores in results["toy"]["arms"].items()}
    assert toy["default"] > toy["raw"] + 0.1
    assert results["toy"]["gain"] == pytest.approx(toy["default"] - toy["raw"])
    assert results["views"]["views"] == 2
    assert results["views"]["arms"]["default"]["accuracy"]["value"] > toy["default"]


def test_views_of_other_rows_are_refused(caches):
    np.savez(caches / "other.npz", L=np.zeros((400, 3)), gold=np.full(400, 2), labels=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"other\.npz holds other rows"):
        load([caches / "v0.npz", caches / "other.npz"])
