"""The breaker against a slow, plain model of it, and around an engine."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule
from virtual_time import VIRTUAL, now

from cascade.gateway.breaker import Breaker, BreakerEngine, BreakerSettings, BreakerState
from curator.engines.deadline import DeadlineEngine, deadline
from curator.engines.scripted import ScriptedEngine
from curator.errors import (
    AuthenticationError,
    CircuitOpenError,
    ConfigError,
    ContextLengthError,
    DeadlineError,
    EngineTimeoutError,
    InvalidOutputError,
    ModelNotFoundError,
    OverloadedError,
    RateLimitError,
    RefusalError,
    RequestRejectedError,
    ServerError,
)
from curator.types import DecideRequest, Option, Question

CLOSED, OPEN, HALF_OPEN = BreakerState
ROW = DecideRequest("fine", (Question("mood", "choice", "Mood?", (Option("good"), Option("bad"))),))
FEW = BreakerSettings(window=10, least=4, share=0.5, base=2, cap=16)


class Time:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def tripped(settings=FEW):
    clock = Time()
    breaker = Breaker(settings, clock=clock)
    fail(breaker, settings.least)
    assert breaker.state is OPEN
    return breaker, clock


def fail(breaker, times=1, failed=True):
    for _ in range(times):
        breaker.leave(breaker.enter(), failed)


class AgainstAModel(RuleBasedStateMachine):
    """The model keeps every call and counts anew each time."""

    def __init__(self):
        super().__init__()
        self.clock = Time()
        self.told = []
        self.breaker = Breaker(FEW, clock=self.clock, on_change=self.told.append)
        self.state, self.calls, self.opened, self.long, self.closed, self.trips = CLOSED, [], 0.0, 0.0, 0.0, 0
        self.probes = 0

    tickets = Bundle("tickets")

    @rule(seconds=st.integers(0, 12))
    def time_passes(self, seconds):
        self.clock.now += seconds
        if self.state is OPEN and self.clock.now >= self.opened + self.long:
            self.state = HALF_OPEN

    @rule(target=tickets)
    def a_call_begins(self):
        ticket = self.breaker.enter()
        if self.state is OPEN or (self.state is HALF_OPEN and self.probes):
            assert ticket is None
            return multiple()
        assert ticket.probe == (self.state is HALF_OPEN)
        self.probes += ticket.probe
        return ticket

    @rule(ticket=consumes(tickets), failed=st.sampled_from([True, False, None]))
    def a_call_ends(self, ticket, failed):
        stale = ticket.era != self.breaker._era
        self.breaker.leave(ticket, failed)
        if stale:
            return
        if ticket.probe:
            self.probes = 0
            if failed:
                self._open()
            elif failed is False:
                self.state, self.closed, self.calls = CLOSED, self.clock.now, []
        elif failed is not None:
            self.calls.append((self.clock.now, failed))
            recent = [bad for moment, bad in self.calls if moment >= int(self.clock.now) - 10]
            if failed and len(recent) >= 4 and sum(recent) * 2 >= len(recent):
                if self.clock.now - self.closed > 16:
                    self.trips = 0
                self._open()

    def _open(self):
        self.trips += 1
        self.state, self.calls, self.opened = OPEN, [], self.clock.now
        self.long = min(16, 2 * 2 ** (self.trips - 1))

    @invariant()
    def both_agree(self):
        assert self.breaker.state is self.state
        assert self.probes <= 1
        assert self.breaker.admits == (self.state is CLOSED or (self.state is HALF_OPEN and not self.probes))
        assert self.breaker.wait == (0 if self.state is not OPEN else self.opened + self.long - self.clock.now)

    @invariant()
    def only_possible_changes_are_told(self):
        steps = set(zip([CLOSED, *self.told], self.told, strict=False))
        possible = {(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, HALF_OPEN), (HALF_OPEN, OPEN), (HALF_OPEN, CLOSED)}
        assert steps <= possible


AgainstAModel.TestCase.settings = profile(max_examples=60, stateful_step_count=50, deadline=None)
TestAgainstAModel = AgainstAModel.TestCase


def test_few_calls_or_few_failures_do_not_open_it():
    clock = Time()
    breaker = Breaker(FEW, clock=clock)
    fail(breaker, 3)
    assert breaker.state is CLOSED
    clock.now = 20.0
    fail(breaker, 4, failed=False)
    fail(breaker, 3)
    assert (breaker.state, breaker.failure_share) == (CLOSED, pytest.approx(3 / 7))
    fail(breaker, 1)
    assert breaker.state is OPEN


def test_each_failed_probe_doubles_the_time_up_to_the_cap_and_a_quiet_time_forgets_it():
    breaker, clock = tripped()
    waits = []
    for _ in range(5):
        waits.append(breaker.wait)
        clock.now += breaker.wait
        fail(breaker)
    assert waits == [2, 4, 8, 16, 16]
    clock.now += breaker.wait
    fail(breaker, failed=False)
    clock.now += 17
    fail(breaker, 4)
    assert breaker.wait == 2


def test_what_was_before_it_closed_again_counts_no_more():
    breaker, clock = tripped()
    clock.now += 2
    fail(breaker, failed=False)
    fail(breaker, 3)
    assert breaker.state is CLOSED
    fail(breaker, 1)
    assert breaker.state is OPEN


def test_a_probe_that_tells_nothing_makes_room_for_the_next():
    breaker, clock = tripped()
    clock.now += 2
    probe = breaker.enter()
    assert breaker.enter() is None
    breaker.leave(probe, None)
    assert breaker.state is HALF_OPEN
    fail(breaker, failed=False)
    assert breaker.state is CLOSED


def test_settings_that_make_no_sense_are_refused():
    for wrong in ({"share": 0}, {"share": 1.1}, {"least": 0}, {"window": 0}, {"base": 2, "cap": 1}):
        with pytest.raises(ConfigError):
            BreakerSettings(**wrong)


# Around an engine


@pytest.fixture
def anyio_backend():
    return VIRTUAL


def around(faults, **settings):
    inner = ScriptedEngine(decide=lambda request: "good", faults=faults, **settings)
    return BreakerEngine(inner, Breaker(FEW, clock=now), now), inner


@pytest.mark.anyio
@pytest.mark.parametrize("fault", [ServerError("500"), EngineTimeoutError("late")])
async def test_an_upstream_that_fails_is_left_alone_then_tried_once(fault):
    engine, inner = around([fault] * 4)
    for _ in range(4):
        with pytest.raises(type(fault)):
            await engine.decide(ROW)
    with pytest.raises(CircuitOpenError) as refused:
        await engine.decide(ROW)
    assert (refused.value.retry_after, refused.value.retryable, len(inner.requests)) == (2.0, True, 4)
    await asyncio.sleep(2)
    answers = await asyncio.gather(*(engine.decide(ROW) for _ in range(3)), return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == ["Decisions", "CircuitOpenError", "CircuitOpenError"]
    assert engine.breaker.state is CLOSED


@pytest.mark.anyio
@pytest.mark.parametrize(
    "fault",
    [
        RequestRejectedError("400"),
        ContextLengthError("too long"),
        RefusalError("no"),
        InvalidOutputError("what?"),
        RateLimitError("slow down"),
        AuthenticationError("401"),
        ModelNotFoundError("404"),
        DeadlineError("no time", sent=False),
        OverloadedError("full", retry_after=1),
        ValueError("a bug"),
    ],
)
async def test_what_says_nothing_about_the_upstream_never_opens_it(fault):
    engine, _ = around([fault] * 40)
    for _ in range(40):
        with pytest.raises(type(fault)):
            await engine.decide(ROW)
    assert engine.breaker.state is CLOSED
    assert engine.breaker.failure_share == 0


@pytest.mark.anyio
async def test_callers_that_leave_never_open_it():
    engine, _ = around([], latency=5)
    for _ in range(20):
        task = asyncio.create_task(engine.decide(ROW))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert (engine.breaker.state, engine.breaker.failure_share) == (CLOSED, 0)


@pytest.mark.anyio
@pytest.mark.parametrize(("seconds", "state"), [(1, CLOSED), (12, OPEN)])
async def test_deadlines_count_only_where_the_upstream_had_time(seconds, state):
    inner = ScriptedEngine(decide=lambda request: "good", latency=100)
    engine = BreakerEngine(DeadlineEngine(inner, timeout=60), Breaker(FEW, clock=now), now)

    async def impatient():
        with deadline(seconds), pytest.raises(DeadlineError):
            await engine.decide(ROW)

    await asyncio.gather(*(impatient() for _ in range(8)))
    assert engine.breaker.state is state
