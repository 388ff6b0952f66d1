"""benchmarks/zero_to_strong.py: the arms of a large label set."""

from __future__ import annotations

import argparse
from pathlib import Path

import orjson
import pytest

from benchmarks import label_runs, zero_to_strong
from benchmarks.zero_to_strong import decided
from curator.engines.scripted import ScriptedEngine
from curator.methods.lookup import Space
from tests.methods.test_retrieval import TEXTS, TRUTH, Words, model

pytestmark = pytest.mark.anyio


@pytest.fixture
def options(tmp_path: Path, monkeypatch) -> argparse.Namespace:
    monkeypatch.setenv("GOLDLESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Space, "of", classmethod(lambda cls, spec: cls(Words(), spec)))
    monkeypatch.setattr(label_runs, "INSTRUCTIONS", {"kinds": "What is it about?"})
    folder = tmp_path / "data" / "kinds"
    folder.mkdir(parents=True)
    rows = [{"text": text, "label": TRUTH[name]} for name, text in TEXTS.items()]
    (folder / "train.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    settings = {"rows": 150, "rounds": 1, "examples": 24, "no_gold": True, "encoder_only": False, "fresh": False}
    settings |= {"probes": 0, "denoise": False}
    # It would embed the words with a real encoder; tests/test_denoising.py is about that.
    monkeypatch.setattr(zero_to_strong, "denoised", lambda job, table: {})
    return argparse.Namespace(data=tmp_path / "data", folder=tmp_path / "runs", **settings)


def accuracy(arm: list[dict[str, dict[str, float]]], of: str) -> list[float]:
    return [one[of]["accuracy"] for one in arm]


async def test_labels_are_scored_beside_what_the_encoder_alone_says(options):
    found = await decided(options, "kinds", 0, ScriptedEngine(decide=model))
    assert set(found) == {"dataset", "seed", "rows", "raw", "rounds", "retrieval", "encoder"}
    # The walk through the rounds sees what `improve` froze, and sends nothing more.
    assert found["retrieval"][1]["labels"]["accuracy"] == found["rounds"][1]["accuracy"]
    assert [one["sent"] for one in found["retrieval"]] == [0, 0]
    assert accuracy(found["retrieval"], "labels")[1] > accuracy(found["retrieval"], "encoder")[0]


async def test_the_encoders_rounds_take_no_model(options):
    options.encoder_only = True
    engine = ScriptedEngine(decide=model)
    found = await decided(options, "kinds", 0, engine)
    assert engine.requests == []
    assert set(found) == {"dataset", "seed", "rows", "encoder"}
    first, second = accuracy(found["encoder"], "encoder")
    assert 0.5 < first < second
