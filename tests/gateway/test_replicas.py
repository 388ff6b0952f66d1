"""Several upstreams as one engine."""

from __future__ import annotations

import asyncio
import random

import pytest
from virtual_time import VIRTUAL, now

from cascade.gateway.breaker import BreakerSettings, BreakerState
from cascade.gateway.replicas import Replicas
from curator.engines.base import Engine, EngineIdentity
from curator.engines.deadline import deadline
from curator.engines.scripted import ScriptedEngine
from curator.engines.tries import noted
from curator.errors import (
    AuthenticationError,
    CircuitOpenError,
    ConfigError,
    EngineTimeoutError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
)
from curator.types import DecideRequest, GenerateRequest, Message, Option, Question

pytestmark = pytest.mark.anyio
ROW = DecideRequest("fine", (Question("mood", "choice", "Mood?", (Option("good"), Option("bad"))),))
CHAT = GenerateRequest((Message("user", "How many?"),))


@pytest.fixture
def anyio_backend():
    return VIRTUAL


def scripted(name, model="m", **settings):
    identity = EngineIdentity("scripted", model, endpoint=name)
    return ScriptedEngine(decide=lambda request: "good", generate=lambda request: name, identity=identity, **settings)


def broken(name, fault, times=10**6):
    engine = scripted(name)
    engine._faults = [fault] * min(times, 1000)
    return engine


def replicas(*engines, seed=1, **settings):
    named = {engine.identity.endpoint: engine for engine in engines}
    return Replicas(named, clock=now, coin=random.Random(seed), **settings)


async def test_it_is_an_engine_known_by_the_first_ones_identity_or_the_declared_one():
    one, other = (
        scripted("a", concurrency=3),
        ScriptedEngine(decide={}, identity=EngineIdentity("x", "m"), concurrency=4),
    )
    tier = replicas(one, other)
    assert isinstance(tier, Engine)
    assert tier.identity == one.identity
    assert (tier.capabilities, tier.concurrency) == (frozenset({"decide"}), 7)
    declared = EngineIdentity("http", "m", "http://tier")
    assert replicas(one, identity=declared).identity == declared
    assert await tier.preview(ROW) == await one.preview(ROW)
    await tier.aclose()
    assert one.closed
    assert other.closed


async def test_replicas_of_different_models_are_refused_and_so_is_none():
    with pytest.raises(ConfigError, match="a serves m, b serves other"):
        replicas(scripted("a"), scripted("b", model="other"))
    weights = [ScriptedEngine(decide={}, identity=EngineIdentity("x", "m", revision=mark)) for mark in ("1", "2", "")]
    with pytest.raises(ConfigError, match="a serves m@1, b serves m@2"):
        Replicas({"a": weights[0], "b": weights[1]})
    Replicas({"a": weights[0], "b": weights[2]})
    tuned = ScriptedEngine(decide={}, identity=EngineIdentity("x", "m", adapter="mine"))
    with pytest.raises(ConfigError, match=r"b serves m\+mine"):
        Replicas({"a": weights[0], "b": tuned})
    with pytest.raises(ConfigError):
        Replicas({})


async def test_where_nothing_fails_an_answer_is_the_replicas_own():
    (one,) = engines = [scripted("a")]
    with noted() as tries:
        assert await replicas(*engines).decide(ROW) == await one.decide(ROW)
        assert (await replicas(*engines).generate(CHAT)).samples[0].text == "a"
    assert not tries


async def test_a_slow_replica_gets_fewer_requests():
    fast, slow = scripted("fast", latency=0.1), scripted("slow", latency=1.0)
    tier = replicas(fast, slow)

    async def client():
        for _ in range(50):
            await tier.decide(ROW)

    await asyncio.gather(*(client() for _ in range(8)))
    assert len(fast.requests) + len(slow.requests) == 400
    assert 4 * len(slow.requests) < len(fast.requests)
    assert slow.requests


async def test_equal_replicas_share_the_load():
    engines = [scripted(name, latency=0.1) for name in "abcd"]
    tier = replicas(*engines)
    await asyncio.gather(*(tier.decide(ROW) for _ in range(200)))
    assert all(40 <= len(engine.requests) <= 60 for engine in engines)
    assert all(health.in_flight == 0 for health in tier.health)


@pytest.mark.parametrize(
    "fault", [ServerError("500"), EngineTimeoutError("late"), RateLimitError("slow"), AuthenticationError("401")]
)
async def test_another_replica_answers_once_where_one_fails(fault):
    for seed in range(6):
        tier = replicas(broken("bad", fault), scripted("good"), seed=seed)
        with noted() as tries:
            result = await tier.generate(CHAT)
        assert result.samples[0].text == "good"
        assert result.usage.calls == 1 + len(tries)
        assert [(tried.engine, tried.error) for tried in tries] in ([], [("bad", type(fault).__name__)])
    tier = replicas(*(broken(name, fault) for name in "abc"))
    with noted() as tries, pytest.raises(type(fault)):
        await tier.decide(ROW)
    assert sum(health.calls for health in tier.health) == 2
    assert len(tries) == 1


