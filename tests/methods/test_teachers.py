"""Teachers out of answers: distributions from whatever an answer has, an engine's stored answers, a version's rows."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.errors import InputError
from curator.evaluation.answers import Answer
from curator.methods.teachers import engine_answers, right_options, teacher, trained_on
from curator.parsing import MISSING
from curator.pipeline import Plan, curate
from curator.screening import Screening
from curator.selection import SelectionPolicy
from curator.sources import open_source
from curator.store import Store
from curator.task import Task, classify
from curator.types import Json

TASK = classify(["bad", "good", "odd"], "How is it?")
(FIELD,) = TASK.closed


def test_an_answer_gives_what_it_has():
    answers = {
        "soft": Answer("good", 0.9, "batch", (0.1, 0.7, 0.2)),
        "sure": Answer("good", 0.8, "batch"),
        "hard": Answer("odd", None, "batch"),
        "audited": Answer("bad", 1.0, "batch", (0.1, 0.7, 0.2)),
        "none": Answer(MISSING),
        "meek": Answer("bad", 0.1, "batch"),
    }
    found = teacher("t", answers, [*answers, "absent"], FIELD)
    rows = dict(zip([*answers, "absent"], found.probabilities, strict=True))
    assert rows["soft"] == pytest.approx([0.1, 0.7, 0.2])
    assert rows["sure"] == pytest.approx([0.1, 0.8, 0.1])
    assert rows["hard"].tolist() == [0, 0, 1]
    # Somebody overruled the model: the label counts.
    assert rows["audited"].tolist() == [1, 0, 0]
    assert rows["meek"] == pytest.approx([1 / 3] * 3)
    assert np.isnan(rows["none"]).all()
    assert np.isnan(rows["absent"]).all()
    assert found.basis == "batch"
    with pytest.raises(InputError, match="t answers none of the documents") as raised:
        teacher("t", answers, ["elsewhere"], FIELD)
    assert "'elsewhere'" in raised.value.hint


def test_a_yes_is_not_a_one():
    from pydantic import BaseModel

    class Liked(BaseModel):
        liked: bool

    (field,) = Task(Liked, "Liked?").closed
    values: dict[str, Json] = {"a": True, "b": False}
    assert right_options(values, ["b", "x", "a"], field).tolist() == [1, -1, 0]
    assert teacher("t", {"a": Answer(True), "b": Answer(False)}, ["a", "b"], field).classes().tolist() == [0, 1]


@pytest.mark.anyio
async def test_the_store_knows_who_answered_and_what_a_version_holds(tmp_path):
    corpus = tmp_path / "corpus.csv"
    corpus.write_text("id,text\n" + "".join(f"d{i},text {i} {'fine' if i % 2 else 'poor'}\n" for i in range(40)))
    store = Store(tmp_path / "store.duckdb")
    engine = ScriptedEngine(decide=lambda asked: {"good": 0.8 if "fine" in asked.state else 0.1})
    plan = Plan(screening=Screening(near=None), selection=SelectionPolicy(coverage=0.5))
    made = await curate(TASK, engine, store, source=open_source(str(corpus)), plan=plan)
    found = engine_answers(store, TASK, engine.identity, FIELD)
    assert len(found) == 40
    one = teacher("t", found, sorted(found), FIELD, trained_on(store, made.version.version))
    assert one.probabilities.sum(axis=1) == pytest.approx(np.ones(40))
    assert len(one.seen) == made.version.rows == 20
    with pytest.raises(InputError, match="has answered nothing of this task") as raised:
        engine_answers(store, TASK, EngineIdentity("scripted", "other"), FIELD)
    assert str(engine.identity) in raised.value.hint
    with pytest.raises(InputError, match="there is no dataset version 7"):
        trained_on(store, 7)
