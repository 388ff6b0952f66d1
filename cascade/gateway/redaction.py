"""Logs without content: of an error only what quotes neither a user nor a model.

Messages of errors repeat what a server said, which may repeat the prompt. That helps the caller, who gets them, and has
no place in a log. An error of which nobody says what is safe is named by its class alone.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from curator.errors import AccessError, BudgetExceededError, ConfigError, GoldlessError, OverloadedError, StoreError

OURS: Final = (AccessError, BudgetExceededError, ConfigError, OverloadedError, StoreError)
"""Errors whose messages are made of settings and figures only."""


class Redaction(logging.Filter):
    """Takes content out of records: out of errors that are their arguments, and out of tracebacks, which keep their
    lines of code and lose the errors' messages."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true: the record is changed, not held back."""
        if isinstance(record.args, tuple):
            record.args = tuple(gist(arg) if isinstance(arg, BaseException) else arg for arg in record.args)
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = trace(record.exc_info[1])
            record.exc_info = None
        return True


@contextmanager
def redacted() -> Iterator[None]:
    """No content reaches the handlers that the root logger has now, for the length of the block."""
    handlers, redaction = list(logging.getLogger().handlers), Redaction()
    for handler in handlers:
        handler.addFilter(redaction)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(redaction)


def gist(error: BaseException) -> str:
    """What may be said of an error: its class, and its message or gist where that is safe."""
    name = type(error).__name__
    if isinstance(error, OURS):
        return f"{name}: {error}"
    said = error.gist if isinstance(error, GoldlessError) else ""
    return f"{name}: {said}" if said else name


def trace(error: BaseException) -> str:
    """A traceback whose errors are named by what may be said of them."""
    parts = []
    cause: BaseException | None = error
    while cause is not None:
        parts.append("".join(traceback.format_tb(cause.__traceback__)) + gist(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "\nbecause of\n".join(["Traceback (most recent call last):\n" + parts[0], *parts[1:]])
