"""From a policy's file to a cascade that runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from cascade.policy import Policy, TierRecord
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
    specs: Mapping[str, str] | None = None,
    uncertified: Uncertified = "teacher",
    fallback: bool = True,
) -> Cascade:
    """The cascade that the policy in the file `path` describes, with retries, spans and prices around each tier.

    Tiers are connected as the policy recorded them; `specs` (tier name -> spec) says where one is found now, or where
    the policy does not say. Nothing is loaded before the first request, as far as the engines allow.
    Raises: ConfigError for a file that is no policy, a tier without a spec, or other models than the policy's; what
    `curator.connect` raises.
    """
    policy = read_policy(Path(path))
    given = specs or {}
    if unknown := sorted(set(given) - {tier.name for tier in policy.tiers}):
        raise ConfigError(
            f"specs names {unknown[0]!r}, which is no tier of {path}",
            hint=f"tiers: {', '.join(tier.name for tier in policy.tiers)}",
        )
    tiers = {tier.name: _open(tier, given.get(tier.name) or tier.spec, policy.currency) for tier in policy.tiers}
    return Cascade(tiers, policy, uncertified=uncertified, fallback=fallback)


def read_policy(path: Path) -> Policy:
    """Raises: ConfigError for a file that cannot be read, or is no policy."""
    try:
        return Policy.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"the policy {path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(f"{path} is no policy: {where}: {first['msg']}", hint="make one with certify") from None


def _open(tier: TierRecord, spec: str, currency: str) -> Engine:
    if not spec:
        raise ConfigError(
            f"the policy does not say where tier {tier.name!r} is found", hint=f"pass specs={{'{tier.name}': '...'}}"
        )
    price = None if tier.price is None else Price(*tier.price, currency, "policy")
    return wrap(connect(spec), price=price)
