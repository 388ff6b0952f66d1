"""A cap on what may go to the last tier: a share of the requests, money per minute, or both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from cascade.gateway.windows import RollingSums
from curator.errors import ConfigError, OverloadedError

Beyond = Literal["draft", "refuse"]
"""What becomes of a request beyond the cap: the best lower answer is served, marked and uncertified; or it is refused
(503 with Retry-After)."""

MINUTE: Final = 60.0
WEIGHT: Final = 0.2
"""Of the latest escalation in the average of what one costs."""


@dataclass(frozen=True, slots=True)
class EscalationSettings:
    """At most `share` of the requests of the last `window` seconds go to the last tier, beside `burst` in a window
    (so that a few requests after a quiet time do not meet a cap); at most `money` is spent there per minute, in the
    currency of the policy. None is no cap."""

    share: float | None = None
    money: float | None = None
    window: float = 60.0
    burst: int = 10
    beyond: Beyond = "draft"

    def __post_init__(self) -> None:
        if self.share is not None and not 0 <= self.share <= 1:
            raise ConfigError(f"the escalation cap's share must lie between 0 and 1, not {self.share}")
        if self.burst < 0 or self.window <= 0 or (self.money is not None and self.money < 0):
            raise ConfigError(f"{self} makes no sense", hint="burst >= 0, window > 0 seconds, money >= 0")
        if self.beyond not in ("draft", "refuse"):
            raise ConfigError(f"unknown way beyond the escalation cap: {self.beyond!r}", hint="draft or refuse")


class EscalationCap:
    """Counts requests and escalations. `request` for every one, `take` before the last tier is asked, and after a
    `take` that gave leave `settle` with what it cost.

    Money is held until it is known: each escalation on its way counts as much as the average one. So the cap can only
    be passed by what the requests in flight cost more than that.
    """

    def __init__(self, settings: EscalationSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.capped = 0
        """Escalations that were not let through."""
        self._counts = RollingSums(settings.window, 2, clock)
        self._spent = RollingSums(MINUTE, 1, clock)
        self._pending = 0
        self._average = 0.0

    @property
    def serves_draft(self) -> bool:
        """Whether the best lower answer is served beyond the cap."""
        return self.settings.beyond == "draft"

    def request(self) -> None:
        """A request has come."""
        self._counts.add(1, 0)

    def take(self) -> OverloadedError | None:
        """Leave to ask the last tier, or why there is none."""
        if (why := self._over()) is not None:
            self.capped += 1
            return why
        self._counts.add(0, 1)
        self._pending += 1
        return None

    def settle(self, cost: float | None) -> None:
        """An escalation has ended; `cost` is None where it is unknown: then the average counts."""
        self._pending -= 1
        if cost is not None:
            self._average += (WEIGHT if self._average else 1.0) * (cost - self._average)
        self._spent.add(self._average if cost is None else cost)

    def _over(self) -> OverloadedError | None:
        requests, escalated = self._counts.sums()
        share, money, window = self.settings.share, self.settings.money, self.settings.window
        if share is not None and escalated + 1 > share * requests + self.settings.burst:
            return _capped(f"{share:.0%} of the requests in {window:g} s", window)
        (spent,) = self._spent.sums()
        if money is not None and spent + self._average * (self._pending + 1) > money:
            return _capped(f"{money:g} per minute", MINUTE)
        return None


def _capped(cap: str, window: float) -> OverloadedError:
    # By then a tenth of the window is new.
    return OverloadedError(
        f"the escalation cap is reached: {cap}", retry_after=max(1.0, window / 10), hint="ask again later"
    )
