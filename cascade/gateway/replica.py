"""One upstream of a tier, what is known of it, and which of two to ask."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from cascade.gateway.breaker import BreakerEngine, BreakerState
from curator.engines.context import Setting
from curator.errors import (
    AuthenticationError,
    InvalidOutputError,
    ModelNotFoundError,
    RetryableEngineError,
)

MEMORY: Final = 10.0
"""Seconds after which what is known of a replica's speed is out of date, so that a slow one is tried again."""

WEIGHT: Final = 0.2
"""Of the latest call in the averages (EWMA) of latency and success."""

LEAST_SUCCESS: Final = 0.05
LONGEST_REST: Final = 60.0

ELSEWHERE: Final = (RetryableEngineError, AuthenticationError, ModelNotFoundError, InvalidOutputError)
"""Failures after which another replica of the same model may well answer: what may pass, one that is set up wrongly,
an answer that cannot be read. The other 4xx it would answer just the same."""


@dataclass(frozen=True, slots=True)
class ReplicaHealth:
    """What is known of one replica: its breaker's state, calls in flight, average latency (seconds; None: unknown) and
    success, calls and failures since the start, the class of the last failure, and for how many seconds more its
    breaker or a Retry-After keeps it from being asked."""

    name: str
    state: BreakerState
    in_flight: int
    latency: float | None
    success: float
    calls: int
    failures: int
    last_error: str
    rest: float


class Replica:
    """One upstream behind its breaker. `began` and `ended` bracket a call."""

    def __init__(self, name: str, engine: BreakerEngine, clock: Callable[[], float]) -> None:
        self.name = name
        self.engine = engine
        self._clock = clock
        self.in_flight = self.calls = self.failures = 0
        self.last_error = ""
        self._latency: float | None = None
        self._success = 1.0
        self._heard = self._rests_until = clock() - MEMORY

    @property
    def admits(self) -> bool:
        """Whether its breaker lets a call pass."""
        return self.engine.breaker.admits

    @property
    def rest(self) -> float:
        """Seconds for which a Retry-After keeps it."""
        return max(0.0, self._rests_until - self._clock())

    @property
    def latency(self) -> float | None:
        """Average seconds of a call that was answered; None where nothing recent is known."""
        return self._latency if self._recent else None

    @property
    def success(self) -> float:
        """Average share of calls that were answered."""
        return self._success if self._recent else 1.0

    @property
    def _recent(self) -> bool:
        return self._clock() - self._heard < MEMORY

    def began(self) -> float:
        """A call begins. Returns when."""
        self.in_flight += 1
        self.calls += 1
        return self._clock()

    def ended(self, began: float, error: BaseException | None) -> None:
        """It has ended. One that its caller gave up, or that the model refused, tells nothing."""
        now = self._clock()
        self.in_flight -= 1
        if error is None:
            known = self.latency
            self._latency = now - began if known is None else known + WEIGHT * (now - began - known)
            self._success, self._heard = self.success + WEIGHT * (1 - self.success), now
        elif isinstance(error, ELSEWHERE):
            self.failures += 1
            self.last_error = type(error).__name__
            # A failure says nothing of the latency: a replica that fails at once would look like a fast one.
            self._latency = self.latency
            self._success, self._heard = max(LEAST_SUCCESS, self.success * (1 - WEIGHT)), now
            if isinstance(error, RetryableEngineError) and error.retry_after:
                self._rests_until = now + min(error.retry_after, LONGEST_REST)

    def health(self) -> ReplicaHealth:
        """What is known of it now."""
        breaker = self.engine.breaker
        return ReplicaHealth(
            self.name,
            breaker.state,
            self.in_flight,
            self.latency,
            self.success,
            self.calls,
            self.failures,
            self.last_error,
            max(breaker.wait, self.rest),
        )


def better(one: Replica, other: Replica) -> Replica:
    """Which of the two promises the earlier answer: calls in flight times latency, over the share of successes. Where
    one's latency is unknown, it is taken to be the other's."""
    known = None not in (one.latency, other.latency)
    return min(one, other, key=lambda replica: _promise(replica, known))


def _promise(replica: Replica, known: bool) -> float:
    latency = max(replica.latency or 0.0, 1e-3) if known else 1.0
    return (replica.in_flight + 1) * latency / replica.success


@dataclass(slots=True)
class Spread:
    """The replicas that a request was sent to: by all of its racing calls (`tried`, which they share), and by this one
    in order (`at`)."""

    tried: set[str] = field(default_factory=set)
    at: list[str] = field(default_factory=list)


_spread: ContextVar[Spread] = ContextVar("spread")


def spreading(spread: Spread) -> Setting[Spread]:
    """Calls inside avoid the replicas that `spread` has, and enter theirs."""
    return Setting(_spread, spread)


def current_spread() -> Spread:
    """The one in force, else a new one."""
    return _spread.get(None) or Spread()
