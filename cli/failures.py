"""The one place where an exception becomes a message and an exit code."""

from __future__ import annotations

import contextlib
import logging
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from enum import IntEnum
from importlib import metadata
from pathlib import Path

from curator.errors import (
    BudgetExceededError,
    GoldlessError,
    InputError,
    MissingExtraError,
    StoreLockedError,
    WeightsError,
)


class Exit(IntEnum):
    """What a script learns from `$?`."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    BUDGET = 4
    BUSY = 5
    INTERRUPTED = 130


EXIT_HELP = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, setting or input, 3 done but some rows failed, "
    "4 budget reached, 5 store busy, 130 interrupted."
)


def exit_code(error: BaseException) -> Exit:
    """The exit code that `error` stands for."""
    match error:
        case KeyboardInterrupt():
            return Exit.INTERRUPTED
        case InputError() | MissingExtraError() | WeightsError():
            return Exit.USAGE
        case BudgetExceededError():
            return Exit.BUDGET
        case StoreLockedError():
            return Exit.BUSY
        case _:
            return Exit.FAILED


def explain(error: BaseException, complain: Callable[[str], None], *, debug: bool) -> Exit:
    """Say what went wrong, without a traceback unless `debug`.

    An exception that is not ours is a bug: its traceback goes to a file, and the message says where.
    """
    if debug:
        complain("".join(traceback.format_exception(error)))
    match error:
        case BaseExceptionGroup():
            return explain(root_cause(error), complain, debug=False)
        case KeyboardInterrupt():
            complain("interrupted")
        case GoldlessError():
            complain(f"error: {error.message}" + (f"\n  hint: {error.hint}" if error.hint else ""))
        case MemoryError():
            complain("error: out of memory\n  hint: a smaller model, fewer requests in flight, or more memory")
        case _:
            complain(f"error: a bug in goldless: {type(error).__name__}: {_first_line(error)}\n{_reported(error)}")
    return exit_code(error)


def root_cause(group: BaseException) -> BaseException:
    """The exception of a group that matters most: ours before others, others before a cancellation."""
    if not isinstance(group, BaseExceptionGroup):
        return group
    causes = [root_cause(error) for error in group.exceptions]
    return min(causes, key=lambda error: (not isinstance(error, GoldlessError), not isinstance(error, Exception)))


def _reported(error: BaseException) -> str:
    path = _write_report(error)
    where = f"  the traceback is in {path}" if path else "  run it again with --debug to see the traceback"
    return f"{where}\n  please report it to the project, with the command and the traceback"


def _write_report(error: BaseException) -> Path | None:
    from cli.config import state_folder

    text = f"goldless {version()}, Python {platform.python_version()}, {platform.platform()}\n"
    text += f"command: {' '.join(sys.argv[:2])}\n\n{''.join(traceback.format_exception(error))}"
    for folder in (state_folder(), Path(tempfile.gettempdir())):
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"crash-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 1000:03}.txt"
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
            return path
    logging.getLogger("goldless.cli").warning("the traceback could not be written to disk")
    return None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")


def version() -> str:
    """The installed version of goldless."""
    try:
        return metadata.version("goldless")
    except metadata.PackageNotFoundError:
        return "0 (not installed)"
