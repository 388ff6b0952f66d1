"""Ctrl-C: once to stop in order, twice to leave at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPING = "stopping: what has been answered is being kept (Ctrl-C again: leave at once)"


@dataclass
class _Stop:
    """What the first signal stops, and whether it has come."""

    say: Callable[[str], None]
    loop: asyncio.AbstractEventLoop | None = None
    cancel: Callable[[], object] | None = None
    asked: bool = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            _leave(number)
        self.asked = True
        if self.loop is None or self.cancel is None or self.loop.is_closed():
            raise KeyboardInterrupt
        # Signal handlers run between two bytecodes of the main thread; the loop may be asleep.
        self.loop.call_soon_threadsafe(self.cancel)
        self.loop.call_soon_threadsafe(self.say, STOPPING)


def run(work: Coroutine[object, object, T], say: Callable[[str], None]) -> T:
    """Run `work` to its end.

    The first SIGINT or SIGTERM cancels it, so that it finishes its flush and notes that it was
    interrupted. The second leaves the process at once; what was answered is in the run's journal,
    which is written before anything else happens with an answer.

    Raises: KeyboardInterrupt after the first signal; whatever `work` raises.
    """
    stop = _Stop(say)
    with _handled(stop):
        return asyncio.run(_supervised(work, stop))


async def _supervised(work: Coroutine[object, object, T], stop: _Stop) -> T:
    task = asyncio.ensure_future(work)
    stop.loop, stop.cancel = asyncio.get_running_loop(), task.cancel
    try:
        return await task
    except asyncio.CancelledError:
        if stop.asked:
            raise KeyboardInterrupt from None
        raise


@contextlib.contextmanager
def _handled(stop: _Stop) -> Iterator[None]:
    """Until the end of the loop, and of the threads that it waits for, signals go to `stop`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int) -> None:
    """Leave without waiting for anything. Child processes (an in-process vLLM) are ended first."""
    if "multiprocessing" in sys.modules:
        import multiprocessing

        for child in multiprocessing.active_children():
            child.kill()
    os._exit(128 + number)
