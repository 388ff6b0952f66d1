"""Tiers of several real servers with faults: what is answered is right, and every call of a model is seen."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress

import pytest

from benchmarks.mock_model import distribution
from benchmarks.mock_server import Faults, MockServer
from benchmarks.mock_stream import DROP, StreamServer, chunk, chunks
from cascade.drafting import draft_policy
from cascade.gateway.breaker import BreakerSettings
from cascade.gateway.hedging import HedgeEngine, HedgeSettings
from cascade.gateway.replicas import Replicas
from cascade.gateway.upstreams import UpstreamSettings, guard_upstreams
from cascade.routed import Outcome
from cascade.router import Cascade
from curator.engines.base import EngineIdentity, StreamingEngine
from curator.engines.deadline import deadline
from curator.engines.http import HTTPEngine
from curator.engines.scripted import ScriptedEngine
from curator.engines.tries import noted
from curator.engines.wrappers import RetryEngine, RetryPolicy, wrap
from curator.errors import DeadlineError, InvalidOutputError, OverloadedError, ServerError
from curator.types import DecideRequest, GenerateRequest, Message, Option, Question, Sampling

pytestmark = pytest.mark.anyio
OPTIONS = ("good", "bad", "so-so")
MOOD = Question("mood", "choice", "Which mood?", tuple(Option(label) for label in OPTIONS))
CHAT = GenerateRequest((Message("user", "How many?"),), Sampling(max_tokens=16))
QUICK = UpstreamSettings(timeout=5.0, retry=RetryPolicy(attempts=3, base=0.01, cap=0.02))
PATH = "/v1/decisions"


def row(number):
    return DecideRequest(f"text number {number}", (MOOD,))


@pytest.fixture
async def opened():
    """Engines that are closed after the test."""
    found = []
    yield found
    for engine in found:
        await engine.aclose()


@pytest.fixture
def tier(opened):
    def make(name, servers, settings=QUICK, **more):
        engines = {
            f"{name}-{number}": wrap(HTTPEngine(server.url, name, dialect="decisions"), retry=None)
            for number, server in enumerate(servers)
        }
        found = guard_upstreams(engines, settings, identity=EngineIdentity("http", name, "http://tier/v1"), **more)
        opened.append(found.engine)
        return found

    return make


@pytest.fixture
def streaming(opened):
    def make(*servers, **settings):
        engines = {f"r{number}": HTTPEngine(server.url, "m") for number, server in enumerate(servers)}
        found = guard_upstreams(engines, UpstreamSettings(**{"retry": None, **settings}))
        opened.append(found.engine)
        return found

    return make


@asynccontextmanager
async def serving(*faults):
    """A mock server per entry."""
    async with AsyncExitStack() as stack:
        found = [MockServer(["decisions"], faults=one) for one in faults]
        for server in found:
            await stack.enter_async_context(server)
        yield found


def cascade(tiers, limit):
    engines = {name: one.engine for name, one in tiers.items()}
    return Cascade(engines, draft_policy(engines, row(0), {"small": limit}), uncertified="rules")


def right(number, answer):
    return answer.probabilities == pytest.approx(distribution(f"text number {number}", OPTIONS))


def seen(servers):
    return sum(server.counts[PATH] for server in servers)


async def test_where_nothing_fails_nothing_is_seen_of_it(tier, opened):
    async with serving(Faults(), Faults()) as servers:
        found = tier("small", servers)
        plain = HTTPEngine(servers[0].url, "small", dialect="decisions")
        opened.append(plain)
        with noted() as tries:
            answers = [await found.engine.decide(row(number)) for number in range(8)]
        assert [one.answers for one in answers] == [(await plain.decide(row(number))).answers for number in range(8)]
        assert not tries
        assert all(one.usage.calls == 1 for one in answers)


FAULTS = {
    "rate_limit": "RateLimitError",
    "server_error": "ServerError",
    "drop": "ServerError",
    "half": "ServerError",
    "invalid_json": "ServerError",
}


@pytest.mark.parametrize(("fault", "error"), FAULTS.items())
async def test_another_replica_makes_up_for_a_fault_and_the_attempt_is_seen(fault, error, tier):
    async with serving(*[Faults(script=[fault], retry_after="0.01")] * 2, Faults()) as (*small, strong):
        tiers = {"small": tier("small", small), "strong": tier("strong", [strong])}
        routed = await cascade(tiers, 0.0).route(row(1))
        # Both replicas fail once: the one that was asked first, the other, and then a retry is answered.
        (attempt,) = routed.attempts
        assert right(1, routed.answers[0].answer)
        assert [tried.error for tried in attempt.tries] == [error, error]
        assert {tried.engine for tried in attempt.tries} == {"small-0", "http:small"} or attempt.tries[
            0
        ].engine == "small-1"
        assert (attempt.usage.calls, seen(small), seen([strong])) == (3, 3, 0)


async def test_a_tier_that_hangs_is_escalated_within_the_requests_time(tier):
    async with serving(Faults(hang=1.0), Faults()) as (small, strong):
        settings = UpstreamSettings(timeout=0.05, retry=None)
        tiers = {"small": tier("small", [small], settings), "strong": tier("strong", [strong])}
        with deadline(30):
            routed = await cascade(tiers, 0.0).route(row(1))
        assert [(attempt.tier, attempt.error) for attempt in routed.attempts] == [
            ("small", "EngineTimeoutError"),
            ("strong", ""),
        ]
        assert right(1, routed.answers[0].answer)


async def test_a_last_tier_without_time_leaves_the_draft(tier):
    async with serving(Faults(), Faults(hang=1.0)) as (small, strong):
        tiers = {"small": tier("small", [small]), "strong": tier("strong", [strong])}
        routing = cascade(tiers, 1.0)
        await tiers["small"].engine.decide(row(1))  # connected, so that the draft is quick
        with deadline(0.1):
            routed = await routing.route(row(1))
        (served,) = routed.answers
        assert (served.outcome, served.tier, served.certified) == (Outcome.FALLBACK, "small", False)
        assert routed.attempts[-1].error == "DeadlineError"
        assert right(1, served.answer)


@pytest.mark.parametrize("seed", range(3))
async def test_under_seeded_faults_no_answer_is_wrong_none_is_lost_and_no_call_is_unseen(seed, tier):
    mix = {
        "rate_limit": 0.1,
        "server_error": 0.08,
        "drop": 0.05,
        "half": 0.05,
        "invalid_json": 0.03,
        "wrong_shape": 0.03,
    }
    faults = [Faults(**mix, retry_after="0.01", seed=10 * seed + number) for number in range(4)]
    # Attempts enough that no request runs out of them by chance.
    often = RetryPolicy(attempts=10, base=0.01, cap=0.02)
    settings = UpstreamSettings(timeout=30.0, retry=often, breaker=BreakerSettings(least=50, share=0.9))
    async with serving(*faults) as servers:
        small, strong = servers[:2], servers[2:]
        tiers = {"small": tier("small", small, settings), "strong": tier("strong", strong, settings)}
        routing, gate = cascade(tiers, 0.6), asyncio.Semaphore(16)

        async def one(number):
            # By chance no replica of either tier says anything that can be read: then an error, never a wrong answer.
            async with gate:
                with suppress(InvalidOutputError, OverloadedError):
                    return await routing.route(row(number))

        routes = await asyncio.gather(*(one(number) for number in range(300)))
        answered = {number: routed for number, routed in enumerate(routes) if routed is not None}
        assert len(answered) >= 295
        assert all(right(number, routed.answers[0].answer) for number, routed in answered.items())
        outcomes = Counter(routed.answers[0].outcome for routed in answered.values())
        assert min(outcomes[Outcome.ACCEPTED], outcomes[Outcome.TEACHER]) > 50
        calls = Counter()
        for routed in answered.values():
            for attempt in routed.attempts:
                calls[attempt.tier] += attempt.usage.calls
                assert attempt.usage.calls >= len(attempt.tries)
        assert calls <= Counter({"small": seen(small), "strong": seen(strong)})
        assert len(answered) < 300 or calls.total() == seen(servers)
        told = [health for one in tiers.values() for health in one.replicas.health]
        assert sum(health.calls for health in told) == seen(servers)


async def test_an_upstream_that_is_gone_costs_one_probe_now_and_then(tier):
    async with serving(Faults()) as (alive,):
        dead = MockServer(["decisions"])
        async with dead:
            pass
        states = []
        settings = UpstreamSettings(breaker=BreakerSettings(least=3, base=600, cap=600))
        found = tier("m", [dead, alive], settings, on_state=lambda name, state: states.append((name, str(state))))
        for first in range(0, 90, 15):
            answers = await asyncio.gather(*(found.engine.decide(row(number)) for number in range(first, first + 15)))
            assert all(right(first + place, one.answers[0]) for place, one in enumerate(answers))
        assert states == [("m-0", "open")]
        assert seen([alive]) == 90
        assert found.replicas.health[0].calls < 20


async def test_a_tier_that_is_not_asked_costs_no_call(tier):
    async with serving(Faults(server_error=1.0), Faults()) as (small, strong):
        settings = UpstreamSettings(retry=None, breaker=BreakerSettings(least=4, base=600, cap=600))
        tiers = {"small": tier("small", [small], settings), "strong": tier("strong", [strong])}
        routes = [await cascade(tiers, 0.0).route(row(number)) for number in range(6)]
        firsts = [routed.attempts[0] for routed in routes]
        assert [one.error for one in firsts] == ["ServerError"] * 4 + ["CircuitOpenError"] * 2
        assert [(one.usage.calls, one.cost) for one in firsts] == [(1, None)] * 4 + [(0, 0.0)] * 2
        assert all(right(number, routed.answers[0].answer) for number, routed in enumerate(routes))
        assert (seen([small]), seen([strong])) == (4, 6)


# Streams


async def pieces_of(engine, heard=None):
    heard = [] if heard is None else heard
    async with aclosing(engine.stream(CHAT)) as pieces:
        async for piece in pieces:
            heard += [piece]
    return heard


async def test_a_stream_passes_through_and_another_replica_is_asked_before_its_first_piece(streaming):
    bad = StreamServer(lambda body: (500, {"error": {"message": "out of luck"}}))
    async with bad, StreamServer(chunks("It is", " 42")) as good:
        found = streaming(bad, good)
        assert isinstance(found.engine, StreamingEngine)
        # Chance decides which of the two is asked first.
        for _ in range(40):
            with noted() as tries:
                pieces = await pieces_of(found.engine)
            assert "".join(piece.text for piece in pieces) == "It is 42"
            assert pieces[-1].usage.calls == 1 + len(tries)
        assert all(health.in_flight == 0 for health in found.replicas.health)
        assert found.replicas.health[0].failures == len(bad.bodies) > 0


async def test_a_stream_that_breaks_is_never_continued_by_another(streaming):
    async with StreamServer([chunk("It is"), DROP]) as one, StreamServer([chunk("It is"), DROP]) as other:
        found = streaming(one, other, retry=RetryPolicy(base=0))
        heard = []
        with pytest.raises(ServerError):
            await pieces_of(found.engine, heard)
        assert "".join(piece.text for piece in heard) == "It is"
        assert len(one.bodies) + len(other.bodies) == 1


async def test_a_stream_that_pauses_too_long_or_has_no_time_ends_and_the_server_is_told(streaming):
    async with StreamServer([chunk("It is"), 60.0]) as server:
        for settings, seconds, error in (({"timeout": 0.05}, 30, "within 0.05 s"), ({"timeout": 30.0}, 0.1, "left")):
            found = streaming(server, **settings)
            with deadline(seconds), pytest.raises(Exception, match=error) as late:
                await pieces_of(found.engine)
            assert isinstance(late.value, DeadlineError) == (seconds < 1)
        await server.until(lambda: server.gone == 2)


async def test_a_client_that_leaves_stops_the_stream_and_blames_nobody(streaming):
    async with StreamServer([chunk("It is"), 60.0]) as server:
        found = streaming(server, breaker=BreakerSettings(least=1))
        async with aclosing(found.engine.stream(CHAT)) as pieces:
            await anext(pieces)
            assert found.replicas.health[0].in_flight == 1
        await server.until(lambda: server.gone == 1)
        (health,) = found.replicas.health
        assert (health.in_flight, health.failures, str(health.state)) == (0, 0, "closed")


async def test_broken_streams_open_the_breaker_and_a_probes_first_piece_closes_it(streaming):
    script = [chunk("It is"), DROP]
    async with StreamServer(lambda body: script) as server:
        found = streaming(server, breaker=BreakerSettings(least=3, base=0.05))
        for _ in range(3):
            with pytest.raises(ServerError):
                await pieces_of(found.engine)
        assert not found.replicas.ready
        await asyncio.sleep(0.06)
        script[:] = chunks("It is", " 42")
        async with aclosing(found.engine.stream(CHAT)) as pieces:
            await anext(pieces)
            assert found.replicas.health[0].state == "closed"


def test_the_layers_stand_in_their_order():
    engine = ScriptedEngine(decide={})
    found = guard_upstreams({"a": engine}, UpstreamSettings(hedge=HedgeSettings()))
    kinds = [type(one) for one in (found.engine, found.engine.inner, found.engine.inner.inner)]
    assert kinds == [RetryEngine, HedgeEngine, Replicas]
    assert found.hedges is found.engine.inner
    assert guard_upstreams({"a": engine}, UpstreamSettings(retry=None)).hedges is None
