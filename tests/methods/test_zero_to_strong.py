"""curator/methods/zero_to_strong.py: rounds, shards, examples, resuming; on a scripted engine."""

from __future__ import annotations

import random

import pytest

from curator.annotate import Progress
from curator.engines.scripted import ScriptedEngine
from curator.errors import InputError
from curator.methods.demonstrations import Chooser
from curator.methods.zero_to_strong import Rounds, improve
from curator.pipeline import Plan
from curator.requests import shard_of
from curator.screening import Screening
from curator.store import Store
from curator.task import classify
from curator.types import DecideRequest, Document

pytestmark = pytest.mark.anyio

LABELS = ("animal", "plant")
TASK = classify(LABELS, "What is it about?")
PLAN = Plan(screening=Screening(exact=False, near=None))
TRUTH = {f"d{i}": LABELS[i % 2] for i in range(200)}


def chance(*parts: object) -> float:
    return random.Random(repr(parts)).random()


def learner(request: DecideRequest) -> dict[str, float]:
    """Right about 70% of the time without examples, and the more often the better its examples are."""
    name, kind = request.state.split(" ")
    shown = [one.answers["label"] == one.state.split(" ")[1] for one in request.demonstrations]
    skill = 0.7 if not shown else 0.5 + 0.5 * sum(shown) / len(shown)
    sure = 0.6 + 0.39 * chance("sure", name)
    right = chance("right", name, len(shown)) < skill + (0.2 if sure > 0.85 else 0.0)
    top = kind if right else next(label for label in LABELS if label != kind)
    return {label: sure if label == top else 1 - sure for label in LABELS}


@pytest.fixture
def store(tmp_path):
    found = Store(tmp_path / "store.duckdb")
    documents = [Document(name, f"{name} {kind}") for name, kind in TRUTH.items()]
    with found.run("test", {}) as run:
        found.add_documents([documents], source="test", run_id=run.id)
    return found


def accuracy(result) -> float:
    rows = list(result.rows())
    return sum(TRUTH[row.document.id] == row.output.label for row in rows) / len(rows)


async def test_rounds_of_its_own_examples_make_a_model_better(store):
    result = await improve(TASK, ScriptedEngine(decide=learner), store, plan=PLAN)
    first = [row for row in result.report["rounds"] if row["round"] == 0]
    assert first[0]["fields"]["label"]["labelled"] == 200
    assert accuracy(result) > 0.9
    assert result.report["rounds"][-1]["churn"] < 0.2
    # The last round had the examples of the one before it: its answers count once.
    assert result.report["fields"]["label"]["rounds_averaged"] == 3


async def test_examples_come_from_the_other_shards_and_are_balanced(store):
    seen: dict[int, set[str]] = {0: set(), 1: set()}

    def spy(request: DecideRequest) -> dict[str, float]:
        shard = shard_of(request.state.split(" ")[0], 2)
        seen[shard] |= {one.state.split(" ")[0] for one in request.demonstrations}
        return learner(request)

    result = await improve(TASK, ScriptedEngine(decide=spy), store, plan=PLAN, rounds=Rounds(rounds=1))
    for shard, names in seen.items():
        assert names
        assert all(shard_of(name, 2) != shard for name in names)
    for shown in result.report["rounds"][1]["examples"]:
        labels = [one["answers"]["label"] for one in shown]
        assert labels.count("animal") == labels.count("plant") == 8


async def test_running_again_sends_nothing_and_freezes_the_same_rows(store):
    first = await improve(TASK, ScriptedEngine(decide=learner), store, plan=PLAN)
    counts = Progress()
    again = await improve(TASK, ScriptedEngine(decide=learner), store, plan=PLAN, progress=counts)
    assert counts.sent == 0
    assert counts.reused == 200 * len(again.report["rounds"])
    assert again.version.hash == first.version.hash


async def test_a_run_that_breaks_off_in_a_round_goes_on_there(store):
    calls = 0

    def failing(request: DecideRequest) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == 300:
            raise InputError("stop here")
        return learner(request)

    with pytest.raises(InputError, match="stop here"):
        await improve(TASK, ScriptedEngine(decide=failing), store, plan=PLAN)
    counts = Progress()
    result = await improve(TASK, ScriptedEngine(decide=learner), store, plan=PLAN, progress=counts)
    assert counts.sent <= 200 * len(result.report["rounds"]) - 290


async def test_random_labels_can_start_the_rounds(store):
    rounds = Rounds(rounds=2, start="random")
    result = await improve(TASK, ScriptedEngine(decide=learner), store, plan=PLAN, rounds=rounds)
    assert [row["round"] for row in result.report["rounds"]] == [1, 2]


async def test_rounds_stop_when_nothing_changes(store):
    steady = ScriptedEngine(
        decide=lambda request: {"animal": 0.9, "plant": 0.1} if "animal" in request.state else "plant"
    )
    result = await improve(TASK, steady, store, plan=PLAN)
    assert [row["round"] for row in result.report["rounds"]] == [0, 1]
    assert result.report["rounds"][-1]["churn"] == 0


async def test_texts_that_are_all_too_long_are_refused(store):
    rounds = Rounds(examples=Chooser(longest=3))
    with pytest.raises(InputError, match="at most 3 characters"):
        await improve(TASK, ScriptedEngine(decide=learner), store, plan=PLAN, rounds=rounds)


@pytest.mark.parametrize(
    "wrong", [{"rounds": 0}, {"shards": 1}, {"examples": Chooser(count=0)}, {"solved": Chooser(count=0)}]
)
def test_settings_that_make_no_rounds_are_refused(wrong):
    with pytest.raises(InputError, match="are 1 or more, shards 2 or more"):
        Rounds(**wrong)
