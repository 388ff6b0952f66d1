"""A request's time limit, known to everything that works for it, and an engine that keeps to it.

    with deadline(30):
        await engine.decide(request)    # each attempt inside has what is left of the 30 seconds

The limit travels in a context variable, so that tasks started for the request have it too.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar

from curator.engines.base import Engine
from curator.engines.context import Setting
from curator.engines.pieces import streamed
from curator.engines.wrapper import Request, Result, WrapperEngine
from curator.errors import ConfigError, DeadlineError, EngineTimeoutError
from curator.types import Delta, GenerateRequest

_end: ContextVar[float] = ContextVar("deadline", default=math.inf)
"""When the request's time is over, by the event loop's clock."""


def deadline(seconds: float) -> Setting[float]:
    """Whatever is done inside has so many seconds, or what is left of a limit that is already set, if that is less.
    It bounds attempts of a model and waits between them; it does not interrupt anything by itself."""
    return Setting(_end, min(_end.get(), asyncio.get_running_loop().time() + seconds))


def time_left() -> float:
    """Seconds that the current request has left (not above 0: its time is over); infinity where nobody set a limit."""
    end = _end.get()
    return math.inf if end == math.inf else end - asyncio.get_running_loop().time()


class DeadlineEngine(WrapperEngine):
    """Every attempt ends after `timeout` seconds, or when the request's own time is over.

    The first is the model's fault (EngineTimeoutError), the second the request's (DeadlineError, also for a request
    whose time is over before it is sent). Of a stream, `timeout` bounds the wait for each piece.
    """

    def __init__(self, inner: Engine, timeout: float) -> None:
        super().__init__(inner)
        if not timeout > 0:
            raise ConfigError(f"timeout must be positive, not {timeout}", hint="seconds per attempt")
        self.timeout = timeout

    async def around(self, call: Callable[[Request], Awaitable[Result]], request: Request) -> Result:
        left = self._left()
        try:
            async with asyncio.timeout(min(self.timeout, left)):
                return await call(request)
        except TimeoutError:
            raise self._late(left) from None

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """The inner engine's pieces. Raises: as above, also in the middle."""
        left = self._left()
        async with aclosing(streamed(self.inner, request)) as pieces:
            while True:
                try:
                    async with asyncio.timeout(min(self.timeout, left)):
                        piece = await anext(pieces)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise self._late(left) from None
                yield piece
                left = max(0.0, time_left())

    def _left(self) -> float:
        if (left := time_left()) <= 0:
            raise DeadlineError(
                f"no time is left to ask {self.identity}", sent=False, hint="allow the request more time"
            )
        return left

    def _late(self, left: float) -> EngineTimeoutError:
        if left < self.timeout:
            return DeadlineError(
                f"no answer from {self.identity} in the {left:.3g} s that were left", sent=True, hint="allow more time"
            )
        return EngineTimeoutError(f"no answer from {self.identity} within {self.timeout:g} s", hint="raise `timeout`")
