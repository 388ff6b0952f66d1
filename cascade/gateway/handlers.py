"""The endpoints that decide, and those that say which models there are."""

from __future__ import annotations

from aiohttp import web

from cascade.gateway.bodies import read_json
from cascade.gateway.control import tier_of
from cascade.gateway.gateway import Call, Gateway
from cascade.gateway.guard import answer, stamp
from cascade.wire import decisions as decisions_wire
from cascade.wire import extras
from cascade.wire import models as models_wire
from cascade.wire import systemone as systemone_wire
from curator.types import DecideRequest


async def decisions(gateway: Gateway, request: web.Request, call: Call) -> web.StreamResponse:
    """`POST /v1/decisions`."""
    found = decisions_wire.parse(await read_json(request, gateway.settings.limits))
    gateway.control(call, request.headers, found.model)
    routed = await gateway.decide(call, _put(gateway, found.request))
    block = extras.decision_block(routed, gateway.currency, found.names)
    body = decisions_wire.reply(stamp("dec", call, found.model), found, routed, block)
    return answer(body, headers=extras.headers(routed, gateway.currency))


async def systemone(gateway: Gateway, request: web.Request, call: Call) -> web.StreamResponse:
    """`POST /v1/systemone`."""
    found = systemone_wire.parse(await read_json(request, gateway.settings.limits), gateway.settings.name)
    gateway.control(call, request.headers, found.model)
    routed = await gateway.decide(call, _put(gateway, found.request))
    names = [question.name for question in found.request.questions]
    block = extras.decision_block(routed, gateway.currency, names)
    body = systemone_wire.reply(stamp("dec", call, found.model), found, routed, block)
    return answer(body, headers=extras.headers(routed, gateway.currency))


async def models(gateway: Gateway, request: web.Request, call: Call) -> web.StreamResponse:
    """`GET /v1/models`."""
    return answer(models_wire.listing(gateway.tiers, _made(gateway), gateway.settings.name))


async def model(gateway: Gateway, request: web.Request, call: Call) -> web.StreamResponse:
    """`GET /v1/models/{model}`."""
    name = request.match_info["model"]
    tier_of(name, gateway.settings.name, gateway.tiers)
    return answer(models_wire.one(name, _made(gateway)))


def _put(gateway: Gateway, request: DecideRequest) -> DecideRequest:
    """The questions in the words that were certified."""
    return DecideRequest(request.state, request.questions, gateway.template, request.demonstrations)


def _made(gateway: Gateway) -> int:
    return int(gateway.life.main.policy.created.timestamp())
