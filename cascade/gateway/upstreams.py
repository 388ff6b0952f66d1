"""One tier's upstreams with everything around them that keeps it answering."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from cascade.gateway.breaker import BreakerSettings
from cascade.gateway.hedging import HedgeEngine, HedgeSettings
from cascade.gateway.replicas import OnState, Replicas
from curator.engines.base import Engine, EngineIdentity
from curator.engines.deadline import DeadlineEngine
from curator.engines.wrappers import RetryEngine, RetryPolicy

RETRY: Final = RetryPolicy(attempts=2, total=10.0, base=0.2, cap=2.0)
"""Of a tier: above it there is another one, which answers sooner than a long wait ends."""


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """`timeout` is seconds per attempt (of a stream: per piece). None leaves out retries or hedges,
    and is the usual breaker."""

    timeout: float = 60.0
    retry: RetryPolicy | None = RETRY
    hedge: HedgeSettings | None = None
    breaker: BreakerSettings | None = None


@dataclass(frozen=True, slots=True)
class Upstreams:
    """A tier's `engine`; `replicas` and `hedges` tell how its parts do."""

    engine: Engine
    replicas: Replicas
    hedges: HedgeEngine | None


def guard_upstreams(
    replicas: Mapping[str, Engine],
    settings: UpstreamSettings | None = None,
    *,
    identity: EngineIdentity | None = None,
    on_state: OnState | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Upstreams:
    """The engines in `replicas` (name -> engine) as one tier. Wrap each first (`curator.wrap` with `retry=None`): a
    slot, a span and a price are an attempt's own.

    From the outside in: retry (its wait holds nothing), hedge, choice of a replica, its breaker, the deadline of an
    attempt (which bounds the wait for a slot too). Raises: as `Replicas`.
    """
    chosen = settings or UpstreamSettings()
    timed = {name: DeadlineEngine(engine, chosen.timeout) for name, engine in replicas.items()}
    tier = Replicas(timed, identity=identity, settings=chosen.breaker, clock=clock, on_state=on_state)
    hedges = None if chosen.hedge is None else HedgeEngine(tier, chosen.hedge, clock)
    engine: Engine = hedges or tier
    if chosen.retry is not None:
        engine = RetryEngine(engine, chosen.retry)
    return Upstreams(engine, tier, hedges)
