"""Try again what may pass: exponential backoff with full jitter."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, replace

from curator.engines.base import Engine
from curator.engines.deadline import time_left
from curator.engines.exchanges import purpose
from curator.engines.pieces import streamed
from curator.engines.tries import failed_try, note, overheard
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
        run = _Run(self)
        while True:
            try:
                with overheard() as tries, purpose("retry") if run.calls else nullcontext():
                    result = await call(request)
            except RetryableEngineError as error:
                delay = run.failed(error, len(tries))
            else:
                return replace(result, usage=result.usage + Usage(calls=run.calls)) if run.calls else result
            await run.wait(delay)

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """Retries as long as there is no piece yet: a second answer cannot follow on the half of a first one."""
        run = _Run(self)
        while True:
            found = streamed(self.inner, request)
            async with aclosing(again(found) if run.calls else found) as pieces:
                try:
                    with overheard() as tries:
                        piece = await anext(pieces, None)
                except RetryableEngineError as error:
                    delay = run.failed(error, len(tries))
                else:
                    while piece is not None:
                        yield counted(piece, run.calls)
                        piece = await anext(pieces, None)
                    return
            await run.wait(delay)


class _Run:
    """One request's attempts so far; `calls` are those that the failed ones took."""

    def __init__(self, engine: RetryEngine) -> None:
        self.calls = 0
        self._engine = engine
        self._failures = 0
        self._now = asyncio.get_running_loop().time
        self._start = self._began = self._now()

    def failed(self, error: RetryableEngineError, tries: int) -> float:
        """Count and note an attempt that failed after so many other calls behind it. Returns the seconds until the
        next one. Raises: `error` where there is none."""
        policy, now = self._engine.policy, self._now()
        self._failures += 1
        delay = policy.delay(self._failures, error.retry_after)
        left = min(policy.total - (now - self._start), time_left())
        if self._failures >= policy.attempts or delay > left or not error.retryable:
            raise error
        self.calls += 1 + tries
        note(failed_try(str(self._engine.identity), error, now - self._began))
        log.debug("attempt %d failed, the next one in %.2f s: %s", self._failures, delay, error)
        return delay

    async def wait(self, delay: float) -> None:
        """Until the next attempt."""
        await asyncio.sleep(delay)
        self._began = self._now()


async def again(pieces: AsyncGenerator[Delta, None]) -> AsyncGenerator[Delta, None]:
    """The pieces of a second attempt. The purpose is set step by step, and to close: between two steps the caller's own
    code runs in this context."""
    try:
        while True:
            with purpose("retry"):
                piece = await anext(pieces, None)
            if piece is None:
                return
            yield piece
    finally:
        with purpose("retry"):
            await pieces.aclose()


def counted(piece: Delta, calls: int) -> Delta:
    """The piece with so many failed calls in its usage."""
    if piece.usage is None or not calls:
        return piece
    return replace(piece, usage=piece.usage + Usage(calls=calls))
