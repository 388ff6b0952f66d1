"""What the parts of the store share: its file, and reading in the order of the documents."""

from __future__ import annotations

import glob
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from curator.database import Connection, Database, explain, quoted
from curator.types import Json, JsonObject

logger = logging.getLogger(__name__)

PAGE_DOCUMENTS = 131_072
"""Documents whose rows are copied out at a time when a large table is read."""

TABLE_ROWS = 8192
"""Rows of a table that a reader hands out, unless it is asked for another number."""

_LARGEST = 2**63
_SCRATCH_SECONDS = 3600
_SURROGATES = re.compile("[\ud800-\udfff]")


class Part:
    """One part of the store. All parts share the same file."""

    _database: Database

    @property
    def path(self) -> Path:
        """The database file."""
        return self._database.path

    def _copied(self, sql: str, batch: int) -> Iterator[pa.Table]:
        """The rows of a query in tables of at most `batch` rows.

        They are copied to a scratch file first, so that the store is not held open while the caller
        works on them.
        """
        with self._scratch() as folder:
            file = folder / "rows.parquet"
            with self._database.reading() as connection:
                copy_out(connection, sql, file)
            yield from read_parquet(file, batch)

    def _by_document(self, sql: str, batch: int) -> Iterator[pa.Table]:
        """The rows of a query with the placeholders {low} and {high}, bounds of documents.ordinal,
        some hundred thousand documents at a time."""
        low = 0
        while (high := self._next_ordinal(low)) is not None:
            yield from self._copied(sql.format(low=low, high=high), batch)
            low = high

    def _next_ordinal(self, low: int) -> int | None:
        """The end of the page of documents that begins at `low`; None if there are no more."""
        with self._database.reading() as connection:
            last = connection.execute("SELECT max(ordinal) FROM documents").fetchall()[0][0]
        return None if last is None or last < low else min(low + PAGE_DOCUMENTS, last + 1)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        """A folder for temporary files: beside the store, or where the system keeps such files."""
        try:
            folder = scratch_folder(self.path)
        except OSError:
            folder = Path(tempfile.mkdtemp(prefix="goldless-"))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _spool(self, tables: Iterable[pa.Table], schema: pa.Schema, file: Path) -> int:
        """Write tables to a scratch file, cast to `schema`; returns the rows.

        Raises: StoreError if a column is missing or cannot be cast; StoreFullError.
        """
        rows = 0
        try:
            with pq.ParquetWriter(file, schema, compression="zstd") as writer:
                for table in tables:
                    writer.write_table(table.select(schema.names).cast(schema))
                    rows += table.num_rows
        except (OSError, pa.ArrowException, KeyError) as error:
            raise explain(error, self.path) from error
        return rows


def scratch_folder(path: Path) -> Path:
    """A new folder beside the store, whose name tells the process that made it."""
    return Path(tempfile.mkdtemp(prefix=f".{path.name}.{os.getpid()}.", dir=path.parent))


def sweep_scratch(path: Path) -> None:
    """Remove the scratch folders of processes that were killed. One that is younger than an hour
    stays: it may belong to a process of another machine."""
    for folder in path.parent.glob(f".{glob.escape(path.name)}.*.*"):
        process = folder.name.removeprefix(f".{path.name}.").partition(".")[0]
        with suppress(OSError):
            old = time.time() - folder.stat().st_mtime > _SCRATCH_SECONDS
            if old and process.isdigit() and not _alive(int(process)):
                shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def copy_out(connection: Connection, sql: str, file: Path) -> None:
    """Write the rows of a query to a Parquet file."""
    connection.execute(f"COPY ({sql}) TO {quoted(str(file))} (FORMAT parquet, COMPRESSION lz4, ROW_GROUP_SIZE 16384)")


def read_parquet(file: Path, batch: int) -> Iterator[pa.Table]:
    """Tables of at most `batch` rows, memory bounded by a row group."""
    with pq.ParquetFile(file) as parquet:
        for rows in parquet.iter_batches(batch):
            yield pa.Table.from_batches([rows])


def kept_condition(document_id: str, settings: str | None) -> str:
    """SQL that holds for documents without a rejecting verdict under `settings`."""
    if settings is None:
        return "true"
    return (
        f"NOT EXISTS (SELECT 1 FROM verdicts WHERE verdicts.document_id = {document_id}"
        f" AND verdicts.settings = {quoted(settings)} AND NOT verdicts.keep)"
    )


def clean(text: str) -> str:
    """`text` with half surrogate pairs, which no encoding knows, replaced."""
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def texts(values: Sequence[str]) -> pa.Array:
    """An Arrow column of strings."""
    try:
        return pa.array(values, pa.string())
    except UnicodeEncodeError:
        return pa.array([clean(value) for value in values], pa.string())


def to_json(value: object) -> str:
    """JSON text; what JSON cannot hold becomes text, or null for a number that is none."""
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        return orjson.dumps(plain(value)).decode()


def plain(value: object) -> Json:
    """A value, or a record with slots, as JSON that can be encoded."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) < _LARGEST:
        return value
    if isinstance(value, Mapping):
        return {clean(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if names := getattr(value, "__slots__", ()):
        return {name: plain(getattr(value, name)) for name in names}
    return clean(str(value))


def from_json(text: str | None) -> Json:
    """The value of a JSON text, None for none."""
    return orjson.loads(text) if text else None


def json_object(text: str | None) -> JsonObject:
    """The value of a JSON text that holds an object."""
    value = from_json(text)
    return value if isinstance(value, dict) else {}
