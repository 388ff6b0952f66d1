"""Around every handler: the request's id, its trace, its errors in the endpoint's shape, and its overhead."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from aiohttp import web

from cascade.gateway.bodies import Refused
from cascade.gateway.gateway import Call, Gateway
from cascade.wire.bodies import Stamp
from cascade.wire.faults import Dialect, Fault, fault
from curator import telemetry
from curator.errors import GoldlessError

log = logging.getLogger(__name__)

REQUEST_ID: Final = "x-request-id"
HEADERS: Final = {"Content-Type": "application/json", "Server": "goldless"}

Handler = Callable[[Gateway, web.Request, Call], Awaitable[web.StreamResponse]]
Served = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path, and whose shape its errors have. `keyed`: only who has a key, where keys are asked for,
    is let in."""

    method: str
    path: str
    handler: Handler
    dialect: Dialect = "openai"
    keyed: bool = True


def guarded(gateway: Gateway, endpoint: Endpoint) -> Served:
    """The handler as aiohttp calls it. Whatever it raises becomes an answer; a traceback only ever goes to the log."""

    async def serve(request: web.Request) -> web.StreamResponse:
        call = Call()
        try:
            if endpoint.keyed:
                call.key = gateway.access.identify(request.headers.get("Authorization"))
            with telemetry.continuing(request.headers):
                response = await endpoint.handler(gateway, request, call)
        except ConnectionError:
            # The client is gone: there is nobody to answer.
            raise
        except Exception as error:
            response = refusal(error, endpoint.dialect, call.id)
        if not response.prepared:
            response.headers[REQUEST_ID] = call.id
            if call.key is not None:
                response.headers.update(gateway.access.headers(call.key))
        telemetry.record_overhead(call.overhead, endpoint.path, response.status)
        return response

    return serve


def refusal(error: Exception, dialect: Dialect, request_id: str) -> web.Response:
    """The answer that tells of an error."""
    if isinstance(error, Refused):
        response = failed(error.fault, dialect, error.headers)
        if error.closes:
            response.force_close()
        return response
    tell(error, request_id)
    return failed(fault(error), dialect)


def tell(error: Exception, request_id: str) -> None:
    """Log what the client is not told."""
    if isinstance(error, GoldlessError):
        log.info("request %s failed: %s", request_id, error)
    else:
        log.error("a bug: request %s failed", request_id, exc_info=error)


def failed(found: Fault, dialect: Dialect = "openai", headers: Mapping[str, str] | None = None) -> web.Response:
    """A fault as an answer."""
    return answer(found.body(dialect), found.status_in(dialect), {**found.headers, **(headers or {})})


def answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(body=orjson.dumps(body), status=status, headers={**HEADERS, **(headers or {})})


def stamp(kind: str, call: Call, model: str) -> Stamp:
    """What names an answer: the request's id with the dialect's prefix."""
    return Stamp(f"{kind}-{call.id}", model, int(time.time()))
