"""Try again what may pass: exponential backoff with full jitter."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from curator.engines.base import Engine
from curator.engines.pieces import streamed
from curator.engines.wrapper import Request, Result, WrapperEngine
from curator.errors import ConfigError, RetryableEngineError
from curator.types import Delta, GenerateRequest, Usage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most `attempts` tries within `total` seconds. Before retry k (from 0) it waits a uniformly
    random time of up to min(`cap`, `base` * 2**k) seconds ("full jitter": Brooker, AWS Architecture
    Blog 2015), or what the server asked for in Retry-After plus as much of `base`."""

    attempts: int = 6
    total: float = 300.0
    base: float = 0.5
    cap: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or min(self.total, self.base, self.cap) < 0:
            raise ConfigError(f"{self} makes no sense", hint="attempts >= 1, no negative times")

    def delay(self, failures: int, wish: float | None) -> float:
        """Seconds to wait after so many `failures` (at least 1)."""
        if wish is not None:
            return wish + random.uniform(0, self.base)
        return random.uniform(0, min(self.cap, self.base * 2 ** (failures - 1)))


class RetryEngine(WrapperEngine):
    """Retries errors that are `retryable`. The result's `usage.calls` counts the failed attempts.

    Raises: the last attempt's error when attempts or time are used up.
    """

    def __init__(self, inner: Engine, policy: RetryPolicy | None = None) -> None:
        super().__init__(inner)
        self.policy = policy or RetryPolicy()

    async def around(self, call: Callable[[Request], Awaitable[Result]], request: Request) -> Result:
        start = time.monotonic()
        failures = 0
        while True:
            try:
                result = await call(request)
            except RetryableEngineError as error:
                failures += 1
                await self._wait(error, failures, start)
                continue
            return replace(result, usage=result.usage + Usage(calls=failures)) if failures else result

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """Retries as long as there is no piece yet: a second answer cannot follow on the half of a first one."""
        start = time.monotonic()
        failures, begun = 0, False
        while True:
            try:
                async with aclosing(streamed(self.inner, request)) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield _counted(piece, failures) if failures else piece
                return
            except RetryableEngineError as error:
                if begun:
                    raise
                failures += 1
                await self._wait(error, failures, start)

    async def _wait(self, error: RetryableEngineError, failures: int, start: float) -> None:
        """Sleep before the next attempt, or raise `error` where there is none."""
        delay = self.policy.delay(failures, error.retry_after)
        left = self.policy.total - (time.monotonic() - start)
        if failures >= self.policy.attempts or delay > left:
            raise error
        log.debug("attempt %d failed, the next one in %.2f s: %s", failures, delay, error)
        await asyncio.sleep(delay)


def _counted(piece: Delta, failures: int) -> Delta:
    """The piece with the failed attempts in its usage."""
    return piece if piece.usage is None else replace(piece, usage=piece.usage + Usage(calls=failures))
