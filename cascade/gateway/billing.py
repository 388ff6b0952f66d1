"""From an upstream's meter into the ledger and the budgets: whose request a call belongs to, and what it was for.

    with billing.open("req-17", key.id, purse) as bill:         # in the handler; calls inside are on this bill
        routed = await cascade.route(request)
        bill.served(tiers_of(routed))
    bill.usage, bill.cost                                       # of all attempts

Every upstream is put under `billing.meter(tier, model, price)` (`MeteredEngine`, below retries and hedges). Which
bill a call is on is a contextvar, so it holds in tasks that a request starts, also after the request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cascade.gateway.budgets import Purse, Reservation
from cascade.gateway.ledger import Ledger
from cascade.gateway.ledger_files import Entry, Kind
from cascade.routed import Answer, Routed, total
from curator.engines.budget import upper_bound
from curator.engines.exchanges import ABORTED, Exchange, Purpose
from curator.engines.metering import Meter
from curator.errors import ConfigError
from curator.types import DecideRequest, GenerateRequest, Price, Usage

_bill: ContextVar[Bill | None] = ContextVar("goldless_bill", default=None)


class Billing:
    """Bills of requests and meters of upstreams, over one ledger. `now` tells the time."""

    def __init__(self, ledger: Ledger, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.ledger = ledger
        self._now = now

    @contextmanager
    def open(self, request_id: str, key_id: str = "", purse: Purse | None = None) -> Iterator[Bill]:
        """Calls inside the block, and in tasks that it starts, are on this bill, and paid from `purse`."""
        bill = Bill(self.ledger, request_id, key_id, purse)
        token = _bill.set(bill)
        try:
            yield bill
        finally:
            bill.close()
            # A stream that nobody closed is closed by the loop, in a context where this bill never was.
            with suppress(ValueError):
                _bill.reset(token)

    def meter(self, tier: str, model: str, price: Price | None) -> Meter:
        """What tells this ledger of one tier's upstream. `price` is that of a call whose cost the engine does not
        tell; without one it costs None, never nothing."""
        return _TierMeter(self.ledger, _Upstream(tier, model, price), self._now)


class Bill:
    """One request's attempts. Their entries are written when it is closed, as it is known then what was served."""

    def __init__(self, ledger: Ledger, request_id: str, key_id: str, purse: Purse | None) -> None:
        self.request_id = request_id
        self.key_id = key_id
        self.purse = purse
        self._ledger = ledger
        self._entries: list[Entry] = []
        self._served: Mapping[str, bool] = {}
        self._open = True

    def served(self, tiers: Mapping[str, bool]) -> None:
        """The tiers whose answers were served, and whether all that a tier served is certified; see `tiers_of`."""
        self._served = tiers

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The attempts so far, in the order in which they ended."""
        return tuple(self._entries)

    @property
    def usage(self) -> Usage:
        """Of all attempts so far, as far as it was told; `calls` counts them all."""
        known = sum((entry.usage for entry in self._entries if entry.usage), Usage(calls=0))
        return replace(known, calls=len(self._entries))

    @property
    def cost(self) -> float | None:
        """Of all attempts so far; None where that of one is unknown."""
        return total(entry.cost for entry in self._entries)

    def tokens(self, unknown: int) -> int:
        """Tokens of all attempts so far; `unknown` where attempts were made of which none told its usage."""
        known = [entry.usage for entry in self._entries if entry.usage]
        if self._entries and not known:
            return unknown
        return sum(usage.input_tokens + usage.output_tokens for usage in known)

    def add(self, entry: Entry) -> None:
        """One attempt. After `close` it goes straight to the ledger."""
        self._entries.append(entry)
        if not self._open:
            self._ledger.put(self._settled(entry))

    def close(self) -> None:
        """Write the entries. Only the first time does something."""
        if self._open:
            self._open = False
            for entry in self._entries:
                self._ledger.put(self._settled(entry))

    def _settled(self, entry: Entry) -> Entry:
        if entry.kind != "answer":
            return entry
        e, certified = entry, self._served.get(entry.tier)
        kind: Kind = "draft" if certified is None else "answer"
        # Written out: `dataclasses.replace` takes three times as long, once per request.
        return Entry(
            e.time,
            e.request,
            e.key,
            e.tier,
            e.model,
            kind,
            e.usage,
            e.cost,
            e.currency,
            certified,
            e.error,
            e.estimated,
        )


def tiers_of(routed: Routed[Answer]) -> dict[str, bool]:
    """The tiers that served an answer, and whether all that a tier served is certified."""
    found: dict[str, bool] = {}
    for one in routed.answers:
        found[one.tier] = one.certified and found.get(one.tier, True)
    return found


@dataclass(frozen=True, slots=True)
class _Upstream:
    tier: str
    model: str
    price: Price | None

    def cost(self, exchange: Exchange) -> float | None:
        if exchange.cost is not None or exchange.usage is None:
            return exchange.cost
        if not exchange.usage.input_tokens + exchange.usage.output_tokens:
            return 0.0
        return None if self.price is None else self.price.cost(exchange.usage)


class _TierMeter:
    """Opens a tab for each call of an upstream."""

    def __init__(self, ledger: Ledger, upstream: _Upstream, now: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._upstream = upstream
        self._now = now

    def open(self, request: DecideRequest | GenerateRequest, purpose: Purpose) -> _Tab:
        """Raises: BudgetExceededError where the bill's purse has not enough for the most that the call can cost;
        ConfigError where it has a cap and the tier no price."""
        bill = _bill.get()
        reservation = None
        if bill is not None and bill.purse is not None and purpose not in OPERATORS:
            reservation = bill.purse.reserve(self._most(request))
        return _Tab(self._ledger, self._upstream, bill, _Payment(reservation, purpose), self._now)

    def _most(self, request: DecideRequest | GenerateRequest) -> float:
        if self._upstream.price is None:
            raise ConfigError(
                f"tier {self._upstream.tier!r} has no price, so a budget in money cannot be held to",
                hint="give the tier a price, or the key no budget",
            )
        bound = upper_bound(request)
        if isinstance(request, GenerateRequest) and request.n > 1:
            # A server that ignores `n` is asked once per sample, and reads the prompt each time.
            bound = replace(bound, input_tokens=bound.input_tokens * request.n)
        return self._upstream.price.cost(bound)


OPERATORS: frozenset[Purpose] = frozenset({"audit"})
"""Calls that no key's budget pays for: the operator wants them, not the caller."""


