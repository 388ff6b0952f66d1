"""Who notes calls that gave no answer, and who hears of them."""

from __future__ import annotations

import asyncio

import pytest

from curator.engines.tries import Try, failed_try, note, noted, overheard, was_sent
from curator.errors import (
    BudgetExceededError,
    CircuitOpenError,
    DeadlineError,
    EngineTimeoutError,
    OverloadedError,
    ServerError,
)


def test_nobody_listens_by_default():
    note(Try("a", "ServerError", 1.0))
    with noted() as tries:
        pass
    assert tries == []


@pytest.mark.anyio
async def test_tasks_are_heard_and_requests_do_not_hear_each_other():
    async def request(name):
        with noted() as tries:
            await asyncio.gather(*(asyncio.create_task(call(f"{name}{number}")) for number in range(3)))
        return [tried.engine for tried in tries]

    async def call(name):
        await asyncio.sleep(0)
        note(Try(name, "ServerError", 1.0))

    assert await asyncio.gather(request("a"), request("b")) == [["a0", "a1", "a2"], ["b0", "b1", "b2"]]


def test_what_is_overheard_is_heard_outside_too_also_after_a_failure():
    inside = []

    def fail():
        with overheard() as tries:
            inside.append(tries)
            note(Try("a", "ServerError", 1.0))
            raise ServerError("500")

    with noted() as outside:
        with pytest.raises(ServerError):
            fail()
        note(Try("b", "ServerError", 1.0))
    assert [tried.engine for tried in inside[0]] == ["a"]
    assert [tried.engine for tried in outside] == ["a", "b"]


def test_a_stopped_call_was_overtaken():
    assert failed_try("a", asyncio.CancelledError(), 2.0) == Try("a", "overtaken", 2.0)
    assert failed_try("a", ServerError("500"), 2.0) == Try("a", "ServerError", 2.0)


@pytest.mark.parametrize(
    ("error", "sent"),
    [
        (ServerError("500"), True),
        (EngineTimeoutError("late"), True),
        (DeadlineError("late", sent=True), True),
        (DeadlineError("no time", sent=False), False),
        (CircuitOpenError("open", retry_after=1), False),
        (OverloadedError("full", retry_after=1), False),
        (BudgetExceededError("spent"), False),
    ],
)
def test_some_failures_come_before_anything_is_sent(error, sent):
    assert was_sent(error) is sent
