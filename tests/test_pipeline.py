"""curator/pipeline.py: the whole way, from files to a dataset version, on a real store."""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Literal

import orjson
import pytest
from pydantic import BaseModel

from curator.annotate import Progress
from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.errors import BudgetExceededError, InputError, RefusalError, TaskError
from curator.pipeline import Plan, copied, curate, describe, taken
from curator.screening import Screening
from curator.selection import SelectionPolicy
from curator.sources import open_source
from curator.store import Audit, Store
from curator.task import Task, classify, solve
from curator.types import DecideRequest, Usage

pytestmark = pytest.mark.anyio

TASK = classify(["bad", "good"], "How is the film?")
WORDS = ("plot", "actor", "scene", "music", "light", "camera", "story", "ending", "pace", "cast", "joke", "score")


def truth(text: str) -> str:
    return "good" if "fine" in text else "bad"


def biased(request: DecideRequest) -> Mapping[str, float]:
    """A model that leans to "good" but knows the difference, more or less surely."""
    wobble = random.Random(request.state).uniform(-0.1, 0.1)
    good = 0.85 + 0.4 * wobble if truth(request.state) == "good" else 0.6 + wobble
    return {"good": min(good, 0.99), "bad": 1 - min(good, 0.99)}


def write(path: Path, rows: int, *, extra: list[dict[str, object]] | None = None) -> Path:
    """Reviews of random words, every other one fine; then rows that are there to be rejected."""
    pick = random.Random(7)
    lines: list[dict[str, object]] = [
        {
            "id": f"d{i}",
            "text": " ".join([*pick.choices(WORDS, k=12), "fine" if i % 2 else "poor"]),
            "year": 1990 + i % 30,
        }
        for i in range(rows)
    ]
    path.write_bytes(b"\n".join(orjson.dumps(line) for line in [*lines, *(extra or [])]))
    return path


@pytest.fixture
def corpus(tmp_path):
    extra: list[dict[str, object]] = [
        {"id": "twin", "text": "same words in the same order here fine"},
        {"id": "twin2", "text": "Same  words in the SAME order here fine"},
        {"id": "short", "text": "fine"},
    ]
    return write(tmp_path / "reviews.jsonl", 200, extra=extra)


PLAN = Plan(screening=Screening(near=None, filters={"length": {"min_chars": 10}}))


async def test_from_a_file_to_typed_rows(tmp_path, corpus):
    store, engine = Store(tmp_path / "s.duckdb"), ScriptedEngine(decide=biased)
    result = await curate(TASK, engine, store, source=open_source(str(corpus)), plan=PLAN)
    assert result.report["screening"] == {
        "documents": 203,
        "kept": 201,
        "rejected": {"duplicate.exact": 1, "length.too_short": 1},
    }
    rows = list(result.rows())
    assert len(rows) == 201
    assert {row.output.label for row in rows} == {"good", "bad"}
    assert sum(row.output.label == truth(row.document.text) for row in rows) > 190
    assert rows[0].document.meta["year"] == 1990
    assert all(0.5 <= row.confidence <= 1 and row.weight == row.confidence for row in rows)
    assert result.report["fields"]["label"]["calibrated"] is False


async def test_running_again_sends_nothing_and_gives_the_same_version(tmp_path, corpus):
    store, engine = Store(tmp_path / "s.duckdb"), ScriptedEngine(decide=biased)
    first = await curate(TASK, engine, store, source=open_source(str(corpus)), plan=PLAN)
    asked = len(engine.requests)
    second = await curate(TASK, engine, store, source=open_source(str(corpus)), plan=PLAN)
    assert len(engine.requests) == asked
    assert second.version == first.version
    assert second.progress.reused == 201


async def test_a_second_store_gives_the_same_bytes(tmp_path, corpus):
    versions = []
    for name, concurrency in (("a", 1), ("b", 64)):
        engine = ScriptedEngine(decide=biased, concurrency=concurrency)
        result = await curate(
            TASK, engine, Store(tmp_path / f"{name}.duckdb"), source=open_source(str(corpus)), plan=PLAN
        )
        versions.append(result.version.hash)
    assert versions[0] == versions[1]


async def test_changing_a_filter_pays_for_new_rows_only(tmp_path, corpus):
    store, engine = Store(tmp_path / "s.duckdb"), ScriptedEngine(decide=biased)
    await curate(TASK, engine, store, source=open_source(str(corpus)), plan=PLAN)
    asked = len(engine.requests)
    looser = Plan(screening=Screening(near=None))
    result = await curate(TASK, engine, store, plan=looser)
    assert len(engine.requests) == asked + 1
    assert result.version.rows == 202
    stricter = Plan(screening=Screening(near=None, filters={"length": {"min_words": 8}}))
    assert (await curate(TASK, engine, store, plan=stricter)).version.rows == 201
    assert len(engine.requests) == asked + 1


async def test_limit_then_all(tmp_path, corpus):
    store, engine = Store(tmp_path / "s.duckdb"), ScriptedEngine(decide=biased)
    some = Plan(screening=PLAN.screening, limit=50)
    assert (await curate(TASK, engine, store, source=open_source(str(corpus)), plan=some)).version.rows == 50
    assert (await curate(TASK, engine, store, plan=PLAN)).version.rows == 201
    assert len(engine.requests) == 201


async def test_failed_rows_are_left_out_and_explained(tmp_path, corpus):
    engine = ScriptedEngine(decide=biased, faults={5: RefusalError("no")}, concurrency=1)
    store = Store(tmp_path / "s.duckdb")
    result = await curate(TASK, engine, store, source=open_source(str(corpus)), plan=PLAN)
    assert result.progress.errors == {"refusal": 1}
    assert result.version.rows == 200
    assert "selection.unanswered" in orjson.dumps(store.why("d5")).decode()


