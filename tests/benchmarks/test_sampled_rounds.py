"""benchmarks/_sampled_rounds.py: its scores on questions with known answers, and where gold may be."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import orjson
import pytest

from benchmarks._sampled_rounds import solved
from curator.engines.scripted import ScriptedEngine
from curator.store import Store
from curator.types import GenerateRequest

pytestmark = pytest.mark.anyio


def reader(request: GenerateRequest) -> list[str]:
    """Right about the even numbers always, about the odd ones once they have been shown how."""
    number = int(re.findall(r"Double (\d+)", request.messages[-1].content)[0])
    knows = number % 2 == 0 or len(request.messages) > 1
    return [f"Answer: {2 * number if knows else i}" for i in range(request.n)]


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    folder = tmp_path / "data" / "gsm8k"
    folder.mkdir(parents=True)
    rows = [{"question": f"Double {n}.", "answer": str(2 * n), "rationale": f"gold {n}"} for n in range(1000, 1040)]
    (folder / "test.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    return argparse.Namespace(
        data=tmp_path / "data", folder=tmp_path / "runs", rows=40, rounds=1, samples=3, no_gold=False
    )


async def test_every_arm_is_scored_against_gold_that_no_store_holds(options):
    engine = ScriptedEngine(generate=reader)
    found = await solved(options, "gsm8k", 0, engine)
    first, second = found["rounds"]
    assert (found["raw"]["accuracy"], first["accuracy"], second["accuracy"]) == (0.5, 0.5, 1.0)
    assert (first["precision"]["0.3"], second["answered"], second["sent"]) == (1.0, 40, 40)
    assert found["gold"]["accuracy"] == 1.0
    shown = [request for request in engine.requests if "gold" in str(request.messages[:-1])]
    assert len(shown) == 40
    store = Store(options.folder / "gsm8k.duckdb")
    documents = [document for page in store.documents() for document in page]
    assert all(not document.meta and document.text.startswith("Double") for document in documents)
