"""Gold beside the corpus, inside it, right or permuted: the training set is the same."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import orjson
import pytest

from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.evaluation.answers import read_gold, stored_labels
from curator.evaluation.joined import join
from curator.pipeline import Curation, Plan, curate
from curator.screening import Screening
from curator.selection import SelectionPolicy
from curator.sources import open_source
from curator.store import Store
from curator.task import Classification, classify
from curator.types import DecideRequest

pytestmark = pytest.mark.anyio

TASK = classify(["bad", "good"], "How is the film?").with_views(2)
WORDS = ("plot", "actor", "scene", "music", "light", "camera", "story", "ending", "pace", "cast", "joke", "score")
ROWS = 150


def biased(request: DecideRequest) -> Mapping[str, float]:
    """A model that leans to "good" and is now and then wrong."""
    wobble = random.Random(request.state).uniform(-0.25, 0.25)
    good = (0.75 if "fine" in request.state else 0.5) + wobble
    return {"good": good, "bad": 1 - good}


def texts() -> list[str]:
    pick = random.Random(7)
    return [" ".join([*pick.choices(WORDS, k=12), pick.choice(["fine", "poor"])]) for _ in range(ROWS)]


GOLD = ["good" if text.endswith("fine") else "bad" for text in texts()]
PERMUTED = random.Random(1).sample(GOLD, ROWS)


def write(path: Path, *columns: tuple[str, list[str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"id": f"d{i}", **{name: values[i] for name, values in columns}} for i in range(ROWS)]
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


async def curated(corpus: Path, plan: Plan) -> Curation[Classification]:
    return await curate(
        TASK,
        ScriptedEngine(decide=biased),
        Store(corpus.with_suffix(".duckdb")),
        source=open_source(str(corpus)),
        plan=plan,
    )


def plan(*, reference: bool = False) -> Plan:
    """Every stage that chooses anything: filters, bias, prior, calibration, quotas."""
    strong = ScriptedEngine(decide=lambda r: biased(r), identity=EngineIdentity("scripted", "strong"))
    return Plan(
        screening=Screening(near=None, filters={"length": {"min_words": 3}}),
        selection=SelectionPolicy(balanced=True, coverage=0.6),
        reference=strong if reference else None,
        reference_rows=80,
    )


@pytest.mark.parametrize("reference", [False, True])
async def test_gold_in_the_metadata_changes_nothing_but_the_metadata(tmp_path, reference):
    found = []
    for name, gold in (("right", GOLD), ("permuted", PERMUTED)):
        result = await curated(
            write(tmp_path / f"{name}.jsonl", ("text", texts()), ("label", gold)), plan(reference=reference)
        )
        rows = list(result.rows())
        assert all(row.document.meta["label"] == gold[int(row.document.id[1:])] for row in rows)
        found.append([(row.document.id, row.output, row.confidence, row.weight, row.fields) for row in rows])
    assert GOLD != PERMUTED
    assert 0 < len(found[0]) < ROWS
    assert found[0] == found[1]


async def test_gold_in_a_file_of_its_own_gives_the_same_bytes_evaluated_or_not(tmp_path):
    hashes, accuracies = [], []
    for name, gold in (("right", GOLD), ("permuted", PERMUTED), ("none", [])):
        corpus = write(tmp_path / name / "corpus.jsonl", ("text", texts()))
        if gold:
            write(tmp_path / name / "gold.jsonl", ("label", gold))
        result = await curated(corpus, plan())
        hashes.append(result.version.hash)
        if gold:
            accuracies.append(_accuracy(result, tmp_path / name / "gold.jsonl"))
            # Whoever has looked at gold and goes on curating gets the same version still.
            hashes.append((await curated(corpus, plan())).version.hash)
    assert len(set(hashes)) == 1
    assert accuracies[0] > accuracies[1] + 0.1


def _accuracy(result: Curation[Classification], path: Path) -> float:
    (field,) = TASK.closed
    gold = read_gold(str(path), field)
    labels = stored_labels(result.store, TASK.id, field, set(gold.values))
    return join(field, gold, {"labels": labels}).comparison.scores["labels"].accuracy.value


def test_gold_is_read_by_the_commands_that_evaluate_alone():
    root = Path(__file__).parents[1]
    users = {
        path.relative_to(root).as_posix()
        for package in ("curator", "cascade", "cli")
        for path in (root / package).rglob("*.py")
        if "read_gold" in path.read_text(encoding="utf-8")
    }
    assert users == {"curator/evaluation/answers.py", "cli/evaluate.py", "cli/w2s.py"}
