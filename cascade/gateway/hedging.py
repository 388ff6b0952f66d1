"""A second attempt on another replica where the first is slower than usual; the faster one is served.

Dean and Barroso, "The Tail at Scale" (CACM 2013): at the 95th percentile of latency, hedging a few percent of the
requests takes most of the tail away.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic

from cascade.gateway.replica import Spread, spreading
from cascade.gateway.replicas import Replicas
from curator.engines.exchanges import Purpose, current_purpose, purpose
from curator.engines.tries import OVERTAKEN, Try, failed_try, note
from curator.engines.wrapper import Request, Result, WrapperEngine
from curator.errors import ConfigError
from curator.types import Usage

BURST: Final = 10.0
"""Hedges that may be saved up by requests that needed none."""

ONE: Final = 1 - 1e-9
"""Ten times 0.1, added up, is less than 1."""


@dataclass(frozen=True, slots=True)
class HedgeSettings:
    """At most `share` of the requests are hedged, after `delay` seconds; where that is None, after the `quantile` of
    the last `window` latencies, once there are `least` of them."""

    share: float = 0.05
    delay: float | None = None
    quantile: float = 0.95
    window: int = 500
    least: int = 50

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and 0 < self.quantile < 1):
            raise ConfigError(f"a hedge's share ({self.share}) and quantile ({self.quantile}) must lie between 0 and 1")
        if not 1 <= self.least <= self.window or (self.delay is not None and self.delay < 0):
            raise ConfigError(f"{self} makes no sense", hint="1 <= least <= window, no negative delay")


class Latencies:
    """The last `window` latencies, and their quantiles."""

    def __init__(self, window: int) -> None:
        self._last: deque[float] = deque()
        self._sorted: list[float] = []
        self._window = window

    def __len__(self) -> int:
        return len(self._last)

    def add(self, seconds: float) -> None:
        """Add the latest; the oldest leaves."""
        if len(self._last) == self._window:
            del self._sorted[bisect_left(self._sorted, self._last.popleft())]
        self._last.append(seconds)
        insort(self._sorted, seconds)

    def quantile(self, share: float) -> float:
        """The least of them that at least `share` do not exceed."""
        return self._sorted[min(len(self._sorted) - 1, int(share * len(self._sorted)))]


class HedgeEngine(WrapperEngine):
    """Races a slow call of `inner` against a second one on another of its replicas.

    The slower of the two is cancelled, counted in the answer's `usage.calls`, and noted (`curator.engines.tries`).
    A failure of one of them is forgotten if the other answers; if both fail, the first one's is raised. Decisions and
    texts have latencies of their own; streams are passed on.
    """

    def __init__(
        self, inner: Replicas, settings: HedgeSettings | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(inner)
        self.settings = settings or HedgeSettings()
        self.requests = self.hedged = 0
        self._clock = clock
        self._credit = 0.0
        self._latencies: dict[type, Latencies] = {}

    async def around(self, call: Callable[[Request], Awaitable[Result]], request: Request) -> Result:
        latencies = self._latencies.setdefault(type(request), Latencies(self.settings.window))
        self.requests += 1
        self._credit = min(BURST, self._credit + self.settings.share)
        delay, began = self._delay(latencies), self._clock()
        result = await (call(request) if delay is None else self._hedged(call, request, delay))
        latencies.add(self._clock() - began)
        return result

    def _delay(self, latencies: Latencies) -> float | None:
        """Seconds to wait before a second attempt; None where there can be none."""
        if self._credit < ONE:
            return None
        if self.settings.delay is not None:
            return self.settings.delay
        return latencies.quantile(self.settings.quantile) if len(latencies) >= self.settings.least else None

    async def _hedged(self, call: Callable[[Request], Awaitable[Result]], request: Request, delay: float) -> Result:
        spread = Spread()
        racers = [_Racer(call, request, spread, self._clock, current_purpose())]
        try:
            await asyncio.wait([racers[0].task], timeout=delay)
            if not racers[0].task.done() and self._credit >= ONE:
                self._credit -= 1
                self.hedged += 1
                racers.append(_Racer(call, request, Spread(spread.tried), self._clock, "hedge"))
            winner = await _first(racers)
            losers = [racer for racer in racers if racer is not winner]
            await _stop(losers)
            result = self._settled(winner, losers)
        finally:
            await _stop(racers)
        return result

    def _settled(self, winner: _Racer[Result], losers: Sequence[_Racer[Result]]) -> Result:
        """The winner's answer (or failure), with the calls of those that lost. One that was not sent costs nothing."""
        calls = sum(len(loser.spread.at) for loser in losers)
        for loser in losers:
            if loser.spread.at:
                note(loser.lost())
            else:
                self._credit += 1
                self.hedged -= 1
        result = winner.task.result()
        return replace(result, usage=result.usage + Usage(calls=calls)) if calls else result


class _Racer(Generic[Result]):
    """One call of a request, on its way."""

    def __init__(
        self,
        call: Callable[[Request], Awaitable[Result]],
        request: Request,
        spread: Spread,
        clock: Callable[[], float],
        why: Purpose,
    ) -> None:
        self.spread = spread
        self._clock = clock
        self._began = clock()
        with spreading(spread), purpose(why):
            self.task: asyncio.Future[Result] = asyncio.ensure_future(call(request))

    @property
    def answered(self) -> bool:
        return self.task.done() and not self.task.cancelled() and self.task.exception() is None

    def lost(self) -> Try:
        """What is known of a call that another one overtook, or that failed."""
        name, seconds = self.spread.at[-1], self._clock() - self._began
        if self.task.cancelled():
            return Try(name, OVERTAKEN, seconds)
        if (error := self.task.exception()) is not None:
            return failed_try(name, error, seconds)
        result = self.task.result()
        return Try(name, OVERTAKEN, seconds, replace(result.usage, calls=0), result.cost)


async def _first(racers: Sequence[_Racer[Result]]) -> _Racer[Result]:
    """The first that answers; where all fail, the first that was sent."""
    pending = {racer.task for racer in racers}
    while pending:
        _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if (winner := next((racer for racer in racers if racer.answered), None)) is not None:
            return winner
    return racers[0]


async def _stop(racers: Sequence[_Racer[Result]]) -> None:
    """Cancel what still runs, and wait until it has ended."""
    running = [racer.task for racer in racers if racer.task.cancel()]
    if running:
        await asyncio.gather(*running, return_exceptions=True)
