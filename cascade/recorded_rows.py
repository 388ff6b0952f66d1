"""Rows of a CSV, JSONL or Parquet file of recorded outcomes, each with where it stands."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curator.errors import SourceError

Values = Mapping[str, object]


def rows(path: Path) -> Iterator[tuple[str, Values]]:
    """Where a row stands, and its columns. Raises: SourceError for what cannot be read."""
    readers = {".csv": _csv, ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise SourceError(f"outcomes cannot be read from {path}", hint=f"its name ends in one of {', '.join(readers)}")
    try:
        for where, values in reader(path):
            yield f"{path}, {where}", values
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error, pa.ArrowException) as error:
        raise SourceError(f"{path} is damaged or not what its name says: {error}") from error


def _csv(path: Path) -> Iterator[tuple[str, Values]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        for row in reader:
            where = f"line {reader.line_num}"
            if None in row or None in row.values():
                raise SourceError(
                    f"{path}, {where}: the header has {len(reader.fieldnames or ())} columns, not this row"
                )
            yield where, row


def _jsonl(path: Path) -> Iterator[tuple[str, Values]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise SourceError(f"{path}, line {number}: no JSON: {error}") from error
            if not isinstance(row, dict):
                raise SourceError(f"{path}, line {number}: not a JSON object")
            yield f"line {number}", row


def _parquet(path: Path) -> Iterator[tuple[str, Values]]:
    with pq.ParquetFile(path) as file:
        number = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
