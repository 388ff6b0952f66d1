"""How fast each key may ask: token buckets for requests and tokens per minute, and requests in flight.

A bucket holds a minute's worth and fills evenly, so that a key may ask for a minute's worth at once and is then held to
the rate. Tokens are taken by an estimate before a request and put right after it. Everything is O(1) per request, with
no task in the background.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cascade.gateway.key_records import Limits
from curator.errors import NotAllowedError, RateLimitError

Headers = dict[str, str]


@dataclass(slots=True)
class _Bucket:
    """What is left at a moment; below zero is a debt."""

    left: float = math.inf
    at: float = 0.0

    def fill(self, size: int, now: float) -> float:
        self.left = min(self.left + (now - self.at) * size / 60, size)
        self.at = now
        return self.left

    def wait(self, size: int, need: float) -> float:
        """Seconds until `need` is there."""
        return max(need - self.left, 0.0) * 60 / size


@dataclass(slots=True)
class _Use:
    """One key's state."""

    requests: _Bucket = field(default_factory=_Bucket)
    tokens: _Bucket = field(default_factory=_Bucket)
    in_flight: int = 0


class Slot:
    """A request that was let in. `settle` it once it is over, with the tokens that it took."""

    def __init__(self, use: _Use, limits: Limits, taken: int) -> None:
        self._use = use
        self._limits = limits
        self._taken = taken
        self._open = True

    def settle(self, tokens: int) -> None:
        """Put the estimate right. Only the first time counts."""
        if self._open:
            self._open = False
            self._use.in_flight -= 1
            if self._limits.tokens_per_minute is not None:
                self._use.tokens.left += self._taken - tokens


class Limiter:
    """The keys' rates. `clock` tells seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._uses: dict[str, _Use] = {}

    def admit(self, key_id: str, limits: Limits, tokens: int) -> Slot:
        """Let a request in that will take about so many `tokens` (its prompt and all that it may generate).

        Raises: RateLimitError with the seconds to wait; NotAllowedError for one that is larger than the limit, which
        no waiting helps.
        """
        use, now = self._use(key_id), self._clock()
        if limits.in_flight is not None and use.in_flight >= limits.in_flight:
            raise RateLimitError(
                f"{use.in_flight} requests of this API key are in flight, which is the limit", retry_after=1.0
            )
        waits = [self._wait(use.requests, limits.requests_per_minute, 1, now, "requests")]
        waits.append(self._wait(use.tokens, limits.tokens_per_minute, tokens, now, "tokens"))
        for wait, what, limit in waits:
            if wait > 0:
                raise RateLimitError(
                    f"this API key may send {limit:,} {what} per minute", retry_after=wait, hint=f"wait {wait:.1f} s"
                )
        if limits.requests_per_minute is not None:
            use.requests.left -= 1
        if limits.tokens_per_minute is not None:
            use.tokens.left -= tokens
        use.in_flight += 1
        return Slot(use, limits, tokens)

    def headers(self, key_id: str, limits: Limits) -> Headers:
        """`x-ratelimit-*`, as OpenAI sends them: the limit, what is left, and the time until all of it is there."""
        use, now = self._use(key_id), self._clock()
        found: Headers = {}
        for what, bucket, size in (
            ("requests", use.requests, limits.requests_per_minute),
            ("tokens", use.tokens, limits.tokens_per_minute),
        ):
            if size is not None:
                left = bucket.fill(size, now)
                found[f"x-ratelimit-limit-{what}"] = str(size)
                found[f"x-ratelimit-remaining-{what}"] = str(max(math.floor(left), 0))
                found[f"x-ratelimit-reset-{what}"] = spelled(bucket.wait(size, size))
        return found

    def _use(self, key_id: str) -> _Use:
        if (found := self._uses.get(key_id)) is None:
            found = self._uses[key_id] = _Use()
        return found

    def _wait(self, bucket: _Bucket, size: int | None, need: int, now: float, what: str) -> tuple[float, str, int]:
        if size is None:
            return 0.0, what, 0
        if need > size:
            raise NotAllowedError(
                f"the request may take {need:,} {what}, and this API key {size:,} per minute",
                hint="shorten the prompt or lower max_tokens",
            )
        bucket.fill(size, now)
        return bucket.wait(size, need), what, size


def spelled(seconds: float) -> str:
    """A duration as OpenAI spells it: `120ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{minutes:.0f}m{rest:.0f}s" if minutes else f"{rest:g}s"
