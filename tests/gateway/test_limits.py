from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.gateway.key_records import Limits
from cascade.gateway.limits import Limiter, spelled
from curator.errors import NotAllowedError, RateLimitError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_minutes_worth_may_come_at_once_and_then_the_rate_holds(clock: Clock) -> None:
    limiter, limits = Limiter(clock), Limits(requests_per_minute=3)
    for _ in range(3):
        limiter.admit("a", limits, 10).settle(10)
    with pytest.raises(RateLimitError, match="3 requests per minute") as caught:
        limiter.admit("a", limits, 10)
    assert caught.value.retry_after == pytest.approx(20.0)
    clock.now += 20.001
    limiter.admit("a", limits, 10)
    with pytest.raises(RateLimitError):
        limiter.admit("a", limits, 10)


def test_keys_do_not_share_their_rates(clock: Clock) -> None:
    limiter, limits = Limiter(clock), Limits(requests_per_minute=1)
    limiter.admit("a", limits, 1)
    limiter.admit("b", limits, 1)


def test_tokens_are_estimated_before_and_put_right_after(clock: Clock) -> None:
    limiter, limits = Limiter(clock), Limits(tokens_per_minute=600)
    slot = limiter.admit("a", limits, 500)
    with pytest.raises(RateLimitError, match="600 tokens") as caught:
        limiter.admit("a", limits, 200)
    assert caught.value.retry_after == pytest.approx(10.0)
    slot.settle(100)
    slot.settle(100)
    assert limiter.headers("a", limits)["x-ratelimit-remaining-tokens"] == "500"
    limiter.admit("a", limits, 500).settle(900)
    assert limiter.headers("a", limits)["x-ratelimit-remaining-tokens"] == "0"
    clock.now += 30.0
    with pytest.raises(RateLimitError):
        limiter.admit("a", limits, 1)
    clock.now += 11.0
    limiter.admit("a", limits, 1)


def test_a_refused_request_takes_nothing(clock: Clock) -> None:
    limiter, limits = Limiter(clock), Limits(requests_per_minute=2, tokens_per_minute=100)
    limiter.admit("a", limits, 90).settle(90)
    for _ in range(5):
        with pytest.raises(RateLimitError):
            limiter.admit("a", limits, 50)
    assert limiter.headers("a", limits)["x-ratelimit-remaining-requests"] == "1"


def test_what_is_larger_than_the_limit_is_not_told_to_wait(clock: Clock) -> None:
    with pytest.raises(NotAllowedError, match="may take 101 tokens"):
        Limiter(clock).admit("a", Limits(tokens_per_minute=100), 101)


def test_requests_in_flight_are_limited(clock: Clock) -> None:
    limiter, limits = Limiter(clock), Limits(in_flight=2)
    first, _ = limiter.admit("a", limits, 1), limiter.admit("a", limits, 1)
    with pytest.raises(RateLimitError, match="2 requests of this API key are in flight"):
        limiter.admit("a", limits, 1)
    first.settle(1)
    first.settle(1)
    limiter.admit("a", limits, 1)
    with pytest.raises(RateLimitError):
        limiter.admit("a", limits, 1)


def test_headers_are_those_that_openai_sends(clock: Clock) -> None:
    limiter, limits = Limiter(clock), Limits(requests_per_minute=60, tokens_per_minute=6000)
    limiter.admit("a", limits, 1000)
    assert limiter.headers("a", limits) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5000",
        "x-ratelimit-reset-tokens": "10s",
    }
    assert limiter.headers("a", Limits()) == {}


def test_changed_limits_hold_at_once(clock: Clock) -> None:
    limiter = Limiter(clock)
    limiter.admit("a", Limits(requests_per_minute=100), 1)
    limiter.admit("a", Limits(requests_per_minute=1), 1)
    with pytest.raises(RateLimitError):
        limiter.admit("a", Limits(requests_per_minute=1), 1)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0ms"), (0.0042, "5ms"), (1.0, "1s"), (12.5, "12.5s"), (360.0, "6m0s"), (61.2, "1m1s")]
)
def test_durations_are_spelled_as_openai_spells_them(seconds: float, text: str) -> None:
    assert spelled(seconds) == text


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 80), st.integers(0, 120)), max_size=60))
def test_no_more_comes_through_than_the_bucket_and_the_rate_allow(steps: list[tuple[float, int, int]]) -> None:
    """Tokens let in by estimates that hold never pass a minute's worth plus the rate times the time."""
    clock = Clock()
    limiter, limits, taken, start = Limiter(clock), Limits(tokens_per_minute=100), 0, clock.now
    waits: list[float] = []
    for pause, estimate, share in steps:
        clock.now += pause
        try:
            slot = limiter.admit("a", limits, estimate)
        except RateLimitError as error:
            waits.append(error.retry_after or 0.0)
            continue
        actual = estimate * min(share, 100) // 100
        slot.settle(actual)
        taken += actual
        assert taken <= 100 + (clock.now - start) * 100 / 60 + 1e-6
    assert all(0 < wait <= 60 for wait in waits)
