"""From a policy's file to a cascade that runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cascade.artifact import load
from cascade.policy import TierRecord
from cascade.router import Cascade
from cascade.rulebook import Uncertified
from curator.engines import connect
from curator.engines.base import Engine
from curator.engines.wrappers import wrap
from curator.errors import ConfigError
from curator.types import Price


def open_cascade(
    path: str | Path,
    *,
    tiers: Mapping[str, str | Engine] | None = None,
    key: Path | None = None,
    uncertified: Uncertified = "teacher",
    fallback: bool = True,
) -> Cascade:
    """The cascade that the policy in the file `path` describes.

    Tiers are connected as the policy recorded them, with retries, spans and prices around each. `tiers` (name -> spec)
    says where one is found now, or where the policy does not say; an engine in place of a spec is taken as it is.
    With `key`, the PEM file of a public key, only a policy that this key's owner signed is opened. Nothing is loaded
    before the first request, as far as the engines allow.
    Raises: as `cascade.artifact.load`; ConfigError for a tier without a spec, or other models than the policy's; what
    `curator.connect` raises.
    """
    policy = load(Path(path), key=key)
    given = tiers or {}
    if unknown := sorted(set(given) - {tier.name for tier in policy.tiers}):
        raise ConfigError(
            f"{unknown[0]!r} is no tier of {path}", hint=f"tiers: {', '.join(tier.name for tier in policy.tiers)}"
        )
    engines = {tier.name: _open(tier, given.get(tier.name) or tier.spec, policy.currency) for tier in policy.tiers}
    return Cascade(engines, policy, uncertified=uncertified, fallback=fallback)


def _open(tier: TierRecord, found: str | Engine, currency: str) -> Engine:
    if not isinstance(found, str):
        return found
    if not found:
        raise ConfigError(
            f"the policy does not say where tier {tier.name!r} is found", hint=f"pass tiers={{'{tier.name}': '...'}}"
        )
    price = None if tier.price is None else Price(*tier.price, currency, "policy")
    return wrap(connect(found), price=price)
