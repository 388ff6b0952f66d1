"""curator/methods/solutions.py: rounds of sampled answers, taught with whole texts; on a scripted engine."""

from __future__ import annotations

import random
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel

from curator.annotate import Progress
from curator.engines.scripted import ScriptedEngine
from curator.errors import InputError, TaskError
from curator.fields import Reasoning
from curator.methods.demonstrations import Chooser
from curator.methods.zero_to_strong import Rounds, improve
from curator.pipeline import Plan
from curator.requests import Prompting, shard_of
from curator.screening import Screening
from curator.store import Store
from curator.task import Task, solve
from curator.types import Document, GenerateRequest, Solved

pytestmark = pytest.mark.anyio

TASK = solve(int, "Add the numbers.", samples=5)
PLAN = Plan(screening=Screening(exact=False, near=None))
TRUTH = {f"d{i}": 3 * i for i in range(120)}
ROUNDS = Rounds(rounds=1, solved=Chooser(count=4))


def chance(*parts: object) -> float:
    return random.Random(repr(parts)).random()


def asked(request: GenerateRequest) -> str:
    """The id of the document that is asked about."""
    return next(word for word in request.messages[-1].content.split() if word in TRUTH)


def learner(request: GenerateRequest) -> list[str]:
    """Right in 40% to 80% of the samples, easy documents more often; with examples in 30% more. Wrong ones differ."""
    name, taught = asked(request), len(request.messages) > 1
    skill = 0.4 + 0.4 * chance("easy", name) + (0.3 if taught else 0.0)
    right = [chance(name, taught, i) < skill for i in range(request.n)]
    return [f"It is a sum.\nAnswer: {TRUTH[name] if one else 1000 + 7 * i + len(name)}" for i, one in enumerate(right)]


@pytest.fixture
def store(tmp_path):
    found = Store(tmp_path / "store.duckdb")
    documents = [Document(name, f"{name} and {2 * int(name[1:])} more") for name in TRUTH]
    with found.run("test", {}) as run:
        found.add_documents([documents], source="test", run_id=run.id)
    return found


def accuracy(result) -> float:
    rows = list(result.rows())
    return sum(TRUTH[row.document.id] == row.output.answer for row in rows) / len(rows)


def accuracies(found: dict[str, dict[str, object]]) -> float:
    return sum(TRUTH[name] == values["answer"] for name, values in found.items()) / len(found)


async def test_texts_that_won_their_votes_teach_the_next_round(store):
    engine = ScriptedEngine(generate=learner)
    result = await improve(TASK, engine, store, plan=PLAN, rounds=ROUNDS)
    first, second = result.report["rounds"]
    assert (first["fields"]["answer"]["labelled"], first["round"]) == (120, 0)
    assert second["fields"]["answer"]["mean_confidence"] > first["fields"]["answer"]["mean_confidence"]
    assert 0 < second["churn"] < 0.5
    assert accuracy(result) > 0.9


async def test_examples_are_worked_through_and_come_from_the_other_shards(store):
    engine = ScriptedEngine(generate=learner)
    result = await improve(TASK, engine, store, plan=PLAN, rounds=ROUNDS)
    taught = [request for request in engine.requests if len(request.messages) > 1]
    assert len(taught) == 120
    for request in taught:
        *examples, _ = request.messages
        assert [message.role for message in examples] == ["user", "assistant"] * 4
        names = [asked(GenerateRequest((message,))) for message in examples[::2]]
        assert all(shard_of(name, 2) != shard_of(asked(request), 2) for name in names)
        # What is shown is what won: with wrong answers that all differ, that is the truth.
        assert [message.content for message in examples[1::2]] == [
            f"It is a sum.\nAnswer: {TRUTH[name]}" for name in names
        ]
    assert [len(shard) for shard in result.report["rounds"][1]["solved"]] == [4, 4]


async def test_a_kill_in_the_middle_of_a_round_asks_nothing_twice(store):
    sent: list[tuple[str, int]] = []

    def failing(request: GenerateRequest) -> list[str]:
        if len(sent) == 150:
            raise InputError("stop here")
        sent.append((asked(request), len(request.messages)))
        return learner(request)

    with pytest.raises(InputError, match="stop here"):
        await improve(TASK, ScriptedEngine(generate=failing), store, plan=PLAN, rounds=ROUNDS)
    counts, engine = Progress(), ScriptedEngine(generate=learner)
    result = await improve(TASK, engine, store, plan=PLAN, rounds=ROUNDS, progress=counts)
    again = [(asked(request), len(request.messages)) for request in engine.requests]
    assert len(sent) == 150
    assert sorted(sent + again) == sorted((name, size) for name in TRUTH for size in (1, 9))
    assert counts.sent == 240 - 150
    same = await improve(TASK, engine, store, plan=PLAN, rounds=ROUNDS, progress=(twice := Progress()))
    assert (twice.sent, same.version.hash) == (0, result.version.hash)


async def test_closed_and_sampled_fields_are_taught_together(store):
    class Sum(BaseModel):
        large: bool
        total: int

    def say(request: GenerateRequest) -> list[str]:
        return [text.replace("It is a sum.\nAnswer: ", '{"total": ') + "}" for text in learner(request)]

    engine = ScriptedEngine(decide=lambda request: len(request.state) % 2 == 0, generate=say)
    result = await improve(Task(Sum, "Add."), engine, store, plan=PLAN, rounds=Rounds(1, Chooser(4)))
    taught = result.report["rounds"][1]
    assert set(taught["fields"]) == {"large", "total"}
    assert len(taught["examples"]) == len(taught["solved"]) == 2


async def test_every_class_of_a_reasoned_choice_has_its_share_of_examples(store):
    class Parity(BaseModel):
        why: Annotated[str, Reasoning()]
        kind: Literal["even", "odd"]

    def say(request: GenerateRequest) -> list[str]:
        kind = "odd" if TRUTH[asked(request)] % 2 else "even"
        return [f'{{"why": "sample {i}", "kind": "{kind}"}}' for i in range(request.n)]

    task = Task(Parity, "Which kind?", samples=3)
    result = await improve(task, ScriptedEngine(generate=say), store, plan=PLAN, rounds=ROUNDS)
    for shard in result.report["rounds"][1]["solved"]:
        kinds = [one["reply"] for one in shard]
        assert sum('"odd"' in kind for kind in kinds) == sum('"even"' in kind for kind in kinds) == 2


async def test_random_labels_and_texts_that_are_all_too_long_are_refused(store):
    engine = ScriptedEngine(generate=learner)
    with pytest.raises(TaskError, match="cannot start with random labels"):
        await improve(TASK, engine, store, plan=PLAN, rounds=Rounds(start="random"))
    with pytest.raises(InputError, match="at most 20 characters"):
        await improve(TASK, engine, store, plan=PLAN, rounds=Rounds(solved=Chooser(longest=20)))


def test_examples_are_part_of_what_annotations_are_kept_under(store):
    identity = ScriptedEngine(generate=learner).identity
    shown = [Prompting(1, solved=((Solved("1 and 2", reply),),)) for reply in ("Answer: 3", "Answer: 4")]
    ids = {prompting.annotation_id(TASK, identity) for prompting in (Prompting(), *shown)}
    assert len(ids) == 3