class _Payment:
    """What one call of an upstream takes of the money that was reserved for it."""

    def __init__(self, reservation: Reservation | None, purpose: Purpose) -> None:
        self._reservation = reservation
        self._purpose = purpose
        self._costs: list[float | None] = []

    def add(self, exchange: Exchange, cost: float | None) -> None:
        # What a server speaks is asked once, in whoever's call happens to be the first: nobody reserved for that.
        if exchange.purpose != "probe" or self._purpose == "probe":
            self._costs.append(cost)

    def settle(self) -> None:
        """An attempt whose cost nobody knows takes the whole reservation."""
        if self._reservation is not None:
            self._reservation.settle(total(self._costs))


class _Tab:
    """One call of an upstream: its exchanges become entries, and settle what was reserved."""

    def __init__(
        self,
        ledger: Ledger,
        upstream: _Upstream,
        bill: Bill | None,
        payment: _Payment,
        now: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._upstream = upstream
        self._bill = bill
        self._payment = payment
        self._now = now

    def add(self, exchange: Exchange) -> None:
        cost = self._upstream.cost(exchange)
        self._payment.add(exchange, cost)
        bill = self._bill
        entry = Entry(
            time=self._now(),
            request=bill.request_id if bill else "",
            key=bill.key_id if bill else "",
            tier=self._upstream.tier,
            model=self._upstream.model,
            kind=_kind(exchange),
            usage=exchange.usage,
            cost=cost,
            currency=self._upstream.price.currency if self._upstream.price else "",
            error=exchange.error,
            estimated=exchange.estimated,
        )
        if bill is None:
            self._ledger.put(entry)
        else:
            bill.add(entry)

    def close(self) -> None:
        self._payment.settle()


def _kind(exchange: Exchange) -> Kind:
    """What is known of an attempt when it ends; `answer` may turn out to be a draft."""
    if exchange.purpose == "request":
        return "aborted" if exchange.error == ABORTED else "answer"
    return exchange.purpose