async def test_selection_balances_the_classes(tmp_path):
    path = write(tmp_path / "r.jsonl", 90, extra=[{"id": f"x{i}", "text": f"poor {i} " * 5} for i in range(30)])
    plan = Plan(screening=Screening(near=None), selection=SelectionPolicy(balanced=True, coverage=0.8))
    result = await curate(
        TASK, ScriptedEngine(decide=biased), Store(tmp_path / "s.duckdb"), source=open_source(str(path)), plan=plan
    )
    counts = result.report["selection"]["classes"]
    assert len(set(counts.values())) == 1
    assert "selection.quota" in result.report["selection"]["dropped"]


async def test_a_reference_calibrates(tmp_path, corpus):
    reference = ScriptedEngine(decide=lambda r: truth(r.state), identity=EngineIdentity("scripted", "strong"))
    plan = Plan(screening=PLAN.screening, reference=reference, reference_rows=100)
    result = await curate(
        TASK, ScriptedEngine(decide=biased), Store(tmp_path / "s.duckdb"), source=open_source(str(corpus)), plan=plan
    )
    assert 60 < len(reference.requests) < 140
    assert result.report["fields"]["label"]["basis"] == "reference:scripted:strong"
    assert result.report["fields"]["label"]["calibrated"] is True


async def test_audits_calibrate(tmp_path, corpus):
    store, engine = Store(tmp_path / "s.duckdb"), ScriptedEngine(decide=biased)
    await curate(TASK, engine, store, source=open_source(str(corpus)), plan=PLAN)
    documents = [document for batch in store.documents(kept_by=PLAN.screening.key) for document in batch][:60]
    store.add_audits(TASK.id, [Audit(d.id, "label", truth(d.text), "ann") for d in documents])
    result = await curate(TASK, engine, store, plan=PLAN)
    assert result.report["fields"]["label"]["basis"] == "audited(60)"


class Ticket(BaseModel):
    urgent: bool
    tone: Literal["calm", "loud"]
    year: int | None


async def test_several_fields_each_with_its_own_confidence(tmp_path, corpus):
    task = Task(Ticket, "Read the ticket.").with_views(2)
    engine = ScriptedEngine(
        decide=lambda r: {"urgent": {"yes": 0.7, "no": 0.3}, "tone": {"calm": 0.4, "loud": 0.6}},
        generate=lambda r: ['{"year": 1999}', '{"year": 1999}', '{"year": null}', "what?", '{"year": 1999}'],
    )
    result = await curate(task, engine, Store(tmp_path / "s.duckdb"), source=open_source(str(corpus)), plan=PLAN)
    row = next(result.rows())
    assert row.output.year == 1999
    assert set(row.fields) == {"urgent", "tone", "year"}
    assert row.confidence == min(details["confidence"] for details in row.fields.values())


async def test_solve_votes_and_keeps_the_winning_reasoning(tmp_path, corpus):
    answers = ["bad sum\nAnswer: 3", "one and one\nAnswer: 2", "two\nAnswer: 2.0", "2\nAnswer: 2", "?"] * 2
    engine = ScriptedEngine(generate=lambda r: answers)
    task = solve(Decimal, "Solve.")
    result = await curate(task, engine, Store(tmp_path / "s.duckdb"), source=open_source(str(corpus)), plan=PLAN)
    row = next(result.rows())
    assert row.output.answer == 2
    assert row.output.reasoning.startswith("one and one")


async def test_a_budget_stops_the_run_and_keeps_what_was_paid_for(tmp_path, corpus):
    store = Store(tmp_path / "s.duckdb")
    broke = ScriptedEngine(decide=biased, faults={i: BudgetExceededError("cap") for i in range(30, 999)}, concurrency=1)
    with pytest.raises(BudgetExceededError):
        await curate(TASK, broke, store, source=open_source(str(corpus)), plan=PLAN)
    engine = ScriptedEngine(decide=biased)
    await curate(TASK, engine, store, plan=PLAN)
    assert len(engine.requests) == 201 - 30


async def test_clear_errors(tmp_path, corpus):
    store, engine = Store(tmp_path / "s.duckdb"), ScriptedEngine(decide=biased)
    with pytest.raises(InputError, match="no documents"):
        await curate(TASK, engine, store)
    with pytest.raises(TaskError, match="balance_by names 'tone'"):
        await curate(
            TASK, engine, store, source=open_source(str(corpus)), plan=Plan(screening=PLAN.screening, balance_by="tone")
        )
    strict = Plan(screening=PLAN.screening, selection=SelectionPolicy(min_confidence=1.0))
    with pytest.raises(InputError, match="none of the 201 labelled documents"):
        await curate(TASK, engine, store, plan=strict)


def test_what_was_taken_is_the_difference() -> None:
    counts = Progress(done=5, sent=3, usage=Usage(10, 20, 1, 3), cost=1.5, errors={"refusal": 2})
    before = copied(counts)
    counts.done += 2
    counts.sent += 1
    counts.usage = counts.usage + Usage(1, 2, 0, 1)
    counts.cost += 0.25
    counts.fail("refusal")
    found = taken(counts, before)
    assert (found.done, found.sent, found.cost, found.errors, found.failed) == (2, 1, 0.25, {"refusal": 1}, 1)
    assert found.usage == Usage(1, 2, 0, 1)
    assert before.errors == {"refusal": 2}


def test_a_turns_report_is_what_it_added() -> None:
    counts = Progress(sent=3, unpriced=3, errors={"timeout": 1})
    before = copied(counts)
    counts.sent, counts.cost = 5, 0.5
    counts.fail("x")
    found = describe(taken(counts, before))
    assert (found["sent"], found["cost"], found["errors"]) == (2, 0.5, {"x": 1})
