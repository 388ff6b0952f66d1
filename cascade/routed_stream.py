"""A prompt's answer on its way to the caller, and what is known of it meanwhile."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from cascade.routed import Attempt, Routed, Served
from cascade.streaming import StreamRoute
from cascade.tracing import stream_span, tell_request
from curator import telemetry
from curator.types import Completion, Delta


@dataclass(frozen=True, slots=True)
class Known:
    """Which tier answers, and how the answer is served where that is decided already."""

    tier: str
    served: Served[Completion] | None


class RoutedStream:
    """An answer on its way. `pieces` is read once."""

    def __init__(self, route: StreamRoute, currency: str) -> None:
        self._route = route
        self._currency = currency

    @property
    def routed(self) -> Routed[Completion] | None:
        """How the request was answered; None before the end, and where there is none."""
        return self._route.routed

    @property
    def known(self) -> Known:
        """What is known of the answer now; from the first piece on at least its tier."""
        served = self._route.served
        return Known(self._route.passing if served is None else served.tier, served)

    @property
    def attempts(self) -> tuple[Attempt[Completion], ...]:
        """What was asked so far. Of a stream that failed or was closed too: all that is to be billed."""
        return self._route.attempts

    async def pieces(self) -> AsyncGenerator[Delta, None]:
        """The answer. The span of the request is open until it ends or is closed.

        Raises: as `StreamRoute.pieces`.
        """
        began, first = time.perf_counter(), True
        with stream_span(1) as current:
            self._route.watching = current is not None and current.is_recording()
            async with aclosing(self._route.pieces()) as pieces:
                while True:
                    # Attempts and judgements are spans inside this one; the caller's own work is not.
                    with telemetry.active(current):
                        piece = await anext(pieces, None)
                    if piece is None:
                        break
                    if first and current is not None:
                        current.set_attribute(telemetry.FIRST_CHUNK, time.perf_counter() - began)
                    first = False
                    yield piece
            if current is not None and self.routed is not None:
                tell_request(current, self.routed, self._currency)
