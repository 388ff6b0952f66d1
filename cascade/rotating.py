"""Records into rotating Parquet files, off the request path: `put` never waits, never raises, and never writes.

A thread writes a file when `rows` records wait, and of what waits at least once in `seconds`. It sleeps in between,
as waking it for every record takes the interpreter from whoever serves. A file appears whole: it is written under a
name that readers do not look for, then renamed. So a kill loses what waits, and never leaves half a file that somebody
reads.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveInt

from curator.errors import ConfigError, SourceError

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

UNFINISHED: Final = ".writing"
AGAIN: Final = 1.0
"""Seconds before a write that failed is tried again."""
LEAST: Final = 0.01
"""Seconds that the thread sleeps at least."""
EVERY: Final = 64
"""Files between two times that the folder is tidied."""


class Rotation(BaseModel):
    """Where files go, and when one is written: with `rows` records, or of what there is after `seconds`. Beyond `queue`
    records that wait, more are dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    rows: PositiveInt = 10_000
    seconds: NonNegativeFloat = 60.0
    queue: PositiveInt = 20_000


@dataclass(frozen=True, slots=True)
class Layout(Generic[Item]):
    """What is written: `noun` names it to people, files end in `suffix`. `to_row` may raise TypeError for a record that
    cannot be written. With `keep` a write that the disk refused is tried again. `tidy` is given the folder at the start
    and every `EVERY` files."""

    noun: str
    suffix: str
    to_row: Callable[[Item], Mapping[str, object]]
    to_table: Callable[[Sequence[Mapping[str, object]]], pa.Table]
    keep: bool = False
    tidy: Callable[[Path], object] | None = None


@dataclass(slots=True)
class Counts:
    """Records so far: `written` to files, `dropped` because too many waited, `failed` to be written."""

    written: int = 0
    dropped: int = 0
    failed: int = 0


class RotatingWriter(Generic[Item]):
    """Writes records to `rotation.folder`; any thread may `put`. `close` writes what is left.

    Raises: ConfigError if the folder cannot be made.
    """

    def __init__(self, rotation: Rotation, layout: Layout[Item]) -> None:
        self.rotation = rotation
        self.counts = Counts()
        self._layout = layout
        try:
            rotation.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"the folder {rotation.folder} for {layout.noun}s cannot be made: {error.strerror}"
            ) from None
        self._waiting: deque[Item] = deque()
        self._due, self._closing = threading.Event(), threading.Event()
        self._kept: list[Mapping[str, object]] = []
        self._name = f"{os.getpid()}-{secrets.token_hex(3)}"
        self._files = self._tidied = 0
        self._thread = threading.Thread(target=self._work, name=f"goldless-{layout.noun}s", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> bool:
        """Hand over a record. False where too many wait and it was dropped."""
        waiting = self._waiting
        if len(waiting) >= self.rotation.queue:
            self.counts.dropped += 1
            return False
        waiting.append(item)
        if len(waiting) >= self.rotation.rows:
            self._due.set()
        return True

    def close(self) -> None:
        """Write what was put so far, and stop."""
        self._closing.set()
        self._due.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._closing.is_set():
            if self._files >= self._tidied:
                self._tidy()
            self._due.wait(max(self.rotation.seconds, LEAST))
            self._due.clear()
            self._empty()
            if self._kept:
                self._closing.wait(AGAIN)
        while self._waiting or self._kept:
            self._write(self._next(), last=True)

    def _tidy(self) -> None:
        """What goes wrong is said, and tried again with the next files."""
        self._tidied = self._files + EVERY
        if self._layout.tidy is not None:
            try:
                self._layout.tidy(self.rotation.folder)
            except (OSError, pa.ArrowException) as error:
                logger.warning("the folder %s could not be tidied: %s", self.rotation.folder, error)

    def _empty(self) -> None:
        """Write what waits, but for what would make a small file while more is coming."""
        for _ in range(max(len(self._waiting) // self.rotation.rows, 1)):
            self._write(self._next(), last=False)

    def _next(self) -> list[Mapping[str, object]]:
        """The rows of the next file."""
        kept, self._kept = self._kept, []
        count = min(len(self._waiting), self.rotation.rows)
        items = [self._waiting.popleft() for _ in range(count)]
        return kept + [row for item in items if (row := self._row(item)) is not None]

    def _write(self, rows: list[Mapping[str, object]], *, last: bool) -> None:
        """One file. Whatever goes wrong, serving goes on: it is counted and said."""
        if not rows:
            return
        self._files += 1
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{self._name}-{self._files:06d}{self._layout.suffix}"
        unfinished = self.rotation.folder / (name + UNFINISHED)
        try:
            pq.write_table(self._layout.to_table(rows), unfinished, compression="zstd")
            unfinished.replace(self.rotation.folder / name)
        except (OSError, ValueError, TypeError, ArithmeticError, pa.ArrowException) as error:
            self._keep(rows, error, last=last)
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
        else:
            self.counts.written += len(rows)

    def _keep(self, rows: list[Mapping[str, object]], error: Exception, *, last: bool) -> None:
        """What could not be written waits for the next try, as much as a queue holds; or is lost."""
        room = self.rotation.queue if self._layout.keep and isinstance(error, OSError) and not last else 0
        lost, self._kept = rows[: max(len(rows) - room, 0)], rows[max(len(rows) - room, 0) :]
        if lost:
            self._fail(len(lost), error)
        if self._kept:
            logger.warning("%d %s(s) wait for another try: %s", len(self._kept), self._layout.noun, error)

    def _row(self, item: Item) -> Mapping[str, object] | None:
        try:
            return self._layout.to_row(item)
        except TypeError as error:
            self._fail(1, error)
            return None

    def _fail(self, count: int, error: Exception) -> None:
        self.counts.failed += count
        logger.warning("%d %s(s) could not be written: %s", count, self._layout.noun, error)


def files_in(path: Path, suffix: str, noun: str) -> list[Path]:
    """The files that `path` stands for: itself, or all of a folder's in the order of their names, which is that of
    time. Raises: SourceError if there are none."""
    if path.is_file():
        return [path]
    found = sorted(path.glob(f"*{suffix}"))
    if not found:
        what = f"holds no file named *{suffix}" if path.is_dir() else "does not exist"
        raise SourceError(f"{path} {what}", hint=f"name a {noun} file, or the folder that holds them")
    return found
