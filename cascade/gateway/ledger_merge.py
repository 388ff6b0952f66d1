"""The ledger's many small files become few: merged off the request path, with every entry kept, whatever dies when.

A merged file names in its metadata the files that it stands for. It appears whole, and only then are they removed;
where a process dies in between, readers leave out what a file that is there stands for, and the next merge removes it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from cascade.gateway.ledger_files import SCHEMA, SUFFIX
from cascade.rotating import UNFINISHED, files_in

logger = logging.getLogger(__name__)

FEWEST: Final = 32
"""Small files that are worth a merge."""
LARGE: Final = 200_000
"""Entries of a file that is left as it is."""

_REPLACES: Final = b"goldless.replaces"
_LOCK: Final = ".merging"


def ledger_files(path: Path) -> list[Path]:
    """The files to read of a ledger: all but those that another one stands for. Raises: SourceError for none."""
    found = files_in(path, SUFFIX, "ledger")
    gone = {name for file in found for name in _replaced(file)}
    return [file for file in found if file.name not in gone]


def merge(folder: Path, *, fewest: int = FEWEST, large: int = LARGE) -> int:
    """Merge the folder's small files, where there are at least `fewest`, into files of about `large` entries. Returns
    how many were merged; none where another process is at it. A file that cannot be read stays as it is.

    Raises: OSError, ArrowException; every entry is in one file that counts, whatever is raised.
    """
    some = sorted(folder.glob(f"*{SUFFIX}"))
    if len(some) < fewest and not any(map(_replaced, some)):
        return 0
    with _alone(folder) as alone:
        if not alone:
            return 0
        found = sorted(folder.glob(f"*{SUFFIX}"))
        gone = {name for file in found for name in _replaced(file)}
        for file in found:
            if file.name in gone:
                file.unlink()
        small = {file: rows for file in found if file.name not in gone and (rows := _rows(file)) is not None}
        parts = list(_parts({file: rows for file, rows in small.items() if rows < large}, large))
        if sum(map(len, parts)) < fewest:
            return 0
        for part in parts:
            _merge(folder, part)
        return sum(map(len, parts))


def _parts(files: dict[Path, int], large: int) -> Iterator[list[Path]]:
    """Files that follow one another and make a large one together, two at least."""
    part: list[Path] = []
    rows = 0
    for file, count in files.items():
        part.append(file)
        rows += count
        if rows >= large:
            yield part
            part, rows = [], 0
    if len(part) > 1:
        yield part


def _merge(folder: Path, files: Sequence[Path]) -> None:
    names = json.dumps([file.name for file in files]).encode()
    schema = SCHEMA.with_metadata({**(SCHEMA.metadata or {}), _REPLACES: names})
    # Of the time of the first, as files are read in the order of their names.
    final = folder / f"{files[0].name.partition('-')[0]}-merged-{secrets.token_hex(4)}{SUFFIX}"
    unfinished = final.with_name(final.name + UNFINISHED)
    try:
        with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
            for file in files:
                writer.write_table(
                    pq.read_table(file, columns=SCHEMA.names).cast(SCHEMA).replace_schema_metadata(schema.metadata)
                )
        with unfinished.open("rb") as written:
            # What it stands for is removed next: it has to be on the disk by then.
            os.fsync(written.fileno())
        unfinished.replace(final)
    finally:
        unfinished.unlink(missing_ok=True)
    for file in files:
        file.unlink()


def _rows(file: Path) -> int | None:
    """Entries in a file; None for one that is no ledger file of this format."""
    try:
        found = pq.read_metadata(file)
        names = set(found.schema.to_arrow_schema().names)
    except (OSError, pa.ArrowException):
        return None
    return found.num_rows if names >= set(SCHEMA.names) else None


def _replaced(file: Path) -> list[str]:
    """The names of the files that this one stands for."""
    if "-merged-" not in file.name:
        return []
    try:
        said = (pq.read_schema(file).metadata or {}).get(_REPLACES)
    except (OSError, pa.ArrowException):
        return []
    return [] if said is None else [str(name) for name in json.loads(said)]


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Whether no other process, or thread, merges this folder now."""
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
    finally:
        os.close(lock)
