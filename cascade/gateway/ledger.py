"""The ledger: every attempt of every request, in files and as running totals.

A single call of a model is one entry: drafts, retries, hedges, probes, audits and what was given up included, so that
the sum of the entries is the sum of what the upstreams counted. Files are written off the request path.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import NonNegativeFloat, PositiveInt

from cascade.gateway.ledger_files import SUFFIX, Entry, to_row, to_table
from cascade.gateway.ledger_merge import merge
from cascade.rotating import Counts, Layout, RotatingWriter, Rotation
from curator import telemetry

logger = logging.getLogger(__name__)

DAYS: Final = 32
"""Days whose totals are kept apart in memory; what is older is added up under no day."""


SCRAPE: Final = 0.1
"""Seconds within which metrics are asked for together."""


class LedgerSettings(Rotation):
    """Where the ledger goes. A kill loses at most the entries of the last `seconds`; beyond `queue` entries that wait
    for a disk that takes nothing, more are dropped, counted and said."""

    folder: Path
    rows: PositiveInt = 20_000
    seconds: NonNegativeFloat = 10.0
    queue: PositiveInt = 500_000


class Group(NamedTuple):
    """What totals are kept by. `day` is in UTC (2026-11-26)."""

    day: str
    tier: str
    key: str
    kind: str
    currency: str


@dataclass(slots=True)
class Total:
    """Sums of a group's entries. `unknown` attempts never told their usage, which is in no sum; the tokens of
    `estimated` ones were counted here; `unpriced` ones have a usage and no price, so their money is in no sum."""

    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost: float = 0.0
    unknown: int = 0
    estimated: int = 0
    unpriced: int = 0

    def count(self, entry: Entry) -> None:
        """One entry more."""
        self.attempts += 1
        self.estimated += entry.estimated
        if (usage := entry.usage) is None:
            self.unknown += 1
            return
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        self.cached_tokens += usage.cached_tokens
        self.unpriced += entry.cost is None
        self.cost += entry.cost or 0.0

    def add(self, other: Total) -> None:
        """Another group's sums."""
        self.attempts += other.attempts
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cached_tokens += other.cached_tokens
        self.cost += other.cost
        self.unknown += other.unknown
        self.estimated += other.estimated
        self.unpriced += other.unpriced


class Ledger:
    """Takes entries from any thread; without `settings` it keeps nothing but totals. `close` writes what is left.

    Raises: ConfigError if the folder cannot be made.
    """

    def __init__(self, settings: LedgerSettings | None = None) -> None:
        layout = Layout("ledger entry", SUFFIX, to_row, to_table, keep=True, tidy=merge)
        self._writer = None if settings is None else RotatingWriter(settings, layout)
        self._totals: dict[Group, Total] = {}
        self._lock = threading.Lock()
        self._days: list[str] = []

    def put(self, entry: Entry) -> None:
        """Enter an attempt. Never waits and never raises."""
        group = Group(entry.time.date().isoformat(), entry.tier, entry.key, entry.kind, entry.currency)
        with self._lock:
            if (total := self._totals.get(group)) is None:
                total = self._group(group)
            total.count(entry)
        if self._writer is not None and not self._writer.put(entry) and self._writer.counts.dropped == 1:
            logger.error("the ledger's disk takes nothing: entries are dropped from the files, and only counted")

    @property
    def counts(self) -> Counts:
        """Entries written to files, dropped, and failed to be written."""
        return Counts() if self._writer is None else replace(self._writer.counts)

    @property
    def totals(self) -> Mapping[Group, Total]:
        """A copy of the totals since this ledger was opened."""
        with self._lock:
            return {group: replace(total) for group, total in self._totals.items()}

    def close(self) -> None:
        """Write what was put so far, and stop. Calling twice is fine."""
        if self._writer is not None:
            self._writer.close()

    def _group(self, group: Group) -> Total:
        """A new group. With a new day the oldest may lose its own place."""
        if group.day not in self._days:
            self._days.append(group.day)
            if len(self._days) > DAYS:
                self._fold(self._days.pop(0))
        return self._totals.setdefault(group, Total())

    def _fold(self, day: str) -> None:
        for group in [group for group in self._totals if group.day == day]:
            self._totals.setdefault(group._replace(day=""), Total()).add(self._totals.pop(group))


def measure(ledger: Ledger) -> None:
    """Show a ledger's totals as metrics, by tier, key and kind: `cascade.ledger.attempts`, `.unknown`, `.tokens` and
    `.cost`. Once per ledger and process."""
    sums = _Sums(ledger).read

    def show(name: str, unit: str, description: str, read: Callable[[Total], Readings]) -> None:
        def values() -> list[tuple[float, telemetry.Attributes]]:
            return [(value, {**_attributes(g), **more}) for g, total in sums().items() for value, more in read(total)]

        telemetry.observe(f"cascade.ledger.{name}", unit, description, values, sums=True)

    show("attempts", "{attempt}", "Calls of models.", lambda total: [(total.attempts, {})])
    show("unknown", "{attempt}", "Calls whose usage nobody told.", lambda total: [(total.unknown, {})])
    show("cost", "{money}", "Money for all calls of models.", lambda total: [(total.cost, {})])
    show("tokens", "{token}", "Tokens of all calls of models.", _tokens)


class _Sums:
    """A ledger's totals over all days. The metrics of one scrape ask for them one after the other, and get the same."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._read = -SCRAPE
        self._sums: dict[Group, Total] = {}

    def read(self) -> dict[Group, Total]:
        now = time.monotonic()
        if now - self._read >= SCRAPE:
            found: dict[Group, Total] = {}
            for group, total in self._ledger.totals.items():
                found.setdefault(group._replace(day=""), Total()).add(total)
            self._read, self._sums = now, found
        return self._sums


Readings = list[tuple[float, dict[str, telemetry.Attribute]]]


def _tokens(total: Total) -> Readings:
    counts = {"input": total.input_tokens, "output": total.output_tokens}
    return [(count, {telemetry.TOKEN_TYPE: kind}) for kind, count in counts.items()]


def _attributes(group: Group) -> dict[str, telemetry.Attribute]:
    return {
        telemetry.TIER: group.tier,
        "cascade.key": group.key,
        "cascade.kind": group.kind,
        telemetry.COST_CURRENCY: group.currency,
    }
