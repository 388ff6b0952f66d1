"""The tiers that a server runs, shared by all policies that name them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from cascade.policy import Policy, TierRecord
from cascade.router import Cascade
from cascade.rulebook import Uncertified
from curator.engines.base import Engine

log = logging.getLogger(__name__)


@runtime_checkable
class Ready(Protocol):
    """An engine that knows whether a call would be sent anywhere now."""

    @property
    def ready(self) -> bool: ...


class TierPool:
    """Opens each tier once, with `open_tier` (its record, the policy's currency). Another policy with the same tiers
    has the same engines, so that no model is loaded twice and nothing in flight is disturbed."""

    def __init__(
        self,
        open_tier: Callable[[TierRecord, str], Engine],
        *,
        uncertified: Uncertified = "teacher",
        fallback: bool = True,
    ) -> None:
        self._open_tier = open_tier
        self._uncertified = uncertified
        self._fallback = fallback
        self._engines: dict[tuple[str, str, str], Engine] = {}

    def cascade(self, policy: Policy) -> Cascade:
        """The cascade of a policy. Raises: ConfigError as `Cascade`, and what opening a tier raises."""
        engines = self.engines(policy)
        return Cascade(engines, policy, uncertified=self._uncertified, fallback=self._fallback)

    def engines(self, policy: Policy) -> Mapping[str, Engine]:
        """The engines by tier; those that are not there yet are opened."""
        return {tier.name: self._engine(tier, policy.currency) for tier in policy.tiers}

    def _engine(self, tier: TierRecord, currency: str) -> Engine:
        key = (tier.name, tier.identity, f"{tier.spec} {tier.price} {currency}")
        if key not in self._engines:
            self._engines[key] = self._open_tier(tier, currency)
        return self._engines[key]

    async def aclose(self) -> None:
        """Close all engines; one that fails to close is said."""
        closing = [engine.aclose() for engine in self._engines.values()]
        for failure in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(failure, Exception):
                log.warning("a tier was not closed in order: %s", failure)


def usable(engine: Engine) -> bool:
    """Whether an engine would send a call now; one that does not know is taken to."""
    return engine.ready if isinstance(engine, Ready) else True
