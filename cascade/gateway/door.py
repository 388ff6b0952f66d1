"""Listening sockets from which every connection that waits is taken at once.

An event loop on libuv (uvloop) takes one connection per turn. Where turns are long, under load, that is slower than
clients come: they wait in the kernel's queue, where no time limit and no load shedding sees them, until they give up
and come again. What is taken in can at least be told to come back later.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

log = logging.getLogger(__name__)

BACKLOG: Final = 1024
"""Connections that the kernel keeps waiting, and at most so many are taken in one turn."""

Address = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
"""As `getaddrinfo` has it."""

FULL: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Why no connection can be taken although one waits: it goes on waiting, for `PAUSE` seconds."""

PAUSE: Final = 1.0


class Door:
    """Hands connections to `protocol`, as `loop.create_server` does."""

    def __init__(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._protocol = protocol
        self._sockets: list[socket.socket] = []
        self._entering: set[asyncio.Task[object]] = set()

    async def open(self, host: str, port: int) -> tuple[str, int]:
        """Listen on all addresses of `host`; returns the first, with its port.

        Raises: OSError where one cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, kind, _, _, address in dict.fromkeys(found):
                self._sockets.append(_listening(family, kind, address))
        except OSError:
            self.close()
            raise
        for one in self._sockets:
            loop.add_reader(one, self._take, one)
        name = self._sockets[0].getsockname()
        return name[0], name[1]

    def close(self) -> None:
        """Listen no more; what was taken in stays."""
        for one in self._sockets:
            asyncio.get_running_loop().remove_reader(one)
            one.close()
        self._sockets.clear()

    def _take(self, listener: socket.socket) -> None:
        """Take in whoever waits."""
        loop = asyncio.get_running_loop()
        for _ in range(BACKLOG):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in FULL:
                    raise
                log.error("no connection can be taken: %s", error)
                loop.remove_reader(listener)
                loop.call_later(PAUSE, self._listen_again, listener)
                return
            connection.setblocking(False)
            with suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            entering = loop.create_task(self._enter(connection))
            self._entering.add(entering)
            entering.add_done_callback(self._entering.discard)

    def _listen_again(self, listener: socket.socket) -> None:
        if listener in self._sockets:
            asyncio.get_running_loop().add_reader(listener, self._take, listener)

    async def _enter(self, connection: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        except OSError as error:
            log.debug("a client left before it was heard: %s", error)
            connection.close()


def _listening(family: int, kind: int, address: Address) -> socket.socket:
    """A socket that listens. Raises: OSError."""
    found = socket.socket(family, kind)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        found.setblocking(False)
        found.bind(address)
        found.listen(BACKLOG)
    except OSError:
        found.close()
        raise
    return found
