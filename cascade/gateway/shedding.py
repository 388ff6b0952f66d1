"""Admission: so many requests at once, a short queue behind them, and a quick no to the rest."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from curator.engines.deadline import time_left
from curator.errors import ConfigError, OverloadedError

WEIGHT: Final = 0.1
"""Of the latest request in the average time that one takes."""

LONGEST: Final = 60.0
"""Seconds that a caller is asked to stay away at most."""


@dataclass(frozen=True, slots=True)
class AdmissionSettings:
    """At most `in_flight` requests are worked on and `queue` wait, each for at most `wait` seconds."""

    in_flight: int = 256
    queue: int = 512
    wait: float = 5.0

    def __post_init__(self) -> None:
        if self.in_flight < 1 or self.queue < 0 or self.wait < 0:
            raise ConfigError(f"{self} makes no sense", hint="in_flight >= 1, queue >= 0, wait >= 0 seconds")


class Admission:
    """A place per request, first come, first served.

        async with admission:
            ...                 # raises OverloadedError where there is no place

    Health checks do not ask for one. The number of places is fixed: each tier adapts its own number of calls to what
    its server takes (`ConcurrencyEngine`), so this one only bounds what the gateway itself holds.
    Raises: OverloadedError where the queue is full, the wait is over, or it is longer than the request's deadline.
    """

    def __init__(self, settings: AdmissionSettings | None = None) -> None:
        self.settings = settings or AdmissionSettings()
        self.in_flight = self.shed = 0
        self._seconds = 0.0
        """Average time between two places that become free."""
        self._freed = 0.0
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    async def __aenter__(self) -> None:
        if self.in_flight < self.settings.in_flight:
            self.in_flight += 1
        elif len(self._queue) >= self.settings.queue:
            raise self._overloaded(f"{self.in_flight} requests are in work and {len(self._queue)} wait")
        else:
            await self._turn()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        now = asyncio.get_running_loop().time()
        if self.in_flight >= self.settings.in_flight:
            self._seconds += WEIGHT * (now - self._freed - self._seconds)
        self._freed = now
        self._release()

    async def _turn(self) -> None:
        """Wait for a place. Who is given one in the moment of giving up has it, or passes it on."""
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(min(self.settings.wait, time_left())):
                await turn
        except TimeoutError:
            if turn.cancelled():
                self._queue.remove(turn)
                raise self._overloaded(f"no place became free within {self.settings.wait:g} s") from None
        except asyncio.CancelledError:
            if turn.cancelled():
                self._queue.remove(turn)
            else:
                self._release()
            raise

    def _release(self) -> None:
        """Pass a place on to the first in the queue that still waits, or give it back."""
        if (turn := next((turn for turn in self._queue if not turn.done()), None)) is None:
            self.in_flight -= 1
            return
        self._queue.remove(turn)
        turn.set_result(None)

    def _overloaded(self, why: str) -> OverloadedError:
        self.shed += 1
        seconds = min(LONGEST, max(1.0, self._seconds * (len(self._queue) + 1)))
        return OverloadedError(f"too many requests: {why}", retry_after=seconds, hint=f"ask again in {seconds:.0f} s")
