"""A request's time limit, for attempts and for the waits between them."""

from __future__ import annotations

import asyncio
import math

import pytest
from virtual_time import VIRTUAL, now

from curator.engines.deadline import DeadlineEngine, deadline, time_left
from curator.engines.scripted import ScriptedEngine
from curator.engines.tries import noted
from curator.engines.wrappers import RetryEngine, RetryPolicy
from curator.errors import (
    ConfigError,
    DeadlineError,
    EngineTimeoutError,
    RateLimitError,
    RetryableEngineError,
    ServerError,
)
from curator.types import DecideRequest, Option, Question

pytestmark = pytest.mark.anyio
ROW = DecideRequest("fine", (Question("mood", "choice", "Mood?", (Option("good"), Option("bad"))),))


@pytest.fixture
def anyio_backend():
    return VIRTUAL


def scripted(**settings):
    return ScriptedEngine(decide=lambda request: "good", **settings)


async def test_there_is_no_limit_until_somebody_sets_one_and_it_is_never_extended():
    assert time_left() == math.inf
    with deadline(10):
        await asyncio.sleep(4)
        assert time_left() == 6
        with deadline(60):
            assert time_left() == 6
        with deadline(2):
            assert time_left() == 2
        assert await asyncio.create_task(left_in_a_task()) == 6
    assert time_left() == math.inf


async def left_in_a_task():
    return time_left()


async def test_an_attempt_ends_after_its_own_timeout_and_may_be_tried_again():
    engine = DeadlineEngine(scripted(latency=9), timeout=3)
    with pytest.raises(EngineTimeoutError, match="within 3 s") as late:
        await engine.decide(ROW)
    assert (now(), late.value.retryable, type(late.value)) == (3, True, EngineTimeoutError)


async def test_an_attempt_ends_with_the_request_and_is_not_tried_again():
    engine = RetryEngine(DeadlineEngine(scripted(latency=9), timeout=30), RetryPolicy(base=0))
    with deadline(2), pytest.raises(DeadlineError, match="2 s that were left") as late:
        await engine.decide(ROW)
    assert (now(), late.value.retryable, late.value.sent) == (2, False, True)


async def test_a_request_without_time_is_not_sent():
    inner = scripted()
    with deadline(0), pytest.raises(DeadlineError) as late:
        await DeadlineEngine(inner, timeout=30).decide(ROW)
    assert not inner.requests
    assert not late.value.sent


async def test_an_answer_in_time_is_passed_on_and_a_caller_that_leaves_is_no_timeout():
    inner = scripted(latency=1)
    engine = DeadlineEngine(inner, timeout=3)
    assert (await engine.decide(ROW)).answers[0].top == 0
    task = asyncio.create_task(engine.decide(ROW))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("fault", [RateLimitError("slow", retry_after=4), ServerError("500", retry_after=4)])
async def test_retries_never_wait_past_the_deadline(fault):
    inner = scripted(faults=[fault])
    engine = RetryEngine(inner, RetryPolicy(base=0, cap=0))
    with deadline(3), pytest.raises(RetryableEngineError):
        await engine.decide(ROW)
    assert (now(), len(inner.requests)) == (0, 1)
    with deadline(5):
        await engine.decide(ROW)


async def test_retry_after_is_waited_for_and_every_failed_attempt_is_noted():
    inner = scripted(faults=[RateLimitError("slow", retry_after=4), ServerError("500")], latency=1)
    engine = RetryEngine(inner, RetryPolicy(base=0, cap=0))
    with deadline(60), noted() as tries:
        result = await engine.decide(ROW)
    assert (now(), result.usage.calls) == (7, 3)
    assert [(tried.engine, tried.error, tried.latency) for tried in tries] == [
        ("scripted:scripted", "RateLimitError", 1),
        ("scripted:scripted", "ServerError", 1),
    ]


async def test_a_timeout_must_be_positive():
    with pytest.raises(ConfigError):
        DeadlineEngine(scripted(), timeout=0)
