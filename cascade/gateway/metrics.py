"""Gauges of the gateway's state, read when somebody collects. What is counted per request is in curator.telemetry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cascade.gateway.breaker import BreakerState
from cascade.gateway.gateway import Gateway
from curator import telemetry
from curator.telemetry import Attributes

REQUESTS: Final = "cascade.gateway.requests"
BREAKER: Final = "cascade.upstream.breaker"
LIVE_RISK: Final = "cascade.live.risk"
LIVE_LEVEL: Final = "cascade.live.level"
DROPPED: Final = "cascade.gateway.dropped"

STATES: Final = {BreakerState.CLOSED: 0.0, BreakerState.HALF_OPEN: 0.5, BreakerState.OPEN: 1.0}

Reading = tuple[float, Attributes]


def expose(gateway: Gateway) -> None:
    """Make the gateway's state readable as metrics, where an SDK keeps them."""
    if not telemetry.recording():
        return
    telemetry.observe(REQUESTS, "{request}", "Requests now, by state.", lambda: _requests(gateway))
    telemetry.observe(BREAKER, "{state}", "0 closed, 0.5 half open, 1 open, by upstream.", lambda: _breakers(gateway))
    telemetry.observe(LIVE_RISK, "{share}", "Risk by live audits: estimate, low and high.", lambda: _risks(gateway))
    telemetry.observe(LIVE_LEVEL, "{step}", "How far thresholds were tightened by alarms.", lambda: _levels(gateway))
    telemetry.observe(DROPPED, "{record}", "What was lost since the start, by what.", lambda: _dropped(gateway))


def _requests(gateway: Gateway) -> Iterator[Reading]:
    admission = gateway.admission
    yield admission.in_flight, {"state": "in_flight"}
    yield admission.waiting, {"state": "waiting"}
    yield admission.shed, {"state": "shed"}


def _breakers(gateway: Gateway) -> Iterator[Reading]:
    for tier, stack in gateway.stacks.items():
        for replica in stack.replicas.health:
            yield STATES[replica.state], {telemetry.TIER: tier, "upstream": replica.name}


def _risks(gateway: Gateway) -> Iterator[Reading]:
    for live in gateway.life.main.live.values():
        found = live.estimate()
        for bound, value in (("estimate", found.risk), ("low", found.low), ("high", found.high)):
            yield value, {telemetry.QUESTION: live.policy.name, "bound": bound}


def _levels(gateway: Gateway) -> Iterator[Reading]:
    for live in gateway.life.main.live.values():
        yield live.level, {telemetry.QUESTION: live.policy.name}


def _dropped(gateway: Gateway) -> Iterator[Reading]:
    yield gateway.life.audits.dropped, {"what": "audits"}
    yield gateway.life.rehearsals.dropped, {"what": "rehearsals"}
    yield gateway.access.billing.ledger.counts.dropped, {"what": "ledger entries"}
    if (writer := gateway.life.writer) is not None:
        yield writer.counts.dropped, {"what": "traffic records"}
