"""Around every handler: the request's id, its trace, its errors in the endpoint's shape, and its overhead."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import orjson
from aiohttp import web

from cascade.gateway.bodies import Refused
from cascade.gateway.gateway import Call, Gateway
from cascade.wire.faults import Dialect, Fault, fault
from curator import telemetry
from curator.errors import GoldlessError

log = logging.getLogger(__name__)

REQUEST_ID: Final = "x-request-id"
JSON: Final = "application/json"

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
    if not isinstance(error, GoldlessError):
        log.error("a bug: request %s failed", request_id, exc_info=error)
    else:
        log.info("request %s failed: %s", request_id, error)
    return failed(fault(error), dialect)


def failed(found: Fault, dialect: Dialect = "openai", headers: Mapping[str, str] | None = None) -> web.Response:
    """A fault as an answer."""
    return answer(found.body(dialect), found.status_in(dialect), {**found.headers, **(headers or {})})


def answer(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type=JSON)
