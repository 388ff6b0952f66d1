"""What is known of one replica, and which of two is asked."""

from __future__ import annotations

import pytest

from cascade.gateway.breaker import Breaker, BreakerEngine, BreakerState
from cascade.gateway.replica import MEMORY, Replica, better
from curator.engines.scripted import ScriptedEngine
from curator.errors import AuthenticationError, RateLimitError, RequestRejectedError, ServerError


class Time:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def replica(clock, name="a"):
    engine = ScriptedEngine(decide=lambda request: "good")
    return Replica(name, BreakerEngine(engine, Breaker(clock=clock), clock), clock)


def call(one, clock, seconds, error=None):
    began = one.began()
    clock.now += seconds
    one.ended(began, error)


def test_health_is_what_was_seen():
    clock = Time()
    one = replica(clock)
    call(one, clock, 1.0)
    call(one, clock, 2.0)
    one.began()
    found = one.health()
    assert (found.name, found.state, found.in_flight, found.calls, found.failures) == (
        "a",
        BreakerState.CLOSED,
        1,
        3,
        0,
    )
    assert (found.latency, found.success, found.last_error, found.rest) == (pytest.approx(1.2), 1.0, "", 0.0)


def test_a_failure_lowers_success_and_a_refusal_does_not():
    clock = Time()
    one = replica(clock)
    call(one, clock, 1.0, RequestRejectedError("400"))
    assert (one.success, one.failures, one.latency) == (1.0, 0, None)
    call(one, clock, 1.0, AuthenticationError("401"))
    assert (one.success, one.failures, one.latency, one.last_error) == (0.8, 1, None, "AuthenticationError")


def test_a_pause_that_the_server_asks_for_is_kept():
    clock = Time()
    one = replica(clock)
    call(one, clock, 1.0, RateLimitError("slow down", retry_after=5.0))
    assert one.rest == 5
    clock.now += 5
    assert one.rest == 0
    call(one, clock, 1.0, RateLimitError("slow down", retry_after=9999))
    assert one.rest == 60
    busy = replica(clock, "busy")
    call(busy, clock, 1.0, ServerError("503", retry_after=7.0))
    assert busy.rest == 7


def test_the_less_busy_the_faster_and_the_more_reliable_is_better():
    clock = Time()
    one, other = replica(clock, "a"), replica(clock, "b")
    one.began()
    assert better(one, other) is other
    call(one, clock, 0.1)
    call(other, clock, 0.5)
    assert better(one, other) is one
    for _ in range(12):
        call(one, clock, 0.0, AuthenticationError("401"))
    assert better(one, other) is other


def test_a_replica_that_nothing_is_known_of_is_compared_by_calls_in_flight_alone():
    clock = Time()
    slow, new = replica(clock, "slow"), replica(clock, "new")
    call(slow, clock, 9.0)
    new.began()
    assert better(slow, new) is slow


def test_what_is_old_is_forgotten():
    clock = Time()
    one = replica(clock)
    call(one, clock, 30.0)
    call(one, clock, 0.0, AuthenticationError("401"))
    assert (one.latency, one.success) == (30.0, 0.8)
    clock.now += MEMORY
    assert (one.latency, one.success) == (None, 1.0)
    call(one, clock, 1.0)
    assert one.latency == 1.0
