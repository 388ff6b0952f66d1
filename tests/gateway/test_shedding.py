"""Admission: places, the queue, and the no."""

from __future__ import annotations

import asyncio

import pytest
from virtual_time import VIRTUAL, now

from cascade.gateway.shedding import Admission, AdmissionSettings
from curator.engines.deadline import deadline
from curator.errors import ConfigError, OverloadedError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return VIRTUAL


def doors(in_flight=2, queue=3, wait=10.0):
    return Admission(AdmissionSettings(in_flight, queue, wait))


async def work(admission, seconds, log=None, name=None):
    async with admission:
        if log is not None:
            log.append((name, now()))
        await asyncio.sleep(seconds)


async def outcomes(*tasks):
    return [type(found).__name__ if found else "done" for found in await asyncio.gather(*tasks, return_exceptions=True)]


async def test_places_then_the_queue_in_order_then_no():
    admission, log = doors(), []
    found = await outcomes(*(work(admission, 1, log, number) for number in range(7)))
    assert found == ["done"] * 5 + ["OverloadedError"] * 2
    assert log == [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2)]
    assert (admission.in_flight, admission.waiting, admission.shed) == (0, 0, 2)


async def test_nobody_waits_longer_than_the_limit_or_the_requests_deadline():
    admission = doors(in_flight=1, wait=3)
    busy = asyncio.create_task(work(admission, 60))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="within 3 s"):
        await work(admission, 1)
    assert now() == 3
    with deadline(1), pytest.raises(OverloadedError):
        await work(admission, 1)
    assert now() == 4
    assert (admission.in_flight, admission.waiting) == (1, 0)
    await busy
    await work(admission, 1)


async def test_who_leaves_the_queue_makes_room():
    admission, log = doors(in_flight=1, queue=2), []
    tasks = [asyncio.create_task(work(admission, 1, log, number)) for number in range(3)]
    await asyncio.sleep(0.5)
    tasks[1].cancel()
    tasks.append(asyncio.create_task(work(admission, 1, log, 3)))
    assert await outcomes(*tasks) == ["done", "CancelledError", "done", "done"]
    assert [name for name, _ in log] == [0, 2, 3]
    assert admission.in_flight == 0


@pytest.mark.parametrize("order", ["leaves_first", "freed_first"])
async def test_a_place_given_to_someone_who_leaves_at_that_moment_is_not_lost(order):
    admission = doors(in_flight=1)
    await admission.__aenter__()
    leaving = asyncio.create_task(work(admission, 1))
    staying = asyncio.create_task(work(admission, 1))
    await asyncio.sleep(0)
    if order == "leaves_first":
        leaving.cancel()
    await admission.__aexit__(None, None, None)
    leaving.cancel()
    assert await outcomes(leaving, staying) == ["CancelledError", "done"]
    assert (admission.in_flight, admission.waiting) == (0, 0)


async def test_a_failed_request_gives_its_place_back():
    admission = doors(in_flight=1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with admission:
                raise ZeroDivisionError
    assert admission.in_flight == 0


async def test_the_wait_that_is_advised_grows_with_the_queue_and_the_time_that_requests_take():
    async def advised(seconds, queue):
        admission = doors(in_flight=1, queue=queue, wait=1e6)
        tasks = [asyncio.create_task(work(admission, seconds)) for _ in range(40)]
        await asyncio.gather(*tasks, return_exceptions=True)
        held = [asyncio.create_task(work(admission, seconds)) for _ in range(1 + queue)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as refused:
            await work(admission, seconds)
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        assert refused.value.retryable
        return refused.value.retry_after

    quick, slow = await advised(0.01, 20), await advised(2, 20)
    assert (quick, slow) == (1.0, pytest.approx(37, abs=5))
    assert await advised(2, 39) == 60


async def test_a_thousand_at_once_all_get_their_turn_or_a_no():
    admission = doors(in_flight=7, queue=100, wait=8)
    found = await outcomes(*(work(admission, 1 + number % 3) for number in range(1000)))
    assert found.count("done") + found.count("OverloadedError") == 1000
    assert 7 <= found.count("done") <= 107
    assert (admission.in_flight, admission.waiting) == (0, 0)


def test_settings_that_make_no_sense_are_refused():
    for wrong in ({"in_flight": 0}, {"queue": -1}, {"wait": -1}):
        with pytest.raises(ConfigError):
            AdmissionSettings(**wrong)
