"""A circuit breaker: an upstream that fails is left alone for a while, then tried with one call.

`Breaker` is the state machine, without I/O and with the clock passed in; `BreakerEngine` puts it around an engine.
After Nygard, "Release It!" (2007), with a failure share over a rolling window in place of consecutive failures.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum

from cascade.gateway.windows import RollingSums
from curator.engines.base import Engine
from curator.engines.pieces import streamed
from curator.engines.tries import was_sent
from curator.engines.wrapper import Request, Result, WrapperEngine
from curator.errors import (
    CircuitOpenError,
    ConfigError,
    DeadlineError,
    EngineError,
    EngineTimeoutError,
    ServerError,
)
from curator.types import Delta, GenerateRequest


class BreakerState(StrEnum):
    """CLOSED: calls pass. OPEN: none does. HALF_OPEN: one at a time does, to see whether the upstream is back."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a breaker opens, and for how long.

    It opens when at least `share` of the calls in the last `window` seconds failed, and there were at least `least`.
    It stays open for `base` seconds, twice as long each time up to `cap`; it forgets that after `cap` seconds without
    opening. A call that the request's own deadline cut off counts only after `patience` seconds.
    """

    window: float = 30.0
    least: int = 10
    share: float = 0.5
    base: float = 1.0
    cap: float = 60.0
    patience: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"the breaker's share must be above 0 and at most 1, not {self.share}")
        if self.least < 1 or min(self.window, self.base) <= 0 or self.cap < self.base or self.patience < 0:
            raise ConfigError(f"{self} makes no sense", hint="least >= 1, positive times, cap >= base")


@dataclass(frozen=True, slots=True)
class Ticket:
    """Leave to make one call. `era` is the number of the state that it was given in."""

    era: int
    probe: bool = False


OnChange = Callable[[BreakerState], None]


class Breaker:
    """`enter` before a call, `leave` after it, once per ticket. Not for threads.

    `on_change` is told every new state; `clock` gives seconds.
    """

    def __init__(
        self,
        settings: BreakerSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_change: OnChange | None = None,
    ) -> None:
        self.settings = settings or BreakerSettings()
        self.trips = 0
        """How often it opened in a row; the back-off's exponent."""
        self._clock = clock
        self._on_change = on_change
        self._calls = RollingSums(self.settings.window, 2, clock)
        self._open = False
        self._until = self._closed_at = 0.0
        self._probing = False
        self._era = 0

    @property
    def state(self) -> BreakerState:
        """The state now. An open breaker is half open as soon as its time is over."""
        if not self._open:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self._clock() < self._until else BreakerState.HALF_OPEN

    @property
    def closed(self) -> bool:
        """Whether the state is CLOSED."""
        return not self._open

    @property
    def admits(self) -> bool:
        """Whether `enter` would let a call pass now."""
        return not self._open or (not self._probing and self._clock() >= self._until)

    @property
    def wait(self) -> float:
        """Seconds until it may let a call pass; 0 where time is not what keeps it."""
        return max(0.0, self._until - self._clock()) if self._open else 0.0

    @property
    def failure_share(self) -> float:
        """Share of failures among the calls in the window; 0 where there are none."""
        calls, failures = self._calls.sums()
        return failures / calls if calls else 0.0

    def enter(self) -> Ticket | None:
        """Leave to make a call, or None."""
        if not self.admits:
            return None
        if self._open and not self._probing:
            self._probing = True
            self._tell(BreakerState.HALF_OPEN)
        return Ticket(self._era, probe=self._open)

    def leave(self, ticket: Ticket, failed: bool | None) -> None:
        """Say how the call went: None where that tells nothing about the upstream (its caller left, say). A call
        from before the last change of state changes nothing."""
        if ticket.era != self._era:
            return
        if not ticket.probe:
            self._count(failed)
            return
        self._probing = False
        if failed:
            self._trip()
        elif failed is False:
            self._close()

    def _count(self, failed: bool | None) -> None:
        if failed is None:
            return
        self._calls.add(1, failed)
        if failed:
            calls, failures = self._calls.sums()
            if calls >= self.settings.least and failures >= self.settings.share * calls:
                if self._clock() - self._closed_at > self.settings.cap:
                    self.trips = 0
                self._trip()

    def _trip(self) -> None:
        self.trips += 1
        # The exponent is bounded, as a float's is.
        self._until = self._clock() + min(self.settings.cap, self.settings.base * 2 ** min(self.trips - 1, 60))
        self._open = True
        self._turn(BreakerState.OPEN)

    def _close(self) -> None:
        self._open = False
        self._closed_at = self._clock()
        self._turn(BreakerState.CLOSED)

    def _turn(self, state: BreakerState) -> None:
        self._era += 1
        self._calls.clear()
        self._tell(state)

    def _tell(self, state: BreakerState) -> None:
        if self._on_change is not None:
            self._on_change(state)


class BreakerEngine(WrapperEngine):
    """Calls `inner` only where `breaker` lets it pass.

    Timeouts, 5xx and broken connections count as failures. Any other answer, a 400 or 429 too, shows that the upstream
    is there. A call that its caller gave up, or that was never sent, counts as neither.
    Raises: CircuitOpenError, beside what `inner` raises.
    """

    def __init__(self, inner: Engine, breaker: Breaker, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(inner)
        self.breaker = breaker
        self._clock = clock

    async def around(self, call: Callable[[Request], Awaitable[Result]], request: Request) -> Result:
        ticket, began = self._enter(), self._clock()
        failed: bool | None = None
        try:
            result = await call(request)
            failed = False
            return result
        except EngineError as error:
            failed = self.blames(error, self._clock() - began)
            raise
        finally:
            self.breaker.leave(ticket, failed)

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """The inner engine's pieces. A probe has succeeded with the first of them; any other call at its end."""
        ticket, began = self._enter(), self._clock()
        failed: bool | None = None
        try:
            async with aclosing(streamed(self.inner, request)) as pieces:
                async for piece in pieces:
                    if ticket.probe:
                        # From then on the ticket is an old one, which changes nothing any more.
                        self.breaker.leave(ticket, False)
                    yield piece
            failed = False
        except EngineError as error:
            failed = self.blames(error, self._clock() - began)
            raise
        finally:
            self.breaker.leave(ticket, failed)

    def blames(self, error: EngineError, seconds: float) -> bool | None:
        """Whether `error`, after so many seconds, is the upstream's fault; None where it tells nothing of it."""
        if not was_sent(error):
            return None
        if isinstance(error, DeadlineError):
            return True if seconds >= self.breaker.settings.patience else None
        return isinstance(error, EngineTimeoutError | ServerError)

    def _enter(self) -> Ticket:
        if (ticket := self.breaker.enter()) is None:
            raise CircuitOpenError(
                f"{self.identity} is not asked: it failed too often of late",
                retry_after=self.breaker.wait,
                hint="it is tried again by itself",
            )
        return ticket
