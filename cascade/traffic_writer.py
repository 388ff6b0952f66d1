"""Traffic into files, off the request path: `put` never waits, never raises, and never writes.

A thread gathers records and writes a file of them when there are `rows`, or when the oldest is `seconds` old. A file
appears whole: it is written under a name that readers do not look for, then renamed. So a kill loses what is gathered,
and never leaves half a file that somebody reads.
"""

from __future__ import annotations

import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveInt

from cascade.traffic import TrafficRecord, keyed, without_content
from cascade.traffic_files import SUFFIX, to_row, to_table
from curator.errors import ConfigError

logger = logging.getLogger(__name__)

UNFINISHED: Final = ".writing"


class TrafficSettings(BaseModel):
    """Where traffic goes. `content` keeps the texts, without which queries cannot become documents. A file is closed
    at `rows` records or after `seconds`; beyond `queue` records that wait to be written, more are dropped."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folder: Path
    content: bool = False
    rows: PositiveInt = 10_000
    seconds: NonNegativeFloat = 60.0
    queue: PositiveInt = 20_000


@dataclass(slots=True)
class TrafficCounts:
    """Records so far: `written` to files, `dropped` because too many waited, `failed` to be written."""

    written: int = 0
    dropped: int = 0
    failed: int = 0


class TrafficWriter:
    """Writes records to `settings.folder`; any thread may `put`. `close` writes what is left.

    Raises: ConfigError if the folder cannot be made.
    """

    def __init__(self, settings: TrafficSettings) -> None:
        self.settings = settings
        self.counts = TrafficCounts()
        try:
            settings.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"the traffic folder {settings.folder} cannot be made: {error.strerror}") from None
        self._waiting: queue.Queue[TrafficRecord | None] = queue.Queue(settings.queue)
        self._name = f"{os.getpid()}-{secrets.token_hex(3)}"
        self._files = 0
        self._thread = threading.Thread(target=self._work, name="goldless-traffic", daemon=True)
        self._thread.start()

    def put(self, record: TrafficRecord) -> bool:
        """Hand over a record. False where too many wait and it was dropped."""
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self.counts.dropped += 1
            return False
        return True

    def close(self) -> None:
        """Write what was put so far, and stop."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def _work(self) -> None:
        open_for_more = True
        while open_for_more:
            gathered, open_for_more = self._gather()
            if gathered:
                self._write(gathered)

    def _gather(self) -> tuple[list[TrafficRecord], bool]:
        """The records of one file, and whether more may come."""
        gathered: list[TrafficRecord] = []
        deadline = None
        while len(gathered) < self.settings.rows:
            left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            try:
                record = self._waiting.get(timeout=left)
            except queue.Empty:
                break
            if record is None:
                return gathered, False
            gathered.append(record)
            deadline = deadline or time.monotonic() + self.settings.seconds
        return gathered, True

    def _write(self, records: Sequence[TrafficRecord]) -> None:
        """One file. Whatever goes wrong, serving goes on: it is counted and said."""
        rows = [row for record in records if (row := self._row(record)) is not None]
        self._files += 1
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{self._name}-{self._files:06d}{SUFFIX}"
        unfinished = self.settings.folder / (name + UNFINISHED)
        try:
            pq.write_table(to_table(rows), unfinished, compression="zstd")
            unfinished.replace(self.settings.folder / name)
        except (OSError, pa.ArrowException) as error:
            self._fail(len(rows), error)
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
        else:
            self.counts.written += len(rows)

    def _row(self, record: TrafficRecord) -> dict[str, object] | None:
        try:
            full = keyed(record)
            return to_row(full if self.settings.content else without_content(full))
        except TypeError as error:
            self._fail(1, error)
            return None

    def _fail(self, count: int, error: Exception) -> None:
        self.counts.failed += count
        logger.warning("%d traffic record(s) could not be written: %s", count, error)
