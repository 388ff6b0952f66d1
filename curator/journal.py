"""A write-ahead journal: what was appended survives a kill of the process.

A run appends lines to its current *segment* file, one `write` each, every line with its checksum.
Now and then the segment is closed, its lines go into the database, and only then it is removed. What
a killed run leaves behind is loaded by the next one. The page cache outlives the process, so a line
needs no fsync for that; a power cut may lose the last second.
"""

from __future__ import annotations

import logging
import os
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from curator.database import explain
from curator.errors import StoreError

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 4 * 1024 * 1024
"""A segment that has grown to this size is closed, so that loading one takes bounded memory."""

SUFFIX = ".journal"
DAMAGED = ".damaged"


@dataclass(frozen=True, slots=True)
class Segment:
    """What a segment file holds: its whole lines (without checksum), and how many are unreadable. A
    torn end, which a kill leaves, is no damage: it was never acknowledged."""

    path: Path
    lines: tuple[bytes, ...]
    damaged: int = 0


class Journal:
    """Appends to the segments of one run. Any thread may append or rotate."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self._lock = threading.Lock()
        self._sequence = 0
        self._file = -1
        self._path = folder
        self._size = 0

    def append(self, *payloads: bytes) -> None:
        """Write a line for each payload, in one go; they are safe from here on. A payload holds no
        line break.

        Raises: StoreFullError if there is no space; then nothing was written.
        """
        line = b"".join([b"%08x %b\n" % (zlib.crc32(payload), payload) for payload in payloads])
        with self._lock:
            if self._file < 0 or self._size >= SEGMENT_BYTES:
                self._next()
            try:
                written = os.write(self._file, line)
                if written < len(line):
                    self._write_rest(line, written)
            except OSError as error:
                os.ftruncate(self._file, self._size)
                raise explain(error, self._path) from error
            self._size += len(line)

    def _write_rest(self, line: bytes, written: int) -> None:
        """A full disk takes a part of a line, and says why only when asked for the rest."""
        while written < len(line):
            written += os.write(self._file, line[written:])

    def rotate(self) -> list[Path]:
        """Close the current segment. Returns all segments that are complete, oldest first."""
        with self._lock:
            self._close()
            return leftover(self.folder)

    def _next(self) -> None:
        self._close()
        self._sequence += 1
        self._path = self.folder / f"{self.name}-{self._sequence:08d}{SUFFIX}"
        try:
            self.folder.mkdir(exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o666)
        except OSError as error:
            raise explain(error, self._path) from error

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file, self._size = -1, 0


def leftover(folder: Path) -> list[Path]:
    """All segments in a folder, oldest first (names begin with the time that their run began)."""
    return sorted(folder.glob(f"*{SUFFIX}"))


def read_segment(path: Path) -> Segment:
    """Read a segment. Unreadable lines are left out and counted; an unreadable file counts as one."""
    try:
        data = path.read_bytes()
    except OSError as error:
        logger.warning("cannot read the journal %s: %s", path, error)
        return Segment(path, (), 1)
    whole = data[: data.rfind(b"\n") + 1]
    checked = list(_check(whole))
    lines = tuple(line for line in checked if line is not None)
    return Segment(path, lines, len(checked) - len(lines))


def _check(data: bytes) -> Iterator[bytes | None]:
    for line in data.split(b"\n")[:-1]:
        payload = line[9:]
        yield payload if line[:9] == b"%08x " % zlib.crc32(payload) else None


def retire(path: Path, damaged: int) -> None:
    """Remove a segment that is in the database; one with damage is set aside under another name."""
    try:
        if not damaged:
            path.unlink(missing_ok=True)
            return
        aside = path.with_name(path.name + DAMAGED)
        path.replace(aside)
    except OSError as error:
        raise StoreError(f"cannot put away the journal {path}: {error}") from error
    logger.warning(
        "%d damaged line(s) in the journal %s were left out; the file is kept as %s. Their rows are asked again.",
        damaged,
        path.name,
        aside,
    )
