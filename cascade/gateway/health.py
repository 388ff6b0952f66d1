"""What operators and their tools ask: is it alive, is it ready, what does it measure, what is in force."""

from __future__ import annotations

from aiohttp import web

from cascade.gateway.bodies import Refused
from cascade.gateway.gateway import Call, Gateway
from cascade.gateway.guard import answer
from cascade.gateway.openapi import document
from cascade.gateway.status import told
from cascade.wire.faults import Fault
from cascade.wire.models import names

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


async def alive(gateway: Gateway, request: web.Request, call: Call) -> web.StreamResponse:
    """200 as long as the process answers at all."""
    return answer({"status": "ok"})


async def ready(gateway: Gateway, request: web.Request, call: Call) -> web.StreamResponse:
    """200 where requests should be sent here; 503 while draining, and where the last tier cannot be asked."""
    able, found = gateway.ready()
    return answer(found, 200 if able else 503)


async def metrics(gateway: Gateway, request: web.Request, call: Call) -> web.StreamResponse:
    """Prometheus' text format."""
    if gateway.scrape is None:
        text = "metrics are not kept here: pip install 'goldless[serve]'"
        raise Refused(Fault(501, text, "server_error", "not_available"))
    return web.Response(body=gateway.scrape(), headers={"Content-Type": PROMETHEUS})


async def status(gateway: Gateway, request: web.Request, call: Call) -> web.StreamResponse:
    """The policies in force, what is certified, the live risk, and what is tried."""
    return answer(told(gateway))


async def openapi(gateway: Gateway, request: web.Request, call: Call) -> web.StreamResponse:
    """The description of this API."""
    return answer(document(names(gateway.tiers, gateway.settings.name)))
