"""Runs: the one command at a time that writes, and what it appends."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict
from weakref import WeakSet

import orjson

from curator.database import Database, explain
from curator.errors import StoreError, StoreLockedError
from curator.journal import Journal, leftover
from curator.records import AnnotationRecord, CompletionRecord
from curator.store.base import sweep_scratch, to_json
from curator.store.completions import CompletionPart
from curator.store.loading import encode, load_segments
from curator.types import JsonObject

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0
FLUSH_SHARE = 0.05
"""The journal is loaded about once a second, but loading takes at most this share of the time."""
LONGEST_PAUSE = 30.0

_LOCK_TRIES = 20
_LOCK_PAUSE = 0.02


class Holder(TypedDict):
    """What the lock file says about the run that holds it."""

    pid: int
    command: str
    run_id: str


class RunLock:
    """An exclusive lock on a side file. The kernel gives it up when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1

    def acquire(self, holder: Holder) -> None:
        """Raises: StoreLockedError, naming the process and command that have it."""
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise explain(error, self.path) from error
        for attempt in range(_LOCK_TRIES):
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # A reader that asks whether a run is on has it for an instant.
                if attempt + 1 < _LOCK_TRIES:
                    time.sleep(_LOCK_PAUSE)
                continue
            self._write(holder)
            _HELD.add(self)
            return
        other = read_holder(self.path)
        self._close()
        who = f"{other['command']!r}, process {other['pid']}" if other else "another process"
        raise StoreLockedError(
            f"{self.path.with_suffix('')} has a run on: {who}",
            hint="wait for it or stop it; status, show, why and export work meanwhile",
        )

    def release(self) -> None:
        if self._file >= 0:
            os.ftruncate(self._file, 0)
            self._close()

    def _write(self, holder: Holder) -> None:
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, orjson.dumps(holder), 0)
        except OSError as error:
            self._close()
            raise explain(error, self.path) from error

    def _close(self) -> None:
        _HELD.discard(self)
        os.close(self._file)
        self._file = -1


_HELD: WeakSet[RunLock] = WeakSet()


def _forget_locks() -> None:
    """A forked child (an engine's worker) must not hold a run's lock after its parent is gone."""
    for lock in list(_HELD):
        lock._close()


os.register_at_fork(after_in_child=_forget_locks)


