"""The tiers that a server runs, shared by all policies that name them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from cascade.gateway.upstreams import Upstreams
from cascade.policy import Policy, TierRecord
from cascade.route import Cap
from cascade.router import Cascade
from cascade.rulebook import Uncertified

log = logging.getLogger(__name__)


class TierPool:
    """Opens each tier once, with `open_tier` (its record, the policy's currency). Another policy with the same tiers
    has the same engines, so that no model is loaded twice and nothing in flight is disturbed. `cap` is on all of them
    together."""

    def __init__(
        self,
        open_tier: Callable[[TierRecord, str], Upstreams],
        *,
        uncertified: Uncertified = "teacher",
        fallback: bool = True,
        cap: Cap | None = None,
    ) -> None:
        self._open_tier = open_tier
        self._uncertified = uncertified
        self._fallback = fallback
        self._cap = cap
        self._stacks: dict[tuple[str, str, str], Upstreams] = {}

    def cascade(self, policy: Policy) -> Cascade:
        """The cascade of a policy. Raises: ConfigError as `Cascade`, and what opening a tier raises."""
        engines = {tier.name: self.stack(tier, policy.currency).engine for tier in policy.tiers}
        return Cascade(engines, policy, uncertified=self._uncertified, fallback=self._fallback, cap=self._cap)

    def stack(self, tier: TierRecord, currency: str) -> Upstreams:
        """A tier; it is opened if it is not yet."""
        key = _key(tier, currency)
        if key not in self._stacks:
            self._stacks[key] = self._open_tier(tier, currency)
        return self._stacks[key]

    async def keep(self, policies: Sequence[Policy]) -> None:
        """Close the tiers that none of these policies has."""
        needed = {_key(tier, policy.currency) for policy in policies for tier in policy.tiers}
        await _closed([self._stacks.pop(key) for key in list(self._stacks) if key not in needed])

    async def aclose(self) -> None:
        """Close all engines; one that fails to close is said."""
        await _closed(self._stacks.values())


def _key(tier: TierRecord, currency: str) -> tuple[str, str, str]:
    return tier.name, tier.identity, f"{tier.spec} {tier.price} {currency}"


async def _closed(stacks: Iterable[Upstreams]) -> None:
    closing = [stack.engine.aclose() for stack in stacks]
    for failure in await asyncio.gather(*closing, return_exceptions=True):
        if isinstance(failure, Exception):
            log.warning("a tier was not closed in order: %s", failure)
