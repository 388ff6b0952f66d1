"""As many requests in flight as the server takes: additive increase, multiplicative decrease."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from curator.engines.base import Engine
from curator.engines.pieces import streamed
from curator.engines.wrapper import Request, Result, WrapperEngine
from curator.errors import ConfigError, EngineTimeoutError, RateLimitError
from curator.types import Delta, GenerateRequest


class ConcurrencyEngine(WrapperEngine):
    """Keeps at most `width` requests in flight and adapts it to 429s and timeouts.

    After every `width` answers: `width * (1 - share/2) + (1 - share)`, where `share` is the part of
    them that failed so, as DCTCP does with marked packets (Alizadeh et al., SIGCOMM 2010). So an
    overloaded server halves it, a stray 429 in fifty does not, and it settles where rejections are
    rare. Until the first failure it doubles ("slow start"). It stays between 1 and `limit`, by default
    the inner engine's `concurrency`.
    """

    def __init__(self, inner: Engine, start: int = 16, limit: int | None = None) -> None:
        super().__init__(inner)
        self.limit = inner.concurrency if limit is None else limit
        if min(start, self.limit) < 1:
            raise ConfigError(f"concurrency must be at least 1, not {min(start, self.limit)}")
        self.width = float(min(start, self.limit))
        self._slow_start = True
        self._busy = self._answered = self._congested = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def concurrency(self) -> int:
        return self.limit

    async def around(self, call: Callable[[Request], Awaitable[Result]], request: Request) -> Result:
        await self._enter()
        try:
            return await call(request)
        except (RateLimitError, EngineTimeoutError):
            self._congested += 1
            raise
        finally:
            self._leave()

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """The slot is held until the stream ends."""
        await self._enter()
        try:
            async with aclosing(streamed(self.inner, request)) as pieces:
                async for piece in pieces:
                    yield piece
        except (RateLimitError, EngineTimeoutError):
            self._congested += 1
            raise
        finally:
            self._leave()

    async def _enter(self) -> None:
        if self._busy < int(self.width) and not self._waiting:
            self._busy += 1
        else:
            await self._turn()

    def _leave(self) -> None:
        self._busy -= 1
        self._answered += 1
        if self._answered >= self.width:
            self._adapt()
        self._admit()

    async def _turn(self) -> None:
        """Wait in line. Who gives up after having been admitted lets the next one in."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._busy -= 1
                self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and self._busy < int(self.width):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._busy += 1

    def _adapt(self) -> None:
        share = self._congested / self._answered
        self._slow_start = self._slow_start and not self._congested
        wider = self.width * 2 if self._slow_start else self.width * (1 - share / 2) + 1 - share
        self.width = min(float(self.limit), max(1.0, wider))
        self._answered = self._congested = 0
