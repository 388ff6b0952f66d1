"""Listening, and stopping in order: nothing new is taken on, what is in flight is finished, counts are kept."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from cascade.gateway.app import build_app
from cascade.gateway.door import Door
from cascade.gateway.gateway import Gateway
from cascade.gateway.metrics import expose
from cascade.gateway.protocol import Runner
from curator.errors import ConfigError

log = logging.getLogger(__name__)

LINGER: Final = 2.0
"""Seconds in which the rest of a refused body is read, so that its sender gets to see the answer."""

SELDOM: Final = (20_000, 20, 20)
"""Thresholds of the garbage collector: what requests leave behind in cycles is little, and looking for it at the usual
pace takes a tenth of their time. Between two looks it is a few megabytes."""


async def serve(gateway: Gateway, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
    """Serve until `stop` is set, then drain. `ready` is told the address.

    Raises: ConfigError if the address cannot be listened on.
    """
    async with listening(gateway) as address:
        ready(address)
        await stop.wait()


@asynccontextmanager
async def listening(gateway: Gateway) -> AsyncIterator[str]:
    """The server for the length of the block; yields its address (`http://127.0.0.1:8080`).

    Raises: ConfigError if the address cannot be listened on.
    """
    limits = gateway.settings.limits
    runner = Runner(
        build_app(gateway),
        handle_signals=False,
        # A client that goes away takes its request's work with it.
        handler_cancellation=True,
        access_log=None,
        logger=_quiet(),
        keepalive_timeout=limits.idle_seconds,
        lingering_time=LINGER,
        shutdown_timeout=limits.drain_seconds,
    )
    await runner.setup()
    door = Door(served(runner))
    try:
        expose(gateway)
        address = await _listen(door, gateway.settings.host, gateway.settings.port)
        watcher = asyncio.create_task(gateway.life.watch())
        try:
            with _collecting_seldom():
                yield address
        finally:
            gateway.draining = True
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
    finally:
        door.close()
        await runner.cleanup()
        await gateway.life.finish(limits.drain_seconds)


def served(runner: web.AppRunner) -> web.Server:
    """What a runner that is set up makes of connections."""
    assert runner.server is not None
    return runner.server


@contextlib.contextmanager
def _collecting_seldom() -> Iterator[None]:
    """What is there now stays: the collector need not look at it again and again."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def _listen(door: Door, host: str, port: int) -> str:
    try:
        found, bound = await door.open(host, port)
    except OSError as error:
        # asyncio's own text repeats the address.
        why = os.strerror(error.errno) if error.errno else str(error)
        hint = (
            "name another with --port, or in serve.port"
            if error.errno == errno.EADDRINUSE
            else "see serve.host and serve.port"
        )
        raise ConfigError(f"cannot listen on {host} port {port}: {why}", hint=hint) from None
    shown = f"[{found}]" if ":" in found else found
    return f"http://{shown}:{bound}"


def _quiet() -> logging.Logger:
    """aiohttp's log without what is no failure of the server: clients that leave in the middle of a stream; and without
    what clients sent: of a request that is no HTTP it would show the header that is wrong."""
    quiet = logging.getLogger(f"{__name__}.aiohttp")
    if not quiet.filters:
        quiet.addFilter(_of_interest)
    return quiet


def _of_interest(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, ConnectionError):
        log.debug("a client left before the end of its answer")
        return False
    if isinstance(error, HttpProcessingError | web.RequestPayloadError):
        log.info("a client sent what is no HTTP request")
        return False
    return True
