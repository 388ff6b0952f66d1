"""curator/annotate.py: every document is asked once, every failure is a record, nothing is sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from curator.annotate import Progress, annotate
from curator.engines.scripted import ScriptedEngine
from curator.errors import (
    AuthenticationError,
    BudgetExceededError,
    ContextLengthError,
    InputError,
    InvalidOutputError,
    RefusalError,
    RequestRejectedError,
    ServerError,
)
from curator.records import AnnotationRecord, CompletionRecord
from curator.requests import SAMPLES_VIEW, Prompting
from curator.task import Task, classify, solve
from curator.types import DecideRequest, Decisions, Document

pytestmark = pytest.mark.anyio

TASK = classify(["bad", "good"], "How is the film?")


class MemoryLedger:
    """A ledger that keeps its records in lists."""

    def __init__(self) -> None:
        self.completions: dict[str, CompletionRecord] = {}
        self.annotations: list[AnnotationRecord] = []
        self.doubles = 0

    def known(self, keys: Sequence[str]) -> dict[str, str | None]:
        return {key: self.completions[key].error for key in keys if key in self.completions}

    def append(self, *records: CompletionRecord | AnnotationRecord) -> None:
        for record in records:
            if isinstance(record, AnnotationRecord):
                self.annotations.append(record)
            else:
                self.doubles += record.key in self.completions
                self.completions[record.key] = record


def documents(count: int, size: int = 7) -> list[list[Document]]:
    rows = [Document(f"d{i}", f"film number {i}") for i in range(count)]
    return [rows[i : i + size] for i in range(0, count, size)]


def good(request: DecideRequest) -> str:
    return "good"


async def test_every_document_is_answered_and_a_second_run_sends_nothing():
    ledger, engine = MemoryLedger(), ScriptedEngine(decide=good)
    first = await annotate(documents(50), TASK, engine, ledger)
    assert (first.done, first.sent, first.failed) == (50, 50, 0)
    assert sorted(record.document_id for record in ledger.annotations) == sorted(f"d{i}" for i in range(50))
    second = await annotate(documents(60), TASK, engine, ledger)
    assert (second.done, second.sent, second.reused) == (60, 10, 50)
    assert len(engine.requests) == 60


async def test_the_tiers_of_a_cascade_are_counted_per_question():
    class Routed(ScriptedEngine):
        async def decide(self, request: DecideRequest) -> Decisions:
            found = await super().decide(request)
            tier = "small" if request.state.endswith(("1", "2")) else "large"
            return replace(found, answers=tuple(one and replace(one, served_by=tier) for one in found.answers))

    progress = await annotate(documents(5), TASK, Routed(decide=lambda _: "good"), MemoryLedger())
    assert progress.tiers == {"large": 3, "small": 2}


async def test_equal_texts_are_sent_once():
    rows = [[Document(f"d{i}", "the same") for i in range(20)], [Document("late", "the same")]]
    ledger, engine = MemoryLedger(), ScriptedEngine(decide=good, latency=0.01)
    progress = await annotate(rows, TASK, engine, ledger)
    assert len(engine.requests) == 1
    assert len(ledger.annotations) == 21
    assert progress.done == 21


async def test_views_and_samples_are_separate_requests():
    class Both(BaseModel):
        tone: Literal["calm", "loud"]
        year: int

    task = Task(Both, "").with_views(3)
    ledger = MemoryLedger()
    engine = ScriptedEngine(decide=lambda request: "calm", generate=['{"year": 1999}'] * 2)
    await annotate([[Document("a", "x"), Document("b", "y")]], task, engine, ledger)
    assert sorted((record.document_id, record.view) for record in ledger.annotations) == [
        (name, view) for name in "ab" for view in (SAMPLES_VIEW, 0, 1, 2)
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RefusalError("no"), "refusal"),
        (InvalidOutputError("?"), "invalid_output"),
        (RequestRejectedError("400"), "rejected"),
    ],
)
async def test_a_bad_row_is_a_record_and_is_not_sent_again(error, code):
    ledger = MemoryLedger()
    engine = ScriptedEngine(decide=good, faults={3: error})
    progress = await annotate(documents(10), TASK, engine, ledger)
    assert (progress.done, progress.failed, progress.errors) == (10, 1, {code: 1})
    assert [record.error for record in ledger.annotations].count(code) == 1
    again = await annotate(documents(10), TASK, engine, ledger)
    assert (again.sent, again.failed) == (0, 1)


async def test_a_passing_fault_is_tried_again_by_the_next_run():
    ledger = MemoryLedger()
    engine = ScriptedEngine(decide=good, faults={3: ServerError("503")})
    progress = await annotate(documents(10), TASK, engine, ledger)
    assert progress.errors == {"unavailable": 1}
    again = await annotate(documents(10), TASK, engine, ledger)
    assert (again.sent, again.failed) == (1, 0)


@pytest.mark.parametrize("error", [AuthenticationError("401"), BudgetExceededError("cap")])
async def test_what_would_fail_every_row_stops_the_run_and_keeps_the_rest(error):
    ledger = MemoryLedger()
    engine = ScriptedEngine(decide=good, faults=dict.fromkeys(range(20, 1000), error), concurrency=4)
    with pytest.raises(type(error)):
        await annotate(documents(500), TASK, engine, ledger)
    assert len(ledger.completions) == 20
    assert len(engine.requests) < 40


async def test_a_dead_server_stops_the_run():
    engine = ScriptedEngine(decide=good, faults={i: ServerError("down") for i in range(10_000)}, concurrency=4)
    with pytest.raises(ServerError):
        await annotate(documents(5000), TASK, engine, MemoryLedger())
    assert len(engine.requests) < 200


async def test_when_not_one_answer_comes_the_error_is_told():
    engine = ScriptedEngine(decide=good, faults={i: ServerError("connection refused") for i in range(99)})
    with pytest.raises(ServerError, match="connection refused"):
        await annotate(documents(5), TASK, engine, MemoryLedger())


class SmallContext(ScriptedEngine):
    """Reads at most 100 characters; `tells` whether its error says how many."""

    tells = True

    async def decide(self, request):
        if len(request.state) > 100:
            limit, needed = (100, len(request.state)) if self.tells else (0, 0)
            raise ContextLengthError("too long", limit=limit, needed=needed)
        return await super().decide(request)


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("policy", ["keep_start", "keep_ends"])
async def test_a_long_text_is_cut_to_fit_and_marked(tells, policy):
    ledger, engine = MemoryLedger(), SmallContext(decide=good)
    engine.tells = tells
    rows = [[Document("long", "a" * 500 + "z" * 500), Document("short", "b"), Document("twin", "a" * 500 + "z" * 500)]]
    progress = await annotate(rows, TASK, engine, ledger, prompting=Prompting(long_text=policy))
    assert (progress.failed, progress.truncated) == (0, 2)
    assert {record.document_id: record.truncated for record in ledger.annotations} == {
        "long": True,
        "short": False,
        "twin": True,
    }
    cut = next(request.state for request in engine.requests if request.state != "b")
    assert 40 <= len(cut) <= 100
    assert cut.endswith("z") == (policy == "keep_ends")
    again = await annotate(rows, TASK, engine, ledger, prompting=Prompting(long_text=policy))
    assert (again.sent, again.reused, again.truncated) == (0, 3, 2)
    assert ledger.doubles == 0


async def test_a_long_text_is_skipped_with_a_reason_where_asked():
    ledger, engine = MemoryLedger(), SmallContext(decide=good)
    rows = [[Document("long", "a" * 1000), Document("short", "b")]]
    progress = await annotate(rows, TASK, engine, ledger, prompting=Prompting(long_text="skip"))
    assert progress.errors == {"context_length": 1}
    assert (await annotate(rows, TASK, engine, ledger, prompting=Prompting(long_text="skip"))).sent == 0
    # Another policy asks again, and only for what the policy changes.
    assert (await annotate(rows, TASK, engine, ledger, prompting=Prompting(long_text="keep_start"))).sent == 1


async def test_an_engine_that_cannot_do_what_the_task_needs():
    with pytest.raises(InputError, match="cannot generate, which the fields reasoning, answer need"):
        await annotate(documents(1), solve(Decimal, ""), ScriptedEngine(decide=good), MemoryLedger())


async def test_a_cancelled_run_keeps_what_was_answered():
    ledger, engine = MemoryLedger(), ScriptedEngine(decide=good, latency=0.01, concurrency=2)
    run = asyncio.create_task(annotate(documents(1000), TASK, engine, ledger))
    await asyncio.sleep(0.1)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert 0 < len(ledger.completions) < 1000
    assert len(ledger.annotations) == len(ledger.completions)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 8), st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_batch_size_and_concurrency_change_nothing(size, other, concurrency, wider):
    async def run(ledger, size, concurrency):
        engine = ScriptedEngine(decide=good, concurrency=concurrency)
        return await annotate(documents(20, size), TASK, engine, ledger, progress=Progress())

    ledger = MemoryLedger()
    assert asyncio.run(run(ledger, size, concurrency)).sent == 20
    assert asyncio.run(run(ledger, other, wider)).sent == 0
