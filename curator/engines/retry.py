"""Try again what may pass: exponential backoff with full jitter."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from curator.engines.base import Engine
from curator.engines.deadline import time_left
from curator.engines.exchanges import purpose
from curator.engines.pieces import streamed
from curator.engines.tries import failed_try, note
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
    """Retries errors that are `retryable`, as long as the request has time (`curator.engines.deadline`). The result's
    `usage.calls` counts the failed attempts; each is noted (`curator.engines.tries`).

    Raises: the last attempt's error when attempts or time are used up.
    """

    def __init__(self, inner: Engine, policy: RetryPolicy | None = None) -> None:
        super().__init__(inner)
        self.policy = policy or RetryPolicy()

    async def around(self, call: Callable[[Request], Awaitable[Result]], request: Request) -> Result:
        now = asyncio.get_running_loop().time
        start = began = now()
        failures = 0
        while True:
            try:
                with _again(failures):
                    result = await call(request)
            except RetryableEngineError as error:
                failures += 1
                delay = self._delay(error, failures, now() - start)
                note(failed_try(str(self.identity), error, now() - began))
            else:
                return replace(result, usage=result.usage + Usage(calls=failures)) if failures else result
            await asyncio.sleep(delay)
            began = now()

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """Retries as long as there is no piece yet: a second answer cannot follow on the half of a first one."""
        now = asyncio.get_running_loop().time
        start = began = now()
        failures = 0
        while True:
            begun, pieces = False, streamed(self.inner, request)
            try:
                # The purpose is that of a step: between two the caller's own code runs in this context.
                with _again(failures):
                    piece = await anext(pieces, None)
                while piece is not None:
                    begun = True
                    yield counted(piece, failures)
                    with _again(failures):
                        piece = await anext(pieces, None)
                return
            except RetryableEngineError as error:
                if begun:
                    raise
                failures += 1
                delay = self._delay(error, failures, now() - start)
                note(failed_try(str(self.identity), error, now() - began))
            finally:
                with _again(failures):
                    await pieces.aclose()
            await asyncio.sleep(delay)
            began = now()

    def _delay(self, error: RetryableEngineError, failures: int, spent: float) -> float:
        """Seconds until the next attempt. Raises: `error` where there is none."""
        delay = self.policy.delay(failures, error.retry_after)
        left = min(self.policy.total - spent, time_left())
        if failures >= self.policy.attempts or delay > left or not error.retryable:
            raise error
        log.debug("attempt %d failed, the next one in %.2f s: %s", failures, delay, error)
        return delay


def _again(failures: int) -> AbstractContextManager[None]:
    """The purpose of a call after so many failures."""
    return purpose("retry") if failures else nullcontext()


def counted(piece: Delta, failures: int) -> Delta:
    """The piece with the failed attempts in its usage."""
    if piece.usage is None or not failures:
        return piece
    return replace(piece, usage=piece.usage + Usage(calls=failures))