async def test_a_request_that_is_wrong_is_wrong_everywhere():
    tier = replicas(*(broken(name, RequestRejectedError("400")) for name in "ab"))
    with pytest.raises(RequestRejectedError):
        await tier.decide(ROW)
    assert sum(health.calls for health in tier.health) == 1


async def test_without_time_no_second_replica_is_asked():
    slow = [scripted(name, latency=5, faults=[ServerError("500")]) for name in "ab"]
    tier = replicas(*slow)
    with deadline(3), pytest.raises(ServerError):
        await tier.decide(ROW)
    assert sum(len(engine.requests) for engine in slow) == 1


async def test_an_open_breaker_is_left_out_told_and_probed_when_it_is_due(caplog):
    told = []
    bad = broken("bad", ServerError("500"), times=10)
    tier = replicas(
        bad,
        scripted("good", latency=0.01),
        settings=BreakerSettings(least=4, base=5),
        on_state=lambda name, state: told.append((name, str(state))),
    )
    for _ in range(10):
        await asyncio.gather(*(tier.decide(ROW) for _ in range(20)))
    assert len(bad.requests) == 10  # half of the first twenty, and none after them
    assert told == [("bad", "open")]
    assert caplog.messages == ["the circuit of replica bad is open"]
    assert [health.state for health in tier.health] == [BreakerState.OPEN, BreakerState.CLOSED]
    assert 0 < tier.health[0].rest <= 5
    await asyncio.sleep(5)
    assert (await tier.generate(CHAT)).samples[0].text == "bad"
    assert told[1:] == [("bad", "half_open"), ("bad", "closed")]


async def test_a_failed_probe_is_made_up_for_by_a_replica_that_works():
    engines = [broken("a", ServerError("500")), broken("b", ServerError("500")), scripted("good", latency=1)]
    tier = replicas(*engines, settings=BreakerSettings(least=1, base=5))
    await asyncio.gather(*(tier.decide(ROW) for _ in range(30)), return_exceptions=True)
    assert [str(health.state) for health in tier.health] == ["open", "open", "closed"]
    for wait in (5, 5):
        await asyncio.sleep(wait)
        busy = [asyncio.create_task(tier.generate(CHAT)) for _ in range(6)]
        assert {(await answer).samples[0].text for answer in busy} == {"good"}


async def test_where_all_breakers_are_open_nobody_is_asked_and_the_wait_is_told():
    tier = replicas(*(broken(name, ServerError("500")) for name in "ab"), settings=BreakerSettings(least=1, base=7))
    with pytest.raises(ServerError):
        await tier.decide(ROW)
    assert not tier.ready
    with pytest.raises(CircuitOpenError) as refused:
        await tier.decide(ROW)
    assert refused.value.retry_after == 7
    assert sum(health.calls for health in tier.health) == 2


async def test_a_replica_that_asked_for_a_pause_has_it_as_long_as_there_is_another():
    busy = scripted("busy", faults=[RateLimitError("slow", retry_after=30)] * 2)
    tier = replicas(busy, scripted("good"))
    while not busy.requests:
        assert (await tier.generate(CHAT)).samples[0].text == "good"
    answers = await asyncio.gather(*(tier.generate(CHAT) for _ in range(40)))
    assert {answer.samples[0].text for answer in answers} == {"good"}
    assert len(busy.requests) == 1
    alone = replicas(scripted("busy", faults=[RateLimitError("slow", retry_after=30)]))
    with pytest.raises(RateLimitError):
        await alone.decide(ROW)
    await alone.decide(ROW)


async def test_a_caller_that_leaves_leaves_nothing_behind():
    tier = replicas(*(scripted(name, latency=5) for name in "ab"))
    tasks = [asyncio.create_task(tier.decide(ROW)) for _ in range(10)]
    await asyncio.sleep(1)
    assert sum(health.in_flight for health in tier.health) == 10
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [(health.in_flight, health.failures) for health in tier.health] == [(0, 0), (0, 0)]


async def test_closing_closes_every_replica_even_where_one_cannot():
    class Stuck(ScriptedEngine):
        async def aclose(self):
            raise OSError("stuck")

    last = scripted("b")
    tier = replicas(Stuck(decide={}, identity=EngineIdentity("scripted", "m", "a")), last)
    with pytest.raises(OSError, match="stuck"):
        await tier.aclose()
    assert last.closed
