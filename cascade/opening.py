"""From a policy's file to a cascade that runs."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Self, cast, get_args
from urllib.parse import parse_qsl, urlencode

from cascade.artifact import load
from cascade.policy import TierRecord
from cascade.router import Cascade
from cascade.rulebook import Uncertified
from curator.engines import connect
from curator.engines.base import Engine
from curator.engines.context import Setting
from curator.engines.wrappers import wrap
from curator.errors import ConfigError

SCHEME: Final = "cascade"
Connect = Callable[[TierRecord, str], Engine]
"""Makes the engine of a tier that says where it is found; the second argument is the currency of its price."""

_opening: ContextVar[tuple[Path, ...]] = ContextVar("_opening", default=())
"""Policies that are being opened: one inside the other."""


@dataclass(frozen=True, slots=True)
class CascadeSpec:
    """`cascade:<policy>[?uncertified=rules&key=key.pub]`: a cascade where the spec of an engine is asked for, also of
    another cascade's tier. See `open_cascade` for what stands behind the question mark."""

    policy: Path
    key: Path | None = None
    uncertified: Uncertified = "teacher"

    @classmethod
    def read(cls, spec: str, settings: Mapping[str, object] | None = None) -> Self:
        """What a spec says; `settings` say the same as what stands behind its question mark.

        Raises: ConfigError for a setting that does not exist, or that has no such value.
        """
        path, _, query = spec.removeprefix(f"{SCHEME}:").partition("?")
        if not path:
            raise ConfigError(f"{spec!r} names no policy", hint=f"write {SCHEME}:policy.json")
        given = {name: str(value) for name, value in {**dict(parse_qsl(query)), **(settings or {})}.items()}
        known = [one.name for one in fields(cls)][1:]
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
                raise ConfigError(f"unknown setting {name!r} of a cascade", hint=hint)
        uncertified = given.get("uncertified", "teacher")
        if uncertified not in get_args(Uncertified):
            raise ConfigError(f"uncertified is {uncertified!r}", hint=f"one of {', '.join(get_args(Uncertified))}")
        key = Path(given["key"]) if "key" in given else None
        return cls(Path(path), key, cast(Uncertified, uncertified))

    def __str__(self) -> str:
        own = {} if self.uncertified == "teacher" else {"uncertified": self.uncertified}
        query = urlencode({**own, **({"key": str(self.key)} if self.key else {})}, safe="/")
        return f"{SCHEME}:{self.policy}" + (f"?{query}" if query else "")


def is_cascade(spec: str) -> bool:
    """Whether a spec names a cascade."""
    return spec.startswith(f"{SCHEME}:")


def connected(tier: TierRecord, currency: str) -> Engine:
    """The engine of a tier as its record has it, with retries, spans and prices around it."""
    if is_cascade(tier.spec):
        return open_spec(CascadeSpec.read(tier.spec))
    return wrap(connect(tier.spec), price=tier.price_in(currency))


def open_spec(spec: CascadeSpec, make: Connect = connected) -> Cascade:
    """The cascade that a spec names. Where its last tier fails, so does it: whoever asks falls back, or asks again."""
    return open_cascade(spec.policy, key=spec.key, uncertified=spec.uncertified, fallback=False, make=make)


def open_cascade(
    path: str | Path,
    *,
    tiers: Mapping[str, str | Engine] | None = None,
    key: Path | None = None,
    uncertified: Uncertified = "teacher",
    fallback: bool = True,
    make: Connect = connected,
) -> Cascade:
    """The cascade that the policy in the file `path` describes.

    `make` connects a tier as the policy recorded it, with retries, spans and prices around it. `tiers` (name -> spec)
    says where one is found now, or where the policy does not say; an engine in place of a spec is taken as it is. With
    `key`, the PEM file of a public key, only a policy that this key's owner signed is opened. Nothing is loaded before
    the first request, as far as the engines allow.
    Raises: as `cascade.artifact.load`; ConfigError for a tier without a spec, other models than the policy's, or a
    policy that is a tier of its own; what `curator.connect` raises.
    """
    outer, own = _opening.get(), Path(path).resolve()
    if own in outer:
        raise ConfigError(f"the policy {path} is a tier of its own", hint="certify again, with another name for --out")
    policy = load(Path(path), key=key)
    given = tiers or {}
    if unknown := sorted(set(given) - {tier.name for tier in policy.tiers}):
        raise ConfigError(
            f"{unknown[0]!r} is no tier of {path}", hint=f"tiers: {', '.join(tier.name for tier in policy.tiers)}"
        )
    with Setting(_opening, (*outer, own)):
        engines = {tier.name: _open(tier, given.get(tier.name), policy.currency, make) for tier in policy.tiers}
    return Cascade(engines, policy, uncertified=uncertified, fallback=fallback)


def _open(tier: TierRecord, found: str | Engine | None, currency: str, make: Connect) -> Engine:
    if found is not None and not isinstance(found, str):
        return found
    if not (spec := found or tier.spec):
        raise ConfigError(
            f"the policy does not say where tier {tier.name!r} is found", hint=f"pass tiers={{'{tier.name}': '...'}}"
        )
    return make(tier.model_copy(update={"spec": spec}), currency)
