"""A server that streams what a script says, byte by byte if need be, and sees when its client hangs up.

async with StreamServer(chunks("It is", " 42")) as server: server.url
async with StreamServer([chunk("It is"), DROP]) as server: ...
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Self

import orjson
from aiohttp import web

from curator.types import Json, JsonObject


class Step(Enum):
    """What a script may do beside sending bytes and waiting (a number of seconds)."""

    DROP = "drop"
    """Abort the connection: no end of the body."""
    HANG = "hang"
    """Send nothing more, until the client goes."""


DROP: Final = Step.DROP
HANG: Final = Step.HANG
Script = Sequence[bytes | float | Step]
DONE: Final = b"data: [DONE]\n\n"
USAGE: Final[JsonObject] = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def event(body: object) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(body) + b"\n\n"


def chunk(text: str | None = None, *, index: int = 0, finish: str | None = None, **more: object) -> bytes:
    """One chunk; `logprobs` (numbers) become those of tokens, `usage` stands beside the choices, and what else is
    given goes into the delta."""
    logprobs, usage = more.pop("logprobs", None), more.pop("usage", None)
    delta = {**({} if text is None else {"content": text}), **more}
    choice: dict[str, object] = {"index": index, "delta": delta, "finish_reason": finish}
    if isinstance(logprobs, Sequence):
        choice["logprobs"] = {"content": [{"token": "t", "logprob": value, "top_logprobs": []} for value in logprobs]}
    return event({"choices": [choice], **({} if usage is None else {"usage": usage})})


def chunks(*texts: str, finish: str = "stop", usage: JsonObject | None = USAGE) -> list[bytes]:
    """A whole answer: a piece per text, its end, the usage if there is one, and [DONE]."""
    told = [] if usage is None else [event({"choices": [], "usage": usage})]
    return [chunk(role="assistant"), *(chunk(text) for text in texts), chunk(finish=finish), *told, DONE]


@dataclass
class StreamServer:
    """Answers every POST with `script`, or with what it makes of the request's body: a script, or a status and a body
    to answer with at once. `bodies` are the requests, `gone` counts the clients that hung up before the end."""

    script: Script | Callable[[JsonObject], Script | tuple[int, Json]]
    bodies: list[JsonObject] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    connections: set[object] = field(default_factory=set)
    gone: int = 0

    async def __aenter__(self) -> Self:
        self._changed = asyncio.Condition()
        self._runner = web.ServerRunner(web.Server(self._handle, handler_cancellation=True), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    async def until(self, happened: Callable[[], bool]) -> None:
        """Wait for something that a request or a client that hangs up brings about."""
        async with asyncio.timeout(30), self._changed:
            await self._changed.wait_for(happened)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body: JsonObject = orjson.loads(await request.read())
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.connections.add(request.transport)
        async with self._changed:
            self._changed.notify_all()
        script = self.script(body) if callable(self.script) else self.script
        if isinstance(script, tuple):
            return web.Response(status=script[0], body=orjson.dumps(script[1]), content_type="application/json")
        try:
            return await self._play(request, script)
        except (asyncio.CancelledError, ConnectionError):
            async with self._changed:
                self.gone += 1
                self._changed.notify_all()
            raise

    async def _play(self, request: web.BaseRequest, script: Script) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for step in script:
            if isinstance(step, bytes):
                await response.write(step)
            elif isinstance(step, float):
                await asyncio.sleep(step)
            elif step is Step.HANG:
                await asyncio.Event().wait()
            elif request.transport is not None:
                request.transport.abort()
                return response
        await response.write_eof()
        return response
