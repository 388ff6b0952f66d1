"""curator/methods/refinement_cost.py: what is told before a run is what the run takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.errors import TaskError
from curator.methods.refinement import Refining, refine
from curator.methods.refinement_cost import forecast_refinement
from curator.pipeline import Plan
from curator.screening import Screening
from curator.store import Store
from curator.task import classify, respond
from curator.types import Document

pytestmark = pytest.mark.anyio

TASK = respond("Reply.", max_tokens=50)
PLAN = Plan(screening=Screening(exact=False, near=None))
DOCUMENTS = {f"d{i}": Document(f"d{i}", f"text {i}", {"reply": "short"}) for i in range(10)}


def engine(name: str) -> ScriptedEngine:
    return ScriptedEngine(generate=lambda request: f"{name} says so", identity=EngineIdentity("scripted", name))


async def test_before_anything_is_known_answers_are_as_long_as_they_may_be() -> None:
    steps = forecast_refinement(TASK, Refining(engine("strong"), engine("weak")), None, DOCUMENTS, PLAN)
    assert [(step.name, step.engine.model, step.calls) for step in steps] == [
        ("weak", "weak", 10), ("base", "strong", 10), ("icl", "strong", 10), ("concepts", "strong", 2),
        ("infer", "strong", 10), ("improve", "strong", 10),
    ]  # fmt: skip
    found = {step.name: step for step in steps}
    assert found["base"].output_tokens == 500
    assert found["concepts"].output_tokens == 200
    # Four others of a batch, fifty tokens each at most.
    assert found["icl"].input_tokens >= 10 * 4 * 50
    assert found["improve"].input_tokens >= found["base"].input_tokens + 10 * 50


async def test_what_a_run_left_is_told_and_then_nothing_is(tmp_path: Path) -> None:
    store, whole = Store(tmp_path / "store.duckdb"), Refining(engine("strong"), engine("weak"))
    with store.run("test", {}) as run:
        store.add_documents([list(DOCUMENTS.values())], source="test", run_id=run.id)
    part = replace(whole, methods=("improve",))
    await refine(TASK, store, part, plan=PLAN)
    steps = forecast_refinement(TASK, whole, store, DOCUMENTS, PLAN)
    assert {step.name: (step.answered, step.calls) for step in steps} == {
        "weak": (10, 0), "base": (10, 0), "icl": (0, 10), "concepts": (0, 2), "infer": (0, 10), "improve": (10, 0),
    }  # fmt: skip
    taken = await refine(TASK, store, whole, plan=PLAN)
    assert taken.progress.sent == sum(step.calls for step in steps)
    assert sum(step.calls for step in forecast_refinement(TASK, whole, store, DOCUMENTS, PLAN)) == 0


async def test_a_column_has_no_step_of_its_own() -> None:
    found = forecast_refinement(TASK, Refining(engine("strong"), column="reply"), None, DOCUMENTS, PLAN)
    assert [step.name for step in found] == ["base", "icl", "concepts", "infer", "improve"]
    with pytest.raises(TaskError, match="respond"):
        forecast_refinement(classify(["a", "b"], "?"), Refining(engine("s"), column="reply"), None, DOCUMENTS, PLAN)
