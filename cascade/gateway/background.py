"""Work that nobody waits for, of which there is a bounded amount."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

from curator.errors import GoldlessError

log = logging.getLogger(__name__)


class Background:
    """Runs at most `most` coroutines at once; `start` says no to more. What fails is logged, and counted."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.dropped = self.failed = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Callable[[], Coroutine[object, object, None]]) -> bool:
        """Begin `work()`. False, counted as dropped, where too much is running."""
        if len(self._tasks) >= self.most:
            self.dropped += 1
            return False
        task = asyncio.ensure_future(self._run(work()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def finish(self, seconds: float) -> None:
        """Wait for what is running, cancel what takes longer."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, work: Coroutine[object, object, None]) -> None:
        try:
            await work
        except GoldlessError as error:
            self.failed += 1
            log.info("work in the background failed: %s", error)
        except Exception:
            self.failed += 1
            log.exception("a bug: work in the background failed")
