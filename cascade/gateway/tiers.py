"""The tiers that a server runs, shared by all policies that name them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from cascade.gateway.upstreams import Upstreams
from cascade.policy import Policy, TierRecord
from cascade.route import Cap
from cascade.router import Cascade
from cascade.rulebook import Uncertified

log = logging.getLogger(__name__)


class _Key(NamedTuple):
    """What makes a tier another one. One that is no longer the last waits for less."""

    name: str
    identity: str
    spec: str
    price: tuple[float, float] | None
    currency: str
    last: bool


class TierPool:
    """Opens each tier once, with `open_tier` (its record, the policy's currency, whether it is the last).
    Another policy with the same tiers has the same engines, so that no model is loaded twice and nothing in flight is
    disturbed. `cap` is on all of them together."""

    def __init__(
        self,
        open_tier: Callable[[TierRecord, str, bool], Upstreams],
        *,
        uncertified: Uncertified = "teacher",
        fallback: bool = True,
        cap: Cap | None = None,
    ) -> None:
        self._open_tier = open_tier
        self._uncertified = uncertified
        self._fallback = fallback
        self._cap = cap
        self._stacks: dict[_Key, Upstreams] = {}

    def cascade(self, policy: Policy) -> Cascade:
        """The cascade of a policy. Raises: ConfigError as `Cascade`, and what opening a tier raises."""
        engines = {name: stack.engine for name, stack in self.stacks(policy).items()}
        return Cascade(engines, policy, uncertified=self._uncertified, fallback=self._fallback, cap=self._cap)

    def stacks(self, policy: Policy) -> dict[str, Upstreams]:
        """The tiers of a policy by name; they are opened if they are not yet."""
        return {key.name: self._stack(key, tier) for key, tier in _keys(policy).items()}

    def _stack(self, key: _Key, tier: TierRecord) -> Upstreams:
        if key not in self._stacks:
            self._stacks[key] = self._open_tier(tier, key.currency, key.last)
        return self._stacks[key]

    async def keep(self, policies: Sequence[Policy]) -> None:
        """Close the tiers that none of these policies has."""
        needed = {key for policy in policies for key in _keys(policy)}
        await _closed([self._stacks.pop(key) for key in list(self._stacks) if key not in needed])

    async def aclose(self) -> None:
        """Close all engines; one that fails to close is said."""
        await _closed(self._stacks.values())


def _keys(policy: Policy) -> dict[_Key, TierRecord]:
    found = {}
    for tier in policy.tiers:
        key = _Key(tier.name, tier.identity, tier.spec, tier.price, policy.currency, tier is policy.tiers[-1])
        found[key] = tier
    return found


async def _closed(stacks: Iterable[Upstreams]) -> None:
    closing = [stack.engine.aclose() for stack in stacks]
    for failure in await asyncio.gather(*closing, return_exceptions=True):
        if isinstance(failure, Exception):
            log.warning("a tier was not closed in order: %s", failure)
