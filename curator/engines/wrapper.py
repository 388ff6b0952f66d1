"""The base of all wrappers: an engine around an engine, same interface in, same out."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import TypeVar

from curator.engines.base import Engine, EngineIdentity, Preview
from curator.engines.pieces import streamed
from curator.types import Capability, Completion, DecideRequest, Decisions, Delta, GenerateRequest

Request = TypeVar("Request", DecideRequest, GenerateRequest)
Result = TypeVar("Result", Decisions, Completion)


class WrapperEngine:
    """Passes everything on to `inner`. A wrapper overrides `around`, through which both kinds of call
    go, `stream`, which does the same piece by piece, and what else it changes."""

    def __init__(self, inner: Engine) -> None:
        self.inner = inner

    @property
    def identity(self) -> EngineIdentity:
        """Who answers: the inner engine."""
        return self.inner.identity

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The inner engine's."""
        return self.inner.capabilities

    @property
    def concurrency(self) -> int:
        """How many requests in flight keep the inner engine busy."""
        return self.inner.concurrency

    # Not `async` themselves: a request goes through many wrappers, and would take two coroutines for each.
    def decide(self, request: DecideRequest) -> Coroutine[object, None, Decisions]:
        """The inner engine's `decide`, through `around`."""
        return self.around(self.inner.decide, request)

    def generate(self, request: GenerateRequest) -> Coroutine[object, None, Completion]:
        """The inner engine's `generate`, through `around`."""
        return self.around(self.inner.generate, request)

    async def around(self, call: Callable[[Request], Awaitable[Result]], request: Request) -> Result:
        """One call; `call` is the inner engine's method."""
        return await call(request)

    def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """The inner engine's pieces. What a wrapper holds, it holds until the end, or until it is closed."""
        return streamed(self.inner, request)

    async def preview(self, request: DecideRequest) -> tuple[Preview, ...]:
        """What the inner engine would send."""
        return await self.inner.preview(request)

    async def aclose(self) -> None:
        """Close the inner engine."""
        await self.inner.aclose()