def read_holder(path: Path) -> Holder | None:
    """What the lock file says, None if it says nothing."""
    try:
        found = orjson.loads(path.read_bytes())
        return Holder(pid=found["pid"], command=found["command"], run_id=found["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def current_holder(path: Path) -> Holder | None:
    """The run that is on now, None if there is none."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return read_holder(path) or Holder(pid=0, command="unknown", run_id="")
    else:
        return None
    finally:
        os.close(file)


class Run:
    """One command's writing. What `append` has returned from survives a kill of the process; a thread
    moves it into the tables about once a second."""

    def __init__(self, store: CompletionPart, database: Database, folder: Path, run_id: str) -> None:
        self.id = run_id
        self._store = store
        self._database = database
        self._journal = Journal(folder, run_id)
        self._flushing = threading.Lock()
        self._stop = threading.Event()
        self._failure: StoreError | None = None
        # Answers that are in the journal and may not be in the tables yet (key -> error code or None):
        # the last dict takes new ones, those before it are being loaded.
        self._journaled: list[dict[str, str | None]] = [{}]
        self._thread = threading.Thread(target=self._keep_flushing, name="goldless-store", daemon=True)
        self._thread.start()

    def append(self, *records: CompletionRecord | AnnotationRecord) -> None:
        """Keep records: a line each and one `write` to the journal, some microseconds.

        Raises: StoreFullError if there is no space, or if there was none for an earlier flush;
        StoreError if the key is not 128 bits in hex.
        """
        if self._failure is not None:
            raise self._failure
        for record in records:
            if len(record.key) != 32:
                raise StoreError(f"the key {record.key!r} is not a request key (32 hex digits)")
        self._journal.append(*[encode(record) for record in records])
        for record in records:
            if type(record) is CompletionRecord:
                self._journaled[-1][record.key] = record.error

    def known(self, keys: Sequence[str]) -> dict[str, str | None]:
        """Key -> error code or None, for the keys that have a completion, flushed or not."""
        # First the journal, then the tables: what a flush moves meanwhile is in one of the two.
        found = {key: part[key] for part in list(self._journaled) for key in keys if key in part}
        return {**self._store.known([key for key in keys if key not in found]), **found}

    def flush(self) -> None:
        """Load all that was appended so far into the tables.

        Raises: StoreLockedError, StoreFullError, StoreCorruptError; the journal keeps the rows.
        """
        with self._flushing:
            # In this order: a record whose line is in a closed segment is in an older dict, or in both.
            self._journaled.append({})
            load_segments(self._database, self._journal.rotate(), self.id)
            del self._journaled[:-1]
            self._failure = None

    def close(self) -> None:
        """Stop the thread and flush. Raises as `flush` does."""
        self._stop.set()
        self._thread.join()
        self.flush()

    def _keep_flushing(self) -> None:
        pause = FLUSH_SECONDS
        while not self._stop.wait(pause):
            started = time.monotonic()
            try:
                self.flush()
            except StoreLockedError as error:
                logger.info("the journal is loaded later: %s", error)
            except StoreError as error:
                self._failure = error
            except Exception as error:  # an unforeseen failure must stop the run, not this thread
                logger.exception("the journal cannot be loaded")
                self._failure = StoreError(f"the journal cannot be loaded into {self._database.path}: {error!r}")
            spent = time.monotonic() - started
            pause = min(max(FLUSH_SECONDS, spent / FLUSH_SHARE), LONGEST_PAUSE)


class RunPart(CompletionPart):
    """Starting runs."""

    @property
    def journal_folder(self) -> Path:
        return self.path.with_name(self.path.name + ".journal")

    @property
    def lock_path(self) -> Path:
        return self.path.with_name(self.path.name + ".lock")

    @contextmanager
    def run(self, command: str, config: JsonObject) -> Iterator[Run]:
        """The one run that may write at a time; first it loads what a killed run left in its journal.

        Its status in the table `runs` ends as done, failed or interrupted.
        Raises: StoreLockedError, naming the process and the command of the run that is on.
        """
        run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        lock = RunLock(self.lock_path)
        lock.acquire(Holder(pid=os.getpid(), command=command, run_id=run_id))
        try:
            self._recover()
            self._begin(run_id, command, config)
            yield from self._running(Run(self, self._database, self.journal_folder, run_id))
        finally:
            lock.release()

    def _running(self, run: Run) -> Iterator[Run]:
        try:
            yield run
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt | asyncio.CancelledError | SystemExit | GeneratorExit)
            try:
                run.close()
                self._end(run.id, "interrupted" if stopped else "failed", None if stopped else str(error))
            except StoreError as second:
                logger.warning("the run's last rows stay in its journal for the next run: %s", second)
            raise
        run.close()
        self._end(run.id, "done", None)

    def _recover(self) -> None:
        sweep_scratch(self.path)
        paths = leftover(self.journal_folder)
        if paths:
            count = load_segments(self._database, paths, _run_of(paths[0]))
            logger.info("loaded %d records that an earlier run had left in its journal", count)

    def _begin(self, run_id: str, command: str, config: JsonObject) -> None:
        with self._database.writing() as connection:
            # Whoever was running is not any more: this run has the lock.
            connection.execute("UPDATE runs SET status = 'interrupted' WHERE status = 'running'")
            connection.execute(
                "INSERT INTO runs VALUES (?, ?, ?, 'running', NULL, ?, now()::TIMESTAMP, NULL)",
                [run_id, command, to_json(config), os.getpid()],
            )

    def _end(self, run_id: str, status: str, error: str | None) -> None:
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE runs SET status = ?, error = ?, finished_at = now()::TIMESTAMP WHERE id = ?",
                [status, error, run_id],
            )


def _run_of(segment: Path) -> str:
    """The run that wrote a segment: its name without the number."""
    return segment.name.rpartition("-")[0]
