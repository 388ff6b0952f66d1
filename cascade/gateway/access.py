"""The gateway's door: a request's key, its rate, its money, and its bill, in one place.

key = access.identify(headers.get("Authorization"))
with access.admit("req-17", key, request) as bill:
    routed = await cascade.route(request)
    bill.served(tiers_of(routed))
response.headers.update(access.headers(key))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from cascade.gateway.billing import Bill, Billing
from cascade.gateway.budgets import Budgets
from cascade.gateway.key_records import Caps, KeyRecord
from cascade.gateway.keys import Keyring
from cascade.gateway.limits import Headers, Limiter
from curator.engines.budget import upper_bound
from curator.errors import ConfigError, InputError
from curator.types import DecideRequest, GenerateRequest, Price

BYTES_PER_TOKEN: Final = 4
"""Of a prompt, as an estimate for rates; budgets take the upper bound of one."""


class Access:
    """Who may ask, and what it costs. Without `keys` everybody may, and only requests' own caps hold."""

    def __init__(
        self,
        billing: Billing,
        *,
        keys: Keyring | None = None,
        limiter: Limiter | None = None,
        budgets: Budgets | None = None,
        currency: str = "USD",
    ) -> None:
        self.billing = billing
        self.keys = keys
        self.limiter = limiter or Limiter()
        self.budgets = budgets or Budgets()
        self._uncapped = Caps(currency=currency)

    def identify(self, authorization: str | None) -> KeyRecord | None:
        """The key in an `Authorization` header; None where no keys are asked for. Raises: KeyRejectedError"""
        if self.keys is None:
            return None
        scheme, _, key = (authorization or "").partition(" ")
        return self.keys.authenticate(key.strip() if scheme.lower() == "bearer" else None)

    @contextmanager
    def admit(
        self,
        request_id: str,
        key: KeyRecord | None,
        request: DecideRequest | GenerateRequest,
        *,
        cap: float | None = None,
    ) -> Iterator[Bill]:
        """Let a request in: its calls inside the block are on the bill that it gets, and cost at most `cap`.

        Raises: RateLimitError with `retry_after`; NotAllowedError for a request beyond what a key may ever send;
        InputError for a cap that is none. What the calls raise where the money ends is BudgetExceededError.
        """
        if cap is not None and not 0 <= cap < float("inf"):
            raise InputError(f"the budget of a request is an amount of money, not {cap}")
        if key is None:
            with self.billing.open(request_id, "", self.budgets.purse("", self._uncapped, cap)) as bill:
                yield bill
            return
        estimate = tokens_of(request)
        slot = self.limiter.admit(key.id, key.limits, estimate)
        try:
            with self.billing.open(request_id, key.id, self.budgets.purse(key.id, key.caps, cap)) as bill:
                yield bill
        finally:
            slot.settle(bill.tokens(unknown=estimate))

    def headers(self, key: KeyRecord | None) -> Headers:
        """`x-ratelimit-*` for a response, also one that was refused."""
        return {} if key is None else self.limiter.headers(key.id, key.limits)

    def close(self) -> None:
        """Write the ledger to its end, and let the budgets go."""
        self.billing.ledger.close()
        self.budgets.close()


def tokens_of(request: DecideRequest | GenerateRequest) -> int:
    """About how many tokens a request may take: its prompt's, and all that it may generate."""
    bound = upper_bound(request)
    return bound.input_tokens // BYTES_PER_TOKEN + bound.output_tokens


def money_check(prices: Mapping[str, Price | None]) -> Callable[[Sequence[KeyRecord]], None]:
    """A check for `Keyring`: that every budget in money can be held to at these prices (tier -> price).

    The check raises ConfigError for a budget where a tier has no price, or one in another currency.
    """

    def check(records: Sequence[KeyRecord]) -> None:
        for record in records:
            if record.caps.any:
                for tier, price in prices.items():
                    _can_hold(record, tier, price)

    return check


def _can_hold(record: KeyRecord, tier: str, price: Price | None) -> None:
    who = f"the API key {record.id} ({record.name})"
    if price is None:
        raise ConfigError(
            f"{who} has a budget in money, but the tier {tier!r} has no price",
            hint="an unknown cost is not zero: give the tier price_input and price_output, or the key no budget",
        )
    if price.currency != record.caps.currency:
        raise ConfigError(
            f"{who} has a budget in {record.caps.currency}, but the tier {tier!r} is paid in {price.currency}",
            hint="give both in one currency",
        )
