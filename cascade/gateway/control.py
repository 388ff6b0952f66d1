"""What one request may ask of the cascade: by the model's name, or by a header.

model: cascade              the policy decides
model: cascade:small        this tier alone; never certified
x-goldless-tier: small      the same
x-goldless-alpha: 0.01      at most this risk, where it is less than the policy's
x-goldless-budget: 0.002    at most so much money for this request
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cascade.rulebook import NO_WISH, Wish
from cascade.wire.models import UnknownModelError, names
from curator.errors import InputError

TIER: Final = "x-goldless-tier"
ALPHA: Final = "x-goldless-alpha"
BUDGET: Final = "x-goldless-budget"


@dataclass(frozen=True, slots=True)
class Control:
    """The wish, and the most that the request may cost."""

    wish: Wish = NO_WISH
    budget: float | None = None

    @property
    def overrides(self) -> bool:
        """Whether the caller, not the policy, decided about the way."""
        return bool(self.wish.tier) or self.wish.alpha is not None or self.budget is not None


PLAIN: Final = Control()


def control_of(headers: Mapping[str, str], model: str, name: str, tiers: Sequence[str]) -> Control:
    """What a request asks for. `name` is what the cascade is called as a model.

    Raises: UnknownModelError; InputError naming a header that cannot be read.
    """
    tier = _tier(headers.get(TIER, ""), tier_of(model, name, tiers), tiers)
    alpha, budget = headers.get(ALPHA), headers.get(BUDGET)
    if not tier and alpha is None and budget is None:
        return PLAIN
    share = None if alpha is None else _number(ALPHA, alpha, 1.0)
    if tier and share is not None:
        raise InputError(f"{ALPHA} says nothing about a tier that is chosen", hint=f"leave out {ALPHA} or the tier")
    return Control(Wish(tier, share), None if budget is None else _number(BUDGET, budget, math.inf))


def tier_of(model: str, name: str, tiers: Sequence[str]) -> str:
    """The tier that a model's name asks for; "" for the cascade itself. Raises: UnknownModelError."""
    if model == name:
        return ""
    called, _, tier = model.partition(":")
    if called == name and tier in tiers:
        return tier
    hint = f"models: {', '.join(names(tiers, name))}"
    raise UnknownModelError(f"the model {model[:80]!r} is not served here", hint=hint)


def _tier(header: str, named: str, tiers: Sequence[str]) -> str:
    if header and header not in tiers:
        raise InputError(f"{TIER} is {header[:100]!r}, which is no tier", hint=f"tiers: {', '.join(tiers)}")
    if header and named and header != named:
        raise InputError(f"{TIER} and the model name different tiers", hint="leave one out")
    return header or named


def _number(header: str, written: str, most: float) -> float:
    try:
        found = float(written)
    except ValueError:
        found = math.nan
    if not 0 < found < most:
        limit = " below 1" if most == 1.0 else ""
        raise InputError(f"{header} is {written[:40]!r}", hint=f"a number above 0{limit}")
    return found
