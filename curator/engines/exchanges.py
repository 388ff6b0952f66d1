"""What every single exchange with a model took, noted where it happens: below retries, hedges and probes.

An engine's answer tells the usage of what became an answer. A bill needs more: the attempt that failed after the
server had counted its tokens, the probe of a dialect, the question whose neighbour failed. So `wire.Server.post` notes
each exchange, whatever becomes of it, and `metering.MeteredEngine` hears it.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from curator.engines.context import Setting
from curator.errors import EngineTimeoutError, InvalidOutputError, RefusalError, ServerError
from curator.types import Usage

BILLED: Final = (EngineTimeoutError, ServerError, InvalidOutputError, RefusalError, asyncio.CancelledError)
"""Failures after which the server may have read the prompt, and bill it."""

ABORTED: Final = asyncio.CancelledError.__name__
"""`Exchange.error` of a call whose answer nobody wanted any more."""

Purpose = Literal["request", "retry", "hedge", "probe", "audit"]
"""Why a model is called: for a request, again after a failure, beside a slow attempt, to find a signal's value or what
a server speaks, or to check an answer that was served (with the last tier, or with another policy)."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call of a model that has ended. `usage` is None where nobody told it: the call may have been billed, or not.
    `estimated` usage is what was seen of a stream that ended early. `cost` is the engine's own, where it tells one;
    `error` the class of what failed."""

    purpose: Purpose
    usage: Usage | None
    cost: float | None = None
    error: str = ""
    estimated: bool = False


class Listener(Protocol):
    """Who hears of exchanges."""

    def add(self, exchange: Exchange) -> None: ...


_purpose: ContextVar[Purpose] = ContextVar("goldless_purpose", default="request")
listener: ContextVar[Listener | None] = ContextVar("goldless_exchanges", default=None)
"""Who hears what is noted in this context."""


def purpose(why: Purpose) -> Setting[Purpose]:
    """Calls inside are made for this reason. What is tried again keeps the reason for which it was tried at first, and
    all that an audit takes is audit."""
    now = _purpose.get()
    kept = now == "audit" or (why == "retry" and now != "request")
    return Setting(_purpose, now if kept else why)


def current_purpose() -> Purpose:
    """Why calls are made in this context."""
    return _purpose.get()


def note(usage: Usage | None, error: BaseException | None = None, *, estimated: bool = False) -> None:
    """An exchange has ended; `usage` as the server told it, None where it did not. After a failure that shows that the
    model never read the prompt it is nothing."""
    if (hears := listener.get()) is None:
        return
    if usage is None and error is not None and not isinstance(error, (*BILLED, GeneratorExit)):
        usage = Usage()
    hears.add(Exchange(_purpose.get(), usage, error=error_name(error), estimated=estimated))


def error_name(error: BaseException | None) -> str:
    """The class of a failure. A stream that is closed and a task that is cancelled are the same here."""
    if error is None:
        return ""
    return ABORTED if isinstance(error, GeneratorExit) else type(error).__name__
