"""The folder that downloads and converted models are kept in, shared by processes.

Files and folders appear there whole or not at all: they are made beside their place and renamed into it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from curator.errors import WeightsError

log = logging.getLogger(__name__)

CHUNK = 1 << 20


def cache_folder(*parts: str) -> Path:
    """GOLDLESS_CACHE, else `goldless` below the user's cache folder; with `parts` a folder in it, made if missing.

    Raises: WeightsError for a full or read-only disk.
    """
    own = os.environ.get("GOLDLESS_CACHE")
    folder = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "goldless"
    folder = folder.joinpath(*parts)
    if parts:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes; waits for the one that has it."""
    import fcntl

    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process that prepares %s", path.stem.lstrip("."))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def temporary(folder: Path) -> Iterator[Path]:
    """A fresh folder in `folder` (so that renames stay on one device), removed at the end.

    Raises: WeightsError for a full or read-only disk.
    """
    with writing(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".new-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Map failures to write."""
    try:
        yield
    except OSError as error:
        raise WeightsError(
            f"cannot write to {folder}: {error}", hint="free some space, or set GOLDLESS_CACHE to another folder"
        ) from error


def pieces(stream: IO[bytes]) -> Iterator[bytes]:
    """The stream in chunks of a megabyte."""
    while chunk := stream.read(CHUNK):
        yield chunk


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for chunk in pieces(file):
            digest.update(chunk)
    return digest.hexdigest()


def remembered_sha256(path: Path) -> str:
    """Hex sha256 of a large file, remembered by its path, size and time, so that it is read once."""
    state = path.stat()
    seen = json.dumps([str(path.resolve()), state.st_size, state.st_mtime_ns, state.st_ino])
    note = cache_folder("hashes") / hashlib.sha256(seen.encode()).hexdigest()
    if note.is_file():
        return note.read_text()
    digest = sha256_of(path)
    with temporary(note.parent) as place:
        (place / "note").write_text(digest)
        (place / "note").replace(note)
    return digest
