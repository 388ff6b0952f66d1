"""The journal behind budgets: one short line before a call and one after it, appended without waiting for the disk.

It survives the death of the process. A power cut may lose the last seconds, as lines are not forced to the disk one by
one. A line that is no line (a write that was cut short) is left out: whichever it was, what is left of it books no less
than was spent. At the start, and every `LINES` lines, the journal is written anew as sums.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from curator.errors import ConfigError, StoreError

logger = logging.getLogger(__name__)

LINES: Final = 50_000


@dataclass(slots=True)
class Pot:
    """Billionths of money: settled, and held by calls in flight."""

    spent: int = 0
    reserved: int = 0


class BudgetJournal:
    """Keeps `pots` (key, day or month or nothing for all) over restarts. What was under way is booked in full.

    Raises: ConfigError if the file cannot be read or written, or another process has it.
    """

    def __init__(self, path: Path, pots: dict[tuple[str, str], Pot], today: str) -> None:
        self.path = path
        self._pots = pots
        self._open: dict[int, tuple[str, str, int]] = {}
        self._number = 0
        self._lines = 0
        self._file = self._lock = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(path)
            self._load(today)
            self._renew(today)
        except OSError as error:
            self.close()
            raise ConfigError(f"the budget journal {path} cannot be used: {error.strerror}") from None

    def reserve(self, key_id: str, day: str, need: int) -> int:
        """Write down that a call begins. Returns its number. Raises: StoreError"""
        self._number += 1
        try:
            if self._lines >= LINES:
                self._renew(day)
            self._append(["r", self._number, key_id, day, need])
        except OSError as error:
            raise StoreError(
                f"the budget journal {self.path} cannot be written: {error.strerror}",
                hint="without it a restart would forget what was spent, so nothing is",
            ) from None
        self._open[self._number] = (key_id, day, need)
        return self._number

    def settle(self, number: int, actual: int) -> None:
        """Write down what a call took. Where that cannot be written, a restart books its reservation."""
        self._open.pop(number, None)
        try:
            self._append(["s", number, actual])
        except OSError as error:
            logger.warning("the budget journal %s cannot be written: %s", self.path, error.strerror)

    def close(self) -> None:
        """Let the file go. Calling twice is fine."""
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def _append(self, line: list[object]) -> None:
        data = orjson.dumps(line) + b"\n"
        self._lines += 1
        if os.write(self._file, data) != len(data):
            # The rest of the line would run into the next one.
            with suppress(OSError):
                os.write(self._file, b"\n")
            raise OSError(0, "the line was cut short")

    def _load(self, today: str) -> None:
        under_way: dict[object, tuple[str, str, int]] = {}
        for line in _lines(self.path):
            match line:
                case ["t", str(key), str(scope), int(money)]:
                    self._book(key, scope, money)
                case ["r", int(number), str(key), str(day), int(money)]:
                    under_way[number] = (key, day, money)
                case ["s", int(number), int(money)] if number in under_way:
                    key, day, _ = under_way.pop(number)
                    self._book_all(key, day, money)
                case _:
                    logger.warning("a line of the budget journal %s is left out: it is damaged", self.path)
        for key, day, money in under_way.values():
            self._book_all(key, day, money)
        if under_way:
            logger.warning("%d call(s) were under way when the budget journal ended: booked in full", len(under_way))
        for place in [place for place in self._pots if not today.startswith(place[1])]:
            del self._pots[place]

    def _book_all(self, key: str, day: str, money: int) -> None:
        for scope in (day, day[:7], ""):
            self._book(key, scope, money)

    def _book(self, key: str, scope: str, money: int) -> None:
        self._pots.setdefault((key, scope), Pot()).spent += money

    def _renew(self, today: str) -> None:
        """Write sums and what is under way in place of the lines so far."""
        sums = (["t", *place, pot.spent] for place, pot in self._pots.items() if today.startswith(place[1]))
        calls = (["r", number, *call] for number, call in self._open.items())
        new = self.path.with_name(f".{self.path.name}.new")
        made = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        with open(made, "wb", closefd=False) as file:
            file.writelines(orjson.dumps(line) + b"\n" for line in (*sums, *calls))
        os.fsync(made)
        new.replace(self.path)
        if self._file >= 0:
            os.close(self._file)
        self._file, self._lines = made, 0


def _locked(path: Path) -> int:
    """A lock beside the file, as the file itself is replaced. Raises: ConfigError if another process has it."""
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ConfigError(
            f"another process uses the budget journal {path}", hint="each server needs a journal of its own"
        ) from None
    return lock


def _lines(path: Path) -> Iterator[object]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError:
                yield None
