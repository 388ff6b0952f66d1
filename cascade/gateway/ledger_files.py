"""Entries of the ledger as Parquet files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import pyarrow as pa

from curator.types import Usage

SUFFIX: Final = ".ledger.parquet"

Kind = Literal["answer", "draft", "retry", "hedge", "probe", "audit", "aborted"]
"""What an attempt was for. `answer`: what it said was served. `draft`: it was not. `retry`: made after a failure, and
`hedge` beside a slow attempt, whatever became of them. `probe`: a signal's own call, or a question to a server of what
it speaks. `audit`: a check of an answer that was served. `aborted`: nobody wanted it any more."""

SCHEMA: Final = pa.schema(
    [
        ("time", pa.timestamp("us", "UTC")),
        ("request", pa.string()),
        ("key", pa.string()),
        ("tier", pa.string()),
        ("model", pa.string()),
        ("kind", pa.string()),
        ("input_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("estimated", pa.bool_()),
        ("cost", pa.float64()),
        ("currency", pa.string()),
        ("certified", pa.bool_()),
        ("error", pa.string()),
    ],
    metadata={"format": "goldless-ledger-1"},
)
"""Columns of a ledger file. Tokens are null where the usage was never told, `cost` where there is no price, and
`certified` where nothing of the attempt was served. There is no content in it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One attempt: a single call of a model. `key` is the id of the API key, empty where there was none; so is
    `request` for what no request caused. `error` is the class of what failed."""

    time: datetime
    request: str
    key: str
    tier: str
    model: str
    kind: Kind
    usage: Usage | None
    cost: float | None
    currency: str
    certified: bool | None = None
    error: str = ""
    estimated: bool = False


def to_row(entry: Entry) -> Mapping[str, object]:
    """An entry as one row of a file."""
    usage = entry.usage
    return {
        "time": entry.time,
        "request": entry.request,
        "key": entry.key,
        "tier": entry.tier,
        "model": entry.model,
        "kind": entry.kind,
        "input_tokens": None if usage is None else usage.input_tokens,
        "output_tokens": None if usage is None else usage.output_tokens,
        "cached_tokens": None if usage is None else usage.cached_tokens,
        "estimated": entry.estimated,
        "cost": entry.cost,
        "currency": entry.currency,
        "certified": entry.certified,
        "error": entry.error,
    }


def to_table(rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """Rows that `to_row` made as a table with the columns of `SCHEMA`."""
    return pa.Table.from_pylist(list(rows), SCHEMA)
