"""Parquet and Arrow files, a few thousand rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from curator.errors import SourceError
from curator.sources.base import BadRow, Reading, Row, check_columns
from curator.sources.rows import wanted_columns
from curator.sources.streams import Part

ROWS = 1024
"""Rows decoded at once. Parquet's own row groups may be far larger."""
BUFFER = 1024 * 1024
"""Bytes of a column chunk read at once."""


def read_parquet(part: Part, reading: Reading) -> Iterator[Row | BadRow]:
    """One document per row; only the columns that are asked for are decoded."""
    with part.guarded(), _arrow_errors(part), pq.ParquetFile(part.path, buffer_size=BUFFER, pre_buffer=False) as file:
        columns = _columns(part, reading, file.schema_arrow.names)
        yield from _rows(file.iter_batches(batch_size=ROWS, columns=columns))


def read_arrow(part: Part, reading: Reading) -> Iterator[Row | BadRow]:
    """An Arrow IPC file or stream (the `datasets` library writes streams)."""
    with part.guarded(), _arrow_errors(part), pa.memory_map(str(part.path)) as mapped:
        magic = mapped.read(6)
        mapped.seek(0)
        if magic == b"ARROW1":
            file = ipc.open_file(mapped)
            schema, batches = file.schema, (file.get_batch(index) for index in range(file.num_record_batches))
        else:
            stream = ipc.open_stream(mapped)
            schema, batches = stream.schema, iter(stream)
        columns = _columns(part, reading, schema.names)
        yield from _rows(piece for batch in batches for piece in _pieces(batch.select(columns)))


@contextmanager
def _arrow_errors(part: Part) -> Iterator[None]:
    """Arrow says "damaged" with its own exceptions, or with an OSError that has no number."""
    try:
        yield
    except pa.ArrowException as error:
        raise _damaged(part, error) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(part, error) from error


def _damaged(part: Part, error: Exception) -> SourceError:
    reason = str(error).split("\n", 1)[0]
    return SourceError(f"{part.name} is damaged or not what its name says: {reason}", hint="see format=")


def _columns(part: Part, reading: Reading, present: list[str]) -> list[str]:
    """The columns to decode, in the file's order."""
    wanted = wanted_columns(reading)
    check_columns(part.name, (*wanted, *(reading.columns or ())), present)
    if reading.columns is None:
        return present
    chosen = {*wanted, *reading.columns, "id" if reading.id is None else reading.id}
    return [name for name in present if name in chosen]


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    return (batch.slice(start, ROWS) for start in range(0, batch.num_rows, ROWS))


def _rows(batches: Iterable[pa.RecordBatch]) -> Iterator[Row | BadRow]:
    number = 0
    for batch in batches:
        try:
            values = batch.to_pylist()
        except (ValueError, OverflowError, pa.ArrowException):  # some value of some row: find out which
            yield from (_row(number + index + 1, batch.slice(index, 1)) for index in range(batch.num_rows))
        else:
            yield from (Row(number + index, row) for index, row in enumerate(values, 1))
        number += batch.num_rows


def _row(number: int, single: pa.RecordBatch) -> Row | BadRow:
    try:
        return Row(number, single.to_pylist()[0])
    except UnicodeDecodeError as error:
        return BadRow(number, "row.encoding", str(error))
    except (ValueError, OverflowError, pa.ArrowException) as error:
        return BadRow(number, "row.invalid_value", str(error).split("\n", 1)[0])
