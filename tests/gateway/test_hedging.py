"""A second attempt where the first is slow: who is served, what is counted, how often."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import VIRTUAL, now

from cascade.gateway.hedging import HedgeEngine, HedgeSettings, Latencies
from cascade.gateway.replicas import Replicas
from curator.engines.base import EngineIdentity
from curator.engines.metering import MeteredEngine
from curator.engines.scripted import ScriptedEngine
from curator.engines.tries import noted
from curator.engines.wrapper import WrapperEngine
from curator.errors import ConfigError, RequestRejectedError, ServerError
from curator.types import GenerateRequest, Message

pytestmark = pytest.mark.anyio
CHAT = GenerateRequest((Message("user", "How many are there?"),))
ALWAYS = HedgeSettings(share=1.0, delay=1.0)


@pytest.fixture
def anyio_backend():
    return VIRTUAL


class Slow(WrapperEngine):
    """Takes as long as the next of `seconds` says, then the last one's time; fails with `fault`, if there is one."""

    def __init__(self, name, *seconds, fault=None):
        identity = EngineIdentity("scripted", "m", name)
        super().__init__(ScriptedEngine(generate=lambda request: name, identity=identity))
        self.seconds, self.fault, self.cancelled = list(seconds), fault, 0

    async def around(self, call, request):
        try:
            await asyncio.sleep(self.seconds.pop(0) if len(self.seconds) > 1 else self.seconds[0])
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fault is not None:
            raise self.fault
        return await call(request)


class First(random.Random):
    """A coin that draws in order, so that the first replica is asked first."""

    def sample(self, population, k):
        return list(population)[:k]


def hedged(*engines, settings=ALWAYS):
    tier = Replicas({engine.identity.endpoint: engine for engine in engines}, clock=now, coin=First())
    return HedgeEngine(tier, settings, now)


def texts(tries):
    return [(tried.engine, tried.error, tried.latency) for tried in tries]


async def test_a_quick_answer_is_not_hedged():
    quick, other = Slow("a", 0.9), Slow("b", 0)
    engine = hedged(quick, other)
    with noted() as tries:
        result = await engine.generate(CHAT)
    assert (result.samples[0].text, result.usage.calls, tries, engine.hedged) == ("a", 1, [], 0)


async def test_the_faster_one_is_served_and_the_slower_one_stopped_counted_and_noted():
    slow, other = Slow("a", 9), Slow("b", 2)
    engine = hedged(slow, other)
    with noted() as tries:
        result = await engine.generate(CHAT)
    assert (result.samples[0].text, now()) == ("b", 3)
    assert (slow.cancelled, result.usage.calls, engine.hedged) == (1, 2, 1)
    assert texts(tries) == [("a", "overtaken", 3)]
    assert all(health.in_flight == 0 for health in engine.inner.health)


async def test_both_are_billed_each_for_its_purpose():
    told = []

    class Heard:
        def add(self, exchange):
            told.append((exchange.purpose, exchange.error, exchange.usage))

        def close(self):
            pass

    class Counting:
        def open(self, request, purpose):
            return Heard()

    slow, other = (MeteredEngine(Slow(name, seconds), Counting()) for name, seconds in (("a", 9), ("b", 2)))
    result = await hedged(slow, other).generate(CHAT)
    assert sorted(told, key=str) == [("hedge", "", replace(result.usage, calls=1)), ("request", "CancelledError", None)]


async def test_the_first_may_still_win():
    engine = hedged(Slow("a", 2), Slow("b", 5))
    with noted() as tries:
        result = await engine.generate(CHAT)
    assert (result.samples[0].text, now()) == ("a", 2)
    assert texts(tries) == [("b", "overtaken", 1)]


async def test_of_two_answers_at_once_one_is_served_and_the_others_tokens_are_known():
    engine = hedged(Slow("a", 3), Slow("b", 2))
    with noted() as tries:
        result = await engine.generate(CHAT)
    (tried,) = tries
    assert result.usage.calls == 2
    assert {result.samples[0].text, tried.engine} == {"a", "b"}
    if tried.usage.input_tokens:
        assert (tried.usage.input_tokens, tried.usage.calls) == (4, 0)


async def test_a_failure_is_forgotten_if_the_other_answers():
    engine = hedged(Slow("a", 4), Slow("b", 2, fault=ServerError("500")))
    with noted() as tries:
        result = await engine.generate(CHAT)
    assert (result.samples[0].text, now(), result.usage.calls) == ("a", 4, 2)
    assert texts(tries)[0][:2] == ("b", "ServerError")


async def test_where_both_fail_the_first_failure_is_raised():
    wrong = RequestRejectedError("400")
    engine = hedged(Slow("a", 2, fault=wrong), Slow("b", 9, fault=ServerError("500")))
    with noted() as tries, pytest.raises(RequestRejectedError):
        await engine.generate(CHAT)
    assert [tried.engine for tried in tries] == ["b"]


async def test_without_another_replica_nothing_is_sent_twice():
    alone = Slow("a", 5)
    engine = hedged(alone)
    with noted() as tries:
        result = await engine.generate(CHAT)
    assert (result.usage.calls, tries, engine.hedged, alone.cancelled) == (1, [], 0, 0)


async def test_a_caller_that_leaves_stops_both():
    one, other = Slow("a", 9), Slow("b", 9)
    task = asyncio.create_task(hedged(one, other).generate(CHAT))
    await asyncio.sleep(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (one.cancelled, other.cancelled) == (1, 1)


async def test_at_most_the_set_share_is_hedged():
    engine = hedged(Slow("a", 5), Slow("b", 5), settings=HedgeSettings(share=0.1, delay=1))
    for _ in range(100):
        await engine.generate(CHAT)
    assert (engine.hedged, engine.requests) == (10, 100)


async def test_the_delay_is_the_quantile_of_recent_latencies():
    waits = [1.0] * 95 + [2.0] * 5
    engine = hedged(
        Slow("a", *waits, 50.0), Slow("b", 50.0), settings=HedgeSettings(share=1.0, quantile=0.9, window=100, least=100)
    )
    for _ in waits:
        await engine.generate(CHAT)
    assert engine.hedged == 0
    began = now()
    with noted() as tries:
        await engine.generate(CHAT)
    assert engine.hedged == 1
    assert now() - began == 50
    assert texts(tries) == [("b", "overtaken", 49)]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60), st.integers(1, 20), st.floats(0.01, 0.99))
def test_quantiles_are_of_the_last_latencies(values, window, share):
    latencies = Latencies(window)
    for value in values:
        latencies.add(value)
    kept = values[-window:]
    found = latencies.quantile(share)
    assert len(latencies) == len(kept)
    assert found in kept
    assert sum(value <= found for value in kept) >= share * len(kept)
    assert sum(value < found for value in kept) <= share * len(kept)


def test_settings_that_make_no_sense_are_refused():
    for wrong in ({"share": 0}, {"quantile": 1}, {"least": 600}, {"delay": -1}):
        with pytest.raises(ConfigError):
            HedgeSettings(**wrong)
