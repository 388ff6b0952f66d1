"""Everything that can be put around an engine, and `wrap`, which does it in the right order.

From the outside in: retry (waits hold no slot), concurrency (a slot per attempt), budget (every attempt
is paid), tracing (a span per attempt), price (so that the span has the cost). A stream is retried before its
first piece only; slot, reservation and span are held until it ends or is closed. Whoever bills puts a
`MeteredEngine` around the engine first.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

from curator.engines.base import Engine
from curator.engines.budget import Account, Budget, BudgetEngine, Spent
from curator.engines.concurrency import ConcurrencyEngine
from curator.engines.metering import MeteredEngine
from curator.engines.pieces import streamed
from curator.engines.retry import RetryEngine, RetryPolicy
from curator.engines.tracing import TracingEngine
from curator.engines.wrapper import Request, Result, WrapperEngine
from curator.types import Delta, GenerateRequest, Price

__all__ = [
    "Account",
    "Budget",
    "BudgetEngine",
    "ConcurrencyEngine",
    "MeteredEngine",
    "PricedEngine",
    "RetryEngine",
    "RetryPolicy",
    "Spent",
    "TracingEngine",
    "WrapperEngine",
    "wrap",
]


DEFAULT_RETRY = RetryPolicy()


class PricedEngine(WrapperEngine):
    """Puts a cost on answers that have none."""

    def __init__(self, inner: Engine, price: Price) -> None:
        super().__init__(inner)
        self.price = price

    async def around(self, call: Callable[[Request], Awaitable[Result]], request: Request) -> Result:
        result = await call(request)
        return replace(result, cost=self.price.cost(result.usage)) if result.cost is None else result

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """The cost goes with the usage."""
        async with aclosing(streamed(self.inner, request)) as pieces:
            async for piece in pieces:
                if piece.usage is not None and piece.cost is None:
                    piece = replace(piece, cost=self.price.cost(piece.usage))
                yield piece


def wrap(
    engine: Engine,
    *,
    retry: RetryPolicy | None = DEFAULT_RETRY,
    concurrency: int | None = None,
    budget: Budget | Account | None = None,
    price: Price | None = None,
    trace: bool = True,
) -> Engine:
    """`engine` with the usual protections, assembled in one loop.

    `retry=None` leaves failures alone; `concurrency` is the most requests in flight (None: the
    engine's own); a budget on money needs `price`, its own or the one given here; `trace=False` leaves
    out spans and metrics.
    Raises: ConfigError for a budget on money without a price.
    """
    priced = isinstance(engine, PricedEngine)
    price = engine.price if price is None and isinstance(engine, PricedEngine) else price
    if isinstance(budget, Budget) and budget.price is None:
        budget = replace(budget, price=price)
    layers: list[Callable[[Engine], Engine] | None] = [
        None if price is None or priced else lambda inner: PricedEngine(inner, price),
        (lambda inner: TracingEngine(inner, price=price)) if trace else None,
        None if budget is None else lambda inner: BudgetEngine(inner, budget, price),
        lambda inner: ConcurrencyEngine(inner, limit=concurrency),
        None if retry is None else lambda inner: RetryEngine(inner, retry),
    ]
    for layer in layers:
        if layer is not None:
            engine = layer(engine)
    return engine
