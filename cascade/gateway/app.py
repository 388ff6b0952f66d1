"""The HTTP application: routes, and what is answered where there is none."""

from __future__ import annotations

from aiohttp import HttpVersion11, web

from cascade.gateway import handlers, health, texts
from cascade.gateway.bodies import Refused
from cascade.gateway.gateway import Call, Gateway
from cascade.gateway.guard import Endpoint, guarded
from cascade.wire.faults import Fault

ENDPOINTS = (
    Endpoint("POST", "/v1/chat/completions", texts.chat),
    Endpoint("POST", "/v1/completions", texts.completions),
    Endpoint("POST", "/v1/responses", texts.responses),
    Endpoint("POST", "/v1/decisions", handlers.decisions),
    Endpoint("POST", "/v1/systemone", handlers.systemone, "systemone"),
    Endpoint("GET", "/v1/models", handlers.models),
    Endpoint("GET", "/v1/models/{model}", handlers.model),
    Endpoint("GET", "/healthz", health.alive, keyed=False),
    Endpoint("GET", "/readyz", health.ready, keyed=False),
    Endpoint("GET", "/metrics", health.metrics, keyed=False),
    Endpoint("GET", "/status", health.status),
    Endpoint("GET", "/openapi.json", health.openapi, keyed=False),
)


def build_app(gateway: Gateway) -> web.Application:
    """The application of one gateway. It holds no state of its own."""
    # One byte more, so that a body of exactly the most passes whatever aiohttp compares with.
    app = web.Application(client_max_size=gateway.settings.limits.body + 1)
    for one in ENDPOINTS:
        app.router.add_route(one.method, one.path, guarded(gateway, one), expect_handler=_expected)
    nothing = guarded(gateway, Endpoint("*", "", _nothing, keyed=False))
    app.router.add_route("*", "/{path:.*}", nothing, expect_handler=_expected)
    return app


async def _expected(request: web.Request) -> None:
    """Have a body sent for which the client waits. Any other expectation is read over, as RFC 9110 (10.1.1) allows;
    aiohttp's own way is a refusal in plain text."""
    if request.version >= HttpVersion11 and request.headers["Expect"].lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # The answer has not begun.
        request.writer.output_size = 0


async def _nothing(gateway: Gateway, request: web.Request, call: Call) -> web.StreamResponse:
    """There is no such path, or it has another method."""
    allowed = [one.method for one in ENDPOINTS if _matches(one.path, request.path)]
    if not allowed:
        text = f"there is no {request.path[:200]}"
        raise Refused(Fault(404, text, "invalid_request_error", "not_found"))
    text = f"{request.path[:200]} takes {' and '.join(allowed)}, not {request.method[:20]}"
    raise Refused(
        Fault(405, text, "invalid_request_error", "method_not_allowed"), headers={"Allow": ", ".join(allowed)}
    )


def _matches(pattern: str, path: str) -> bool:
    head, brace, _ = pattern.partition("{")
    return path == pattern if not brace else path.startswith(head) and "/" not in path[len(head) :] and path != head
