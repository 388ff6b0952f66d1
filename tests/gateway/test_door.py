"""cascade/gateway/door.py: who waits is let in, on both event loops."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import uvloop
from gateway_builders import running

from cascade.gateway import door
from cascade.gateway.door import Door
from curator.errors import ConfigError

LOOPS = [pytest.param(uvloop.new_event_loop, id="uvloop"), pytest.param(asyncio.new_event_loop, id="asyncio")]
Factory = Callable[[], asyncio.AbstractEventLoop]
CLIENTS = 60
ALIVE = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture(params=LOOPS)
def loop_factory(request: pytest.FixtureRequest) -> Factory:
    return request.param


def run(loop_factory: Factory, work: Callable[[], object]) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(work())


def connected(stack: ExitStack, address: tuple[str, int], count: int) -> list[socket.socket]:
    """Clients whose connections the kernel has made, whoever takes them."""
    return [stack.enter_context(socket.create_connection(address)) for _ in range(count)]


def test_all_who_wait_are_heard_within_a_few_turns_of_a_busy_loop(tmp_path: Path, loop_factory: Factory) -> None:
    """uvloop's own server takes one of them per turn: the last of sixty is heard after sixty."""

    async def work() -> None:
        async with running(tmp_path) as server:
            host, port = server.url.removeprefix("http://").split(":")
            with ExitStack() as stack:
                clients = connected(stack, (host, int(port)), CLIENTS)
                for client in clients:
                    client.sendall(ALIVE)
                    client.setblocking(False)
                turns, silent = 0, set(clients)
                while silent and turns < CLIENTS:
                    turns += 1
                    # Other requests' work: a turn of the loop takes long.
                    time.sleep(0.01)  # noqa: ASYNC251
                    await asyncio.sleep(0)
                    silent = {client for client in silent if not heard(client)}
        assert not silent
        assert turns < CLIENTS / 2

    run(loop_factory, work)


def heard(client: socket.socket) -> bool:
    try:
        return client.recv(100).startswith(b"HTTP/1.1 200")
    except BlockingIOError:
        return False


class Kept(asyncio.Protocol):
    """Counts connections, and keeps them open."""

    def __init__(self) -> None:
        self.transports: list[asyncio.BaseTransport] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transports.append(transport)


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not happened():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def test_where_there_is_no_room_for_a_connection_it_waits(loop_factory: Factory, monkeypatch) -> None:
    monkeypatch.setattr(door, "PAUSE", 0.05)

    class Full(socket.socket):
        tries = 0

        def accept(self) -> tuple[socket.socket, object]:
            Full.tries += 1
            if Full.tries < 3:
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    async def work() -> None:
        kept = Kept()
        opened = Door(lambda: kept)
        monkeypatch.setattr(socket, "socket", Full)
        address = await opened.open("127.0.0.1", 0)
        with ExitStack() as stack:
            connected(stack, address, 1)
            await until(lambda: bool(kept.transports))
            assert Full.tries >= 3
            opened.close()
            for transport in kept.transports:
                transport.close()

    run(loop_factory, work)


def test_a_door_that_is_closed_lets_nobody_in_and_keeps_who_is(loop_factory: Factory) -> None:
    async def work() -> None:
        kept = Kept()
        opened = Door(lambda: kept)
        address = await opened.open("127.0.0.1", 0)
        with ExitStack() as stack:
            connected(stack, address, 2)
            await until(lambda: len(kept.transports) == 2)
            opened.close()
            with pytest.raises(ConnectionRefusedError):
                connected(stack, address, 1)
            assert not any(transport.is_closing() for transport in kept.transports)
            for transport in kept.transports:
                transport.close()

    run(loop_factory, work)


def test_a_host_that_is_none_is_said(tmp_path: Path, loop_factory: Factory) -> None:
    async def work() -> None:
        with pytest.raises(ConfigError, match="cannot listen on no such host"):
            async with running(tmp_path, host="no such host"):
                pass

    run(loop_factory, work)
