"""Micro-batches: what waits together runs together, a failure stays in its batch, and the worker lives on."""

from __future__ import annotations

import asyncio

import pytest

from curator.engines.batching import Batcher, Worker
from curator.errors import EngineError, InputError

pytestmark = pytest.mark.anyio


@pytest.fixture
async def worker():
    worker = Worker("test:worker")
    yield worker
    await worker.aclose()


def pairs(items):
    return range(min(2, len(items)))


async def test_answers_come_in_order_and_in_batches(worker):
    seen = []

    def work(items):
        seen.append(list(items))
        return [item * 10 for item in items]

    batcher = Batcher(worker, pairs, work)
    assert await asyncio.gather(*(batcher.ask(number) for number in range(5))) == [0, 10, 20, 30, 40]
    assert seen == [[0, 1], [2, 3], [4]]
    assert await batcher.ask(7) == 70


async def test_a_failure_stays_in_its_batch(worker):
    def work(items):
        return [1 // (2 - item) for item in items]

    batcher = Batcher(worker, pairs, work)
    found = await asyncio.gather(*(batcher.ask(number) for number in range(6)), return_exceptions=True)
    assert [isinstance(item, EngineError) for item in found] == [False, False, True, True, False, False]
    assert "test:worker failed: ZeroDivisionError" in str(found[2])


async def test_our_own_errors_pass_as_they_are(worker):
    def work(items):
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        await Batcher(worker, pairs, work).ask(1)


async def test_cancelling_fails_what_waits(worker):
    batcher = Batcher(worker, pairs, list)
    waiting = [asyncio.create_task(batcher.ask(number)) for number in range(3)]
    await asyncio.sleep(0)
    batcher.cancel()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(item, asyncio.CancelledError) for item in found)
