"""A DuckDB file that is only ever open for a moment.

While one process has a DuckDB file open for writing, no other can open it, not even to read. So the
file is opened for one piece of work, waiting for others where needed, and closed again (1-2 ms; starting
DuckDB itself takes ten times that, so that an engine without a file is kept for the next piece of work).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from curator.errors import (
    GoldlessError,
    StoreCorruptError,
    StoreError,
    StoreFullError,
    StoreLockedError,
    StoreVersionError,
)

Connection = duckdb.DuckDBPyConnection

MEMORY_LIMIT = "512MB"
"""DuckDB's share of the memory; larger work spills to disk."""

ROW_GROUP = 16_384
"""Rows that DuckDB compresses at a time. With its default of 122,880 a flush takes 160 MB more each
time a group is full (measured over 500,000 completions), with this 40, for the same CPU."""

_THREADS = min(4, os.cpu_count() or 1)
_GATES: dict[Path, threading.Lock] = {}
_GATES_LOCK = threading.Lock()
_IDLE: list[Connection] = []
"""DuckDB with no file open, for whichever file is opened next; one, or none."""

# What DuckDB and the operating system say -> what it means. The first match counts.
_CAUSES: tuple[tuple[type[StoreError], tuple[str, ...]], ...] = (
    (StoreLockedError, ("could not set lock", "conflicting lock", "different configuration", "unique file handle")),
    (
        StoreFullError,
        ("no space left", "disk quota", "file too large", "max_temp_directory_size", "could not write all"),
    ),
    (StoreVersionError, ("with version number", "newer version", "storage version")),
    (StoreError, ("is a directory", "permission denied", "read-only file system", "no such file", "does not exist")),
    (
        StoreCorruptError,
        (
            "not a valid duckdb database",
            "corrupt",
            "checksum",
            "could not read enough bytes",
            "failure while replaying wal",
            "failed to deserialize",
            "internal error",
            "fatal error",
        ),
    ),
)
_HINTS: dict[type[StoreError], str] = {
    StoreLockedError: "another command is using the store; try again in a moment",
    StoreFullError: "free some space and run the same command again: everything answered so far is kept",
    StoreVersionError: "it was written by a newer DuckDB or goldless: upgrade with pip install -U goldless",
    StoreError: "check that the folder exists and can be written, and that the path names a file",
    StoreCorruptError: (
        "the file is damaged: move it away and restore a copy, or start anew; its journal folder and all other files"
        " are untouched, and answers in the journal are loaded by the next run"
    ),
}


def explain(error: BaseException, path: Path) -> StoreError:
    """What a foreign error means for the store at `path`."""
    text = str(error)
    lowered = text.lower()
    for kind, marks in _CAUSES:
        if any(mark in lowered for mark in marks):
            return kind(f"{path}: {text}", hint=_HINTS[kind])
    if isinstance(error, duckdb.InternalException | duckdb.FatalException | duckdb.SerializationException):
        return StoreCorruptError(f"{path}: {text}", hint=_HINTS[StoreCorruptError])
    return StoreError(f"{path}: {text}")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the errors of DuckDB and the operating system into a StoreError that names `path`."""
    try:
        yield
    except GoldlessError:
        raise
    except (duckdb.Error, OSError) as error:
        raise explain(error, path) from error


class Database:
    """Opens the file at `path` for short pieces of work.

    `wait` is how many seconds to wait for other processes and threads. Within this process one piece
    of work runs at a time; it must not open another one.
    """

    def __init__(self, path: Path, wait: float) -> None:
        self.path = path
        self.wait = wait
        with _GATES_LOCK:
            self._gate = _GATES.setdefault(path, threading.Lock())

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that reads, shared with readers in other processes.

        Raises: StoreLockedError after `wait` seconds; StoreCorruptError, StoreError.
        """
        with self._open(read_only=True) as connection:
            yield connection

    @contextmanager
    def writing(self, *, threads: int | None = None) -> Iterator[Connection]:
        """A connection in a transaction that is committed at the end, or rolled back on an error.

        `threads`: one is cheaper for a small piece of work, None takes what the machine has.
        Raises: StoreLockedError after `wait` seconds; StoreFullError, StoreCorruptError, StoreError.
        """
        with self._open(read_only=False, threads=threads) as connection:
            connection.begin()
            try:
                yield connection
                connection.commit()
            except BaseException:
                with suppress(duckdb.Error):
                    connection.rollback()
                raise

    @contextmanager
    def _open(self, *, read_only: bool, threads: int | None = None) -> Iterator[Connection]:
        deadline = time.monotonic() + self.wait
        if not self._gate.acquire(timeout=self.wait):
            raise StoreLockedError(f"{self.path} is busy in this process", hint=_HINTS[StoreLockedError])
        try:
            with explained(self.path):
                engine = self._connect(read_only, threads or _THREADS, deadline)
                try:
                    # Of its own: what it registers goes with it.
                    with engine.cursor() as connection:
                        connection.execute("USE store")
                        yield connection
                    self._detach(engine)
                except BaseException:
                    engine.close()  # an error may have left it unusable
                    raise
        finally:
            self._gate.release()

    def _connect(self, read_only: bool, threads: int, deadline: float) -> Connection:
        pause = 0.005
        while True:
            try:
                return self._attach(read_only, threads)
            except duckdb.Error as error:
                meaning = explain(error, self.path)
                if not isinstance(meaning, StoreLockedError) or time.monotonic() > deadline:
                    raise meaning from error
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)

    def _attach(self, read_only: bool, threads: int) -> Connection:
        engine = _engine({"threads": threads, "temp_directory": self._spilled})
        options = "READ_ONLY" if read_only else f"ROW_GROUP_SIZE {ROW_GROUP}"
        try:
            engine.execute(f"ATTACH {quoted(str(self.path))} AS store ({options})")
        except duckdb.Error:
            engine.close()
            raise
        return engine

    def _detach(self, engine: Connection) -> None:
        """Close the file, and keep the engine unless it has spilled: closing it removes what it spilled."""
        try:
            engine.execute("DETACH store")
        except duckdb.Error:
            # A full disk, for one: what was committed is in the log beside the file, to be merged later.
            engine.close()
            return
        if _IDLE or os.path.exists(self._spilled):
            engine.close()
        else:
            _IDLE.append(engine)

    @property
    def _spilled(self) -> str:
        """The folder for what does not fit into the memory."""
        return f"{self.path}.tmp"


def _engine(settings: Mapping[str, str | int]) -> Connection:
    """DuckDB with these settings and no file: the idle one, else a new one."""
    try:
        engine = _IDLE.pop()
    except IndexError:
        engine = duckdb.connect(config={**_CONFIG, **settings})
        # In an interactive Python it would write into stdout, from the third second of a piece of work on.
        engine.execute("SET enable_progress_bar = false")
        return engine
    for name, value in settings.items():
        engine.execute(f"SET {name} = {quoted(str(value))}")
    return engine


def _close_idle() -> None:
    """DuckDB's threads are not in a forked child, which would wait for them."""
    while _IDLE:
        _IDLE.pop().close()


os.register_at_fork(before=_close_idle)


def quoted(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": MEMORY_LIMIT,
    # Nothing is fetched from the network behind the user's back.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
