"""The endpoints that answer with text, whole or streamed: chat completions, completions, responses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from cascade.gateway.bodies import read_json
from cascade.gateway.gateway import Call, Gateway
from cascade.gateway.guard import REQUEST_ID, answer, stamp, tell
from cascade.routed import Routed
from cascade.routed_stream import RoutedStream
from cascade.wire import (
    answers,
    extras,
    sse,
)
from cascade.wire import (
    chat as chat_wire,
)
from cascade.wire import (
    completions as completions_wire,
)
from cascade.wire import (
    responses as responses_wire,
)
from cascade.wire.chunks import Chunks
from cascade.wire.faults import Fault, fault
from curator.engines.readout import together
from curator.types import ChatRequest, Completion, Delta, JsonObject


class Bodies(Protocol):
    """What turns the pieces of an answer into a dialect's."""

    def piece(self, delta: Delta) -> list[JsonObject]: ...

    def end(self, routed: Routed[Completion], block: JsonObject) -> list[JsonObject]: ...


@dataclass(frozen=True, slots=True)
class Shape:
    """How a dialect streams: its bodies, those before the first and of a stream that broke, and their frame."""

    bodies: Bodies
    start: Callable[[], list[JsonObject]] = list
    fail: Callable[[Fault], list[JsonObject]] = lambda found: [found.body()]
    frame: Callable[[JsonObject], bytes] = sse.data
    last: bytes = sse.DONE


async def chat(gateway: Gateway, request: web.Request, call: Call) -> web.StreamResponse:
    """`POST /v1/chat/completions`."""
    limits = gateway.settings.limits
    found = chat_wire.parse(await read_json(request, limits), limits.max_tokens)
    gateway.control(call, request.headers, found.model)
    mark = stamp("chatcmpl", call, found.model)
    if found.stream:
        return await _stream(gateway, request, call, found.request, Shape(Chunks(mark, found)))
    routed = await gateway.generate(call, found.request)
    block = extras.text_block(routed, gateway.currency)
    return answer(chat_wire.reply(mark, found, routed, block), headers=extras.headers(routed, gateway.currency))


async def completions(gateway: Gateway, request: web.Request, call: Call) -> web.StreamResponse:
    """`POST /v1/completions`."""
    found = completions_wire.parse(await read_json(request, gateway.settings.limits))
    gateway.control(call, request.headers, found.model)
    mark = stamp("cmpl", call, found.model)
    if found.stream:
        shape = Shape(completions_wire.TextChunks(mark, found))
        return await _stream(gateway, request, call, found.requests[0], shape)
    asked = [gateway.generate(call, one, part=place) for place, one in enumerate(found.requests)]
    routed = await together(asked)
    blocks = [extras.text_block(one, gateway.currency) for one in routed]
    body = completions_wire.reply(mark, found, routed, blocks[0] if len(blocks) == 1 else list(blocks))
    return answer(body, headers=extras.headers(routed[0], gateway.currency) if len(routed) == 1 else None)


async def responses(gateway: Gateway, request: web.Request, call: Call) -> web.StreamResponse:
    """`POST /v1/responses`."""
    limits = gateway.settings.limits
    found = responses_wire.parse(await read_json(request, limits), limits.max_tokens)
    gateway.control(call, request.headers, found.model)
    mark = stamp("resp", call, found.model)
    if found.stream:
        events = answers.ResponseEvents(mark, found)
        shape = Shape(events, events.start, events.fail, sse.event, b"")
        return await _stream(gateway, request, call, found.request, shape)
    routed = await gateway.generate(call, found.request)
    block = extras.text_block(routed, gateway.currency)
    return answer(answers.reply(mark, found, routed, block), headers=extras.headers(routed, gateway.currency))


async def _stream(
    gateway: Gateway, request: web.Request, call: Call, asked: ChatRequest, shape: Shape
) -> web.StreamResponse:
    """The answer as server-sent events. What fails before its first piece is answered as for a whole one; later, the
    stream ends with an error event, and without what says that it is finished."""
    sender = _Sender(request, call, shape)
    try:
        async with gateway.stream(call, asked) as stream:
            sender.stream = stream
            await sender.pass_on(stream)
            if stream.routed is not None:
                await sender.send(shape.bodies.end(stream.routed, extras.text_block(stream.routed, gateway.currency)))
    except Exception as error:
        if isinstance(error, ConnectionError) or not sender.response.prepared:
            raise
        tell(error, call.id)
        await sender.send(shape.fail(fault(error)))
    else:
        await sender.response.write(shape.last)
    return sender.response


class _Sender:
    """Sends bodies as events; the response begins with the first."""

    def __init__(self, request: web.Request, call: Call, shape: Shape) -> None:
        headers = {"Content-Type": sse.MEDIA, "Cache-Control": "no-cache", REQUEST_ID: call.id}
        self.response = web.StreamResponse(headers=headers)
        self.stream: RoutedStream | None = None
        self._request = request
        self._shape = shape

    async def pass_on(self, stream: RoutedStream) -> None:
        async with aclosing(stream.pieces()) as pieces:
            async for delta in pieces:
                await self.send(self._shape.bodies.piece(delta))

    async def send(self, bodies: list[JsonObject]) -> None:
        if not bodies:
            return
        if not self.response.prepared:
            self.response.headers.update(self._known())
            await self.response.prepare(self._request)
            bodies = [*self._shape.start(), *bodies]
        await self.response.write(b"".join(map(self._shape.frame, bodies)))

    def _known(self) -> dict[str, str]:
        """Headers that tell what is known of the answer when it begins: of a draft that was held until it was judged
        all but the cost, of another one its tier."""
        if self.stream is None:
            return {}
        known = self.stream.known
        return {"x-goldless-tier": known.tier} if known.served is None else extras.answer_headers([known.served])
