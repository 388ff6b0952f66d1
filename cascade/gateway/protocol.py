"""What is no HTTP is answered in JSON, too: aiohttp itself would answer in plain text, and quote what was sent."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, BadStatusLine, InvalidHeader, LineTooLong

from cascade.gateway.guard import failed
from cascade.wire.faults import Fault

NO_HTTP: Final = "invalid_request_error"
FAILED: Final = Fault(500, "the server failed; its log says why", "server_error", "internal_error")


class Protocol(web.RequestHandler):
    """One connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what no handler got to see, or failed at. Raises: ConnectionError where one has begun."""
        super().handle_error(request, status, exc, message)
        response = failed(FAILED if status >= 500 else malformed(exc))
        response.force_close()
        return response


class Server(web.Server):
    """Makes a `Protocol` per connection, and is otherwise as `made`."""

    def __init__(self, made: web.Server) -> None:
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            **made._kwargs,
        )

    def __call__(self) -> Protocol:
        return Protocol(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """Runs an application behind `Protocol`."""

    __slots__ = ()

    async def _make_server(self) -> Server:
        return Server(await super()._make_server())


def malformed(error: BaseException | None) -> Fault:
    """What to tell of a request that is no HTTP, without a word of it."""
    if isinstance(error, LineTooLong):
        return Fault(431, "a line of the request's head is too long", NO_HTTP, "headers_too_large")
    if isinstance(error, BadStatusLine | BadHttpMethod):
        return Fault(400, "the first line is no HTTP request", NO_HTTP, "invalid_http")
    if isinstance(error, InvalidHeader):
        return Fault(400, "a header is not as HTTP has it", NO_HTTP, "invalid_http")
    return Fault(400, "the request is not as HTTP has it", NO_HTTP, "invalid_http")
