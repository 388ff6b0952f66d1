"""The file of API keys: one JSON object per line, for its owner alone (mode 0600)."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from cascade.gateway.key_records import KeyRecord, first_fault
from curator.errors import ConfigError

logger = logging.getLogger(__name__)

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_READ: Final = stat.S_IRGRP | stat.S_IROTH


def read_keys(path: Path) -> list[KeyRecord]:
    """The records of a file, in its order.

    Raises: ConfigError if it is missing, wrong, or writable by others than its owner.
    """
    try:
        mode, lines = path.stat().st_mode, path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(
            f"the key file {path} cannot be read: {error.strerror}", hint="`goldless keys add` makes one"
        ) from None
    if mode & _OTHERS_WRITE:
        raise ConfigError(f"others can write to the key file {path}", hint=f"chmod 600 {path}")
    if mode & _OTHERS_READ:
        logger.warning("others can read the key file %s: chmod 600 it", path)
    records: dict[str, KeyRecord] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            record = _record(line, f"{path}, line {number}")
            if record.id in records:
                raise ConfigError(f"{path}, line {number}: a second key with the id {record.id}")
            records[record.id] = record
    return list(records.values())


@contextmanager
def changing(path: Path) -> Iterator[list[KeyRecord]]:
    """The records of a file (none where there is none yet) to change in place; they are written at the end of the
    block, whole or not at all, and only one process at a time gets so far. Raises: as `read_keys`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            records = read_keys(path) if path.exists() else []
            yield records
            _write(path, records)
    except OSError as error:
        raise ConfigError(f"the key file {path} cannot be written: {error.strerror}") from None


def _record(line: bytes, where: str) -> KeyRecord:
    try:
        return KeyRecord.model_validate_json(line)
    except ValidationError as error:
        raise ConfigError(f"{where}: {first_fault(error)}") from None


def _write(path: Path, records: Sequence[KeyRecord]) -> None:
    new = path.with_name(f".{path.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)
        file.write(b"".join(record.model_dump_json(exclude_defaults=True).encode() + b"\n" for record in records))
        file.flush()
        os.fsync(descriptor)
    new.replace(path)
