"""What stands around a tier's upstreams, assembled in one place.

From the outside in: retries over all replicas, hedging, the choice of a replica, its circuit breaker, and around each
upstream the time limit of an attempt, a slot per attempt, the span, the price, and innermost the meter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cascade.gateway.billing import Billing
from cascade.gateway.escalation import EscalationCap, EscalationSettings
from cascade.gateway.hedging import HedgeEngine, HedgeSettings
from cascade.gateway.replicas import Replicas
from cascade.gateway.settings import ServeSettings
from cascade.policy import TierRecord
from curator.engines.base import Engine
from curator.engines.deadline import DeadlineEngine
from curator.engines.metering import Meter, MeteredEngine
from curator.engines.retry import RetryEngine, RetryPolicy
from curator.engines.wrappers import wrap
from curator.types import Price


@dataclass(frozen=True, slots=True)
class Stack:
    """A tier as it is asked. `engine` is the outermost layer; `replicas` knows how its upstreams are."""

    engine: Engine
    replicas: Replicas


def stacked(
    upstreams: Mapping[str, Engine], settings: ServeSettings, tier: str, *, price: Price | None, billing: Billing
) -> Stack:
    """The upstreams (name -> engine, the one that the policy names first) of one tier as one engine.

    Raises: ConfigError where they are not of one model.
    """
    given, seconds = settings.resilience, settings.limits.seconds
    first = next(iter(upstreams.values()))
    meter = billing.meter(tier, first.identity.model, price)
    replicas = Replicas({name: _one(engine, given.timeout, price, meter) for name, engine in upstreams.items()})
    engine: Engine = replicas
    if given.hedge and len(upstreams) > 1:
        engine = HedgeEngine(replicas, HedgeSettings(share=given.hedge))
    if given.attempts > 1:
        engine = RetryEngine(engine, RetryPolicy(given.attempts, total=seconds, base=0.1, cap=2.0))
    return Stack(engine, replicas)


def price_of(tier: TierRecord, currency: str) -> Price | None:
    """The price that a tier was certified with."""
    return None if tier.price is None else Price(*tier.price, currency, "policy")


def cap_of(settings: ServeSettings) -> EscalationCap | None:
    """The cap on escalations, if there is one."""
    given = settings.resilience
    if given.escalation == 1 and given.escalation_money is None:
        return None
    share = None if given.escalation == 1 else given.escalation
    return EscalationCap(EscalationSettings(share, given.escalation_money, beyond=given.capped))


def _one(engine: Engine, timeout: float, price: Price | None, meter: Meter) -> Engine:
    return DeadlineEngine(wrap(MeteredEngine(engine, meter), retry=None, price=price), timeout)
