"""The mock server in a thread, for tests that run what people are shown."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from benchmarks.mock_server import MockServer


@contextmanager
def serving(*, labels: Sequence[str] = ("positive", "negative"), speaks: Sequence[str] = ("chat",)) -> Iterator[str]:
    """Serve until the end of the block; yields the URL, which ends in /v1."""
    server = MockServer(speaks, labels)
    ready, loop = threading.Event(), asyncio.new_event_loop()
    stopped = asyncio.Event()

    async def run() -> None:
        async with server:
            ready.set()
            await stopped.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server.url
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
        loop.close()
