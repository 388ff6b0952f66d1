"""benchmarks/preference_training.py: its arms one by one on what benchmarks.progressive left; answers are scripted."""

from __future__ import annotations

import argparse
import json
import random
import re
from pathlib import Path

import orjson
import pytest

pytest.importorskip("trl")

from benchmarks import preference_training, progressive
from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.types import GenerateRequest

pytestmark = pytest.mark.anyio


def model(name: str, skill: float) -> ScriptedEngine:
    """Doubles numbers, right in a share of the cases."""

    def answer(request: GenerateRequest) -> list[str]:
        number = int(re.findall(r"Double (\d+)", request.messages[-1].content)[0])
        chance = random.Random(f"{name} {number}")
        totals = [2 * number if chance.random() < skill else chance.randrange(9000) for _ in range(request.n)]
        return [f"{name}: {number} + {total - number} = {total}\nAnswer: {total}" for total in totals]

    return ScriptedEngine(generate=answer, identity=EngineIdentity("scripted", name))


def weak_or_strong(options: argparse.Namespace, weights: str, samples: int = 1) -> ScriptedEngine:
    return model(weights, 0.5 if weights == "weak" else 0.85)


@pytest.fixture
def options(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    folder = tmp_path / "data" / "gsm8k"
    folder.mkdir(parents=True)
    for split, numbers in (("train", range(1000, 1050)), ("test", range(2000, 2030))):
        rows = [{"id": f"{split}{n}", "question": f"Double {n}.", "answer": str(2 * n)} for n in numbers]
        (folder / f"{split}.jsonl").write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    for module in (progressive, preference_training):
        monkeypatch.setattr(module, "connect_to", weak_or_strong)
    skills = {"base": 0.9, "naive": 0.2, "kept": 0.9, "dpo": 1.0}

    def connect(spec: str, adapter: str = "base", **settings: object) -> ScriptedEngine:
        arm = Path(adapter).name
        return model(arm, skills[arm])

    monkeypatch.setattr(preference_training, "connect", connect)
    monkeypatch.setattr(progressive, "INSTRUCTION", "Go.")  # the tiny model reads 256 letters
    shared = ["--folder", str(tmp_path / "runs"), "--data", str(tmp_path / "data"), "--weak", "weak"]
    stages = ["--rows", "40", "--contrasted", "30", "--parts", "weak", "stage1", "stage2", "--strong", "strong"]
    monkeypatch.setattr("sys.argv", ["x", *shared, *stages, "--max-tokens", "64", "--json", str(tmp_path / "p.json")])
    given = progressive.arguments()
    training = [
        "--strong",
        str(tiny_model),
        "--max-tokens",
        "64",
        "--instruction",
        "Go.",
        "--train-rows",
        "24",
        "--json",
        str(tmp_path / "o"),
    ]
    monkeypatch.setattr("sys.argv", ["x", *shared, *training, "--questions", "30", "--pairs", "12"])
    made = preference_training.arguments()
    made.stages = given
    return made


async def test_arms_one_by_one_add_up_to_one_result(options, tmp_path, tiny_model):
    await progressive.main(options.stages)
    for arm in preference_training.ARMS:
        options.arms = [arm]
        await preference_training.main(options)
    found = json.loads(options.json.read_text())
    arms, differences = found["arms"], found["differences"]
    assert list(arms) == list(preference_training.ARMS)
    assert (arms["naive"]["training"]["examples"], arms["kept"]["training"]["examples"]) == (22, 22)
    assert arms["dpo"]["training"]["settings"]["adapter"].startswith("kept (")
    assert len(arms["dpo"]["training"]["logprobs"]["chosen"]) > 2
    assert differences["naive - base"]["high"] < 0
    assert differences["kept - base"]["low"] <= 0.1
    assert differences["dpo - base"]["value"] == pytest.approx(arms["dpo"]["accuracy"] - arms["base"]["accuracy"])
    assert differences["kept - naive"]["low"] > 0
    # Done arms are only read.
    before = options.json.read_text()
    options.arms = ["kept"]
    await preference_training.main(options)
    assert options.json.read_text() == before
