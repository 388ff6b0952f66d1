"""What each key may spend: reserved before a call, settled after it, so that no cap is ever passed.

A call reserves the most that it can cost (a byte-level tokenizer makes at most one token per byte, and no more is
generated than was asked for), at the price of its tier. It settles for what the upstream told; where nobody told, the
whole reservation is booked, as the call may have been billed. Sums are whole billionths of a currency's unit, so they
are exact.

Key caps survive a restart: a journal gets a line before each call and one after it. A call that was in flight when the
process died is booked in full. (The ledger's files could not do that: they are written later.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cascade.gateway.budget_journal import BudgetJournal, Pot
from cascade.gateway.key_records import Caps
from curator.errors import BudgetExceededError

NANO: Final = 1_000_000_000
WHOSE: Final = ("for the day of this API key", "for the month of this API key", "in all of this API key")


@dataclass(frozen=True, slots=True)
class Spent:
    """Money of one key: settled in this day, this month and in all, and what calls in flight may still take."""

    day: float
    month: float
    total: float
    reserved: float


class Budgets:
    """The spending of all keys. `now` tells the time; days and months are those of UTC. Call from one event loop.

    Without `journal` a restart forgets. Raises: ConfigError if the journal cannot be read or another process has it.
    """

    def __init__(self, journal: Path | None = None, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._pots: dict[tuple[str, str], Pot] = {}
        self._today = ""
        self._journal = None if journal is None else BudgetJournal(journal, self._pots, self._today_text())

    def purse(self, key_id: str, caps: Caps, cap: float | None = None) -> Purse | None:
        """What one request of a key may spend, at most `cap` itself. None where nothing is capped."""
        return Purse(self, key_id, caps, cap) if caps.any or cap is not None else None

    def spent(self, key_id: str) -> Spent:
        """What a key has spent, as far as it has caps."""
        today = self._today_text()
        day, month, total = (self._pots.get((key_id, scope), Pot()) for scope in (today, today[:7], ""))
        return Spent(day.spent / NANO, month.spent / NANO, total.spent / NANO, total.reserved / NANO)

    def close(self) -> None:
        """Let go of the journal."""
        if self._journal is not None:
            self._journal.close()

    def hold(self, key_id: str, caps: Caps, need: int) -> Hold:
        """Set `need` billionths aside in the key's pots. Raises: BudgetExceededError; StoreError."""
        today = self._today_text()
        pots = [self._pot(key_id, scope) for scope in (today, today[:7], "")]
        for pot, limit, whose in zip(pots, (caps.day, caps.month, caps.total), WHOSE, strict=True):
            _check(pot, limit, need, whose, caps.currency)
        number = 0 if self._journal is None else self._journal.reserve(key_id, today, need)
        for pot in pots:
            pot.reserved += need
        return Hold(pots, need, number)

    def settle(self, hold: Hold, actual: int) -> None:
        """Give back what was held, and book what was taken."""
        for pot in hold.pots:
            pot.reserved -= hold.need
            pot.spent += actual
        if self._journal is not None:
            self._journal.settle(hold.number, actual)

    def _pot(self, key_id: str, scope: str) -> Pot:
        if (found := self._pots.get((key_id, scope))) is None:
            found = self._pots[key_id, scope] = Pot()
        return found

    def _today_text(self) -> str:
        """The day. With a new one, pots of days and months that are over go, as soon as nothing is held in them."""
        today = self._now().astimezone(UTC).date().isoformat()
        if today != self._today:
            self._today = today
            for key in [key for key, pot in self._pots.items() if not today.startswith(key[1]) and not pot.reserved]:
                del self._pots[key]
        return today


@dataclass(frozen=True, slots=True)
class Hold:
    """Money set aside in some pots; `number` names it in the journal."""

    pots: list[Pot]
    need: int
    number: int


class Purse:
    """What one request may spend: its key's caps, and its own."""

    def __init__(self, budgets: Budgets, key_id: str, caps: Caps, cap: float | None) -> None:
        self._budgets = budgets
        self._key_id = key_id
        self._caps = caps
        self._cap = cap
        self._own = Pot()

    def reserve(self, money: float) -> Reservation:
        """Set aside the most that a call can cost.

        Raises: BudgetExceededError where a cap would be passed, with the calls in flight; StoreError where that cannot
        be written down.
        """
        need = _billionths(money)
        _check(self._own, self._cap, need, "of this request", self._caps.currency)
        hold = self._budgets.hold(self._key_id, self._caps, need) if self._caps.any else None
        self._own.reserved += need
        return Reservation(self._budgets, self._own, hold, need)


class Reservation:
    """Money of one call that is under way. `settle` it once."""

    def __init__(self, budgets: Budgets, own: Pot, hold: Hold | None, need: int) -> None:
        self._budgets = budgets
        self._own = own
        self._hold = hold
        self._need = need
        self._open = True

    def settle(self, money: float | None) -> None:
        """Book what the call cost, or all that was reserved where nobody knows. Only the first time counts."""
        if not self._open:
            return
        self._open = False
        actual = self._need if money is None else _billionths(money)
        self._own.reserved -= self._need
        self._own.spent += actual
        if self._hold is not None:
            self._budgets.settle(self._hold, actual)


def _billionths(money: float) -> int:
    """Rounded up, but for what is only the error of a float."""
    return math.ceil(money * NANO - 1e-6)


def _check(pot: Pot, limit: float | None, need: int, whose: str, currency: str) -> None:
    """Raises: BudgetExceededError where `need` more would pass the limit."""
    if limit is None or pot.spent + pot.reserved + need <= math.floor(limit * NANO + 1e-6):
        return
    left = limit - pot.spent / NANO
    held = f", of which calls in flight hold {pot.reserved / NANO:g}" if pot.reserved else ""
    raise BudgetExceededError(
        f"the budget {whose} is {limit:g} {currency}: {max(left, 0):.6g} is left{held}, and the next call may take "
        f"{need / NANO:.6g}",
        hint="a shorter prompt or a lower max_tokens takes less",
    )
