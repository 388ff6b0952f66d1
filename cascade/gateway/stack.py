"""A tier's upstreams as the settings want them: under the meter, priced, traced, and kept answering."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cascade.gateway.billing import Billing
from cascade.gateway.escalation import EscalationCap, EscalationSettings
from cascade.gateway.hedging import HedgeSettings
from cascade.gateway.settings import ServeSettings
from cascade.gateway.upstreams import RETRY, Upstreams, UpstreamSettings, guard_upstreams
from curator.engines.base import Engine
from curator.engines.metering import Meter, MeteredEngine
from curator.engines.retry import RetryPolicy
from curator.engines.wrappers import ConcurrencyEngine, PricedEngine, TracingEngine
from curator.types import Price


def stacked(
    upstreams: Mapping[str, Engine],
    settings: ServeSettings,
    tier: str,
    *,
    price: Price | None,
    billing: Billing,
    last: bool,
) -> Upstreams:
    """The upstreams (name -> engine, the one that the policy names first) of one tier as one engine. Only the `last`
    tier is tried as often as the settings say, for as long as a request may take: below it the next one answers sooner.

    Raises: ConfigError where they are not of one model.
    """
    given = settings.resilience
    meter = billing.meter(tier, next(iter(upstreams.values())).identity.model, price)
    each = {name: _one(engine, meter, price, settings.content) for name, engine in upstreams.items()}
    retry = RetryPolicy(given.attempts, total=settings.limits.seconds, base=0.1, cap=2.0)
    if not last:
        retry = replace(RETRY, attempts=min(given.attempts, RETRY.attempts))
    hedge = HedgeSettings(share=given.hedge) if given.hedge and len(each) > 1 else None
    return guard_upstreams(each, UpstreamSettings(given.timeout, retry if retry.attempts > 1 else None, hedge))


def _one(engine: Engine, meter: Meter, price: Price | None, content: bool) -> Engine:
    # The meter stands innermost, so that what a retry or a hedge throws away is billed too.
    metered: Engine = MeteredEngine(engine, meter)
    priced = metered if price is None else PricedEngine(metered, price)
    return ConcurrencyEngine(TracingEngine(priced, content=content, price=price))


def cap_of(settings: ServeSettings) -> EscalationCap | None:
    """The cap on escalations, if there is one."""
    given = settings.resilience
    if given.escalation == 1 and given.escalation_money is None:
        return None
    share = None if given.escalation == 1 else given.escalation
    return EscalationCap(EscalationSettings(share, given.escalation_money, beyond=given.capped))
