"""benchmarks/progressive.py: its parts one by one on one store, and where gold may be; on scripted models."""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path

import orjson
import pytest

from benchmarks import progressive
from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.store import Store
from curator.types import GenerateRequest

pytestmark = pytest.mark.anyio


def model(options: argparse.Namespace, weights: str, samples: int = 1) -> ScriptedEngine:
    """Doubles numbers; the weak one in half of the cases, the strong one mostly."""

    def answer(request: GenerateRequest) -> list[str]:
        number = int(re.findall(r"Double (\d+)", request.messages[-1].content)[0])
        chance = random.Random(f"{weights} {number}")
        skill = 0.5 if weights == "weak" else 0.85
        totals = [2 * number if chance.random() < skill else chance.randrange(9000) for _ in range(request.n)]
        return [f"{weights}: {number} + {total - number} = {total}\nAnswer: {total}" for total in totals]

    return ScriptedEngine(generate=answer, identity=EngineIdentity("scripted", weights))


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    folder = tmp_path / "data" / "gsm8k"
    folder.mkdir(parents=True)
    numbers = range(1000, 1050)
    rows = [{"id": f"tr{n}", "question": f"Double {n}.", "answer": str(2 * n), "rationale": "gold"} for n in numbers]
    (folder / "train.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    monkeypatch.setattr(progressive, "connect_to", model)
    arguments = ["progressive", "--folder", str(tmp_path / "runs"), "--json", str(tmp_path / "out.json")]
    given = ["--data", str(tmp_path / "data"), "--rows", "40", "--contrasted", "20", "--zero-shot", "10"]
    monkeypatch.setattr("sys.argv", [*arguments, *given, "--weak", "weak", "--strong", "strong"])
    return progressive.arguments()


async def test_parts_one_by_one_add_up_to_one_result_without_paths(options, tmp_path):
    for part in progressive.PARTS:
        options.parts = [part]
        await progressive.main(options)
    found = json.loads(options.json.read_text())
    assert str(tmp_path) not in options.json.read_text()
    results = found["results"]
    assert (results["weak"]["documents"], results["zero_shot"]["documents"]) == (40, 10)
    first, second = results["stage1"]["rounds"]
    # The weak answers were there already.
    assert (first["annotation"]["sent"], second["annotation"]["sent"]) == (40, 40)
    assert first["gold"]["weak_accuracy"] == results["weak"]["accuracy"]
    assert first["gold"]["precision"] > first["gold"]["weak_accuracy"] + 0.2
    assert results["stage2"]["questions"] == 20
    assert results["stage2"]["annotation"]["sent"] == 20
    assert results["stage2"]["pairs"] > 0
    assert 0 <= results["stage2"]["votes"]["ece_of_discounted"] <= 1
    store = Store(options.folder / "progressive.duckdb")
    documents = [document for page in store.documents() for document in page]
    assert all(not document.meta and document.text.startswith("Double") for document in documents)
