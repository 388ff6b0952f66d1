"""What retries, replicas and hedges keep from the caller: calls of a model that did not give the answer.

    with noted() as tries:
        answer = await engine.decide(request)
    # `tries` has one entry per call that failed and was made up for, or was overtaken

Who makes up for a failure notes it, once; a failure that is raised is the caller's to note.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from curator.engines.context import Setting
from curator.errors import BudgetExceededError, CircuitOpenError, DeadlineError, OverloadedError
from curator.types import Usage

OVERTAKEN: Final = "overtaken"
"""Another call was faster: this one was stopped, or its answer not used."""

UNCOUNTED: Final = Usage(calls=0)


@dataclass(frozen=True, slots=True)
class Try:
    """One such call. `engine` says of what; `error` is the class of what failed, or `overtaken`; `latency` is seconds.

    `usage` has the tokens that are known, and no calls: those are in the answer's usage. `cost` is None where it is
    unknown.
    """

    engine: str
    error: str
    latency: float
    usage: Usage = UNCOUNTED
    cost: float | None = None


_notes: ContextVar[list[Try]] = ContextVar("tries")


def noted() -> Setting[list[Try]]:
    """Collect what is noted inside, also by tasks that are started there."""
    return Setting(_notes, [])


class overheard(Setting[list[Try]]):  # noqa: N801
    """The same, and whoever collects outside hears of them too."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(_notes, [])

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for tried in self._value:
            note(tried)


def note(tried: Try) -> None:
    """Note a call, where somebody collects."""
    if (notes := _notes.get(None)) is not None:
        notes.append(tried)


def failed_try(engine: str, error: BaseException, seconds: float) -> Try:
    """The entry for a call that failed with `error`, or was stopped."""
    stopped = isinstance(error, asyncio.CancelledError)
    return Try(engine, OVERTAKEN if stopped else type(error).__name__, seconds)


def was_sent(error: BaseException) -> bool:
    """Whether a model was called before `error` was raised."""
    if isinstance(error, DeadlineError):
        return error.sent
    return not isinstance(error, BudgetExceededError | CircuitOpenError | OverloadedError)
