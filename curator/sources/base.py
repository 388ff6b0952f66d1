"""What every source is made of: settings, raw rows, and the stream of documents.

A *reader* turns one file into raw rows and never fails on a single bad one; `RowMapper`
(rows.py) turns a raw row into a document or a reject; `Source` streams both.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal, Protocol, TypedDict, get_args

from curator.errors import ConfigError, SourceError
from curator.types import Document, Reject

Format = Literal["auto", "jsonl", "json", "csv", "tsv", "parquet", "arrow", "lines", "files", "hf"]
FORMATS: tuple[str, ...] = get_args(Format)
BATCH = 2048
"""Documents in one batch, at most."""
KEPT_REJECTS = 1000
"""Rejects that a source remembers by itself; `on_reject` sees all of them."""
EXCERPT = 120
"""Characters of a bad row that its reject shows."""
PROBE = 200
"""Rows without the wanted column after which it counts as missing from the whole source."""
BATCH_BYTES = 32 * 1024 * 1024
"""A batch ends early when its texts reach this many characters, so that long rows stay bounded."""


class SourceSettings(TypedDict, total=False):
    """The keyword arguments of `open_source`; `Reading` explains them."""

    text: str
    id: str | None
    columns: Sequence[str] | None
    format: Format
    encoding: str
    delimiter: str | None
    max_row_bytes: int


@dataclass(frozen=True, slots=True)
class Reading:
    """How a source is read.

    `text` is a column, or a template such as "{question}\\n{context}". `id` is a column; None takes
    the column "id" of the rows that have one and a hash of the content for the rest, "" always the
    hash. `columns` go to the documents' meta (None: all that are neither text nor id). A row larger
    than `max_row_bytes` is rejected. `delimiter` is CSV's (None: comma, or tab for .tsv).
    """

    text: str = "text"
    id: str | None = None
    columns: Sequence[str] | None = None
    format: Format = "auto"
    encoding: str = "utf-8"
    delimiter: str | None = None
    max_row_bytes: int = 10_000_000

    @classmethod
    def of(cls, settings: SourceSettings) -> Reading:
        """Check the settings. Raises ConfigError for an unknown one or an impossible value."""
        known = [item.name for item in fields(cls)]
        for name in settings:
            if name not in known:
                raise ConfigError(f"unknown source setting {name!r}", hint=suggest(name, known))
        reading = cls(**settings)
        if reading.format not in FORMATS:
            raise ConfigError(f"unknown format {reading.format!r}", hint=suggest(reading.format, FORMATS))
        if reading.max_row_bytes < 1:
            raise ConfigError(f"max_row_bytes is {reading.max_row_bytes}; it must be at least 1")
        if isinstance(reading.columns, str):
            raise ConfigError(f"columns is the string {reading.columns!r}", hint="give a list of column names")
        return reading


def suggest(name: str, known: Iterable[str]) -> str:
    """A hint that names what exists and, where one is close, what was probably meant."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    listed = "there is " + ", ".join(names[:30]) + (" ..." if len(names) > 30 else "") if names else "there is none"
    return f"did you mean {close[0]!r}? {listed}" if close else listed


def excerpt(raw: object) -> str:
    """A short, printable piece of a bad row."""
    if isinstance(raw, bytes | bytearray | memoryview):
        text = bytes(raw[: EXCERPT * 4]).decode("utf-8", "backslashreplace")
    else:
        text = raw if isinstance(raw, str) else repr(raw)
    text = text[:EXCERPT].encode("utf-8", "backslashreplace").decode("utf-8").replace("\x00", "\\x00")
    return " ".join(text.split())[:EXCERPT]


@dataclass(slots=True)  # not frozen: one is made per row, and freezing doubles the time that takes
class Row:
    """A row that could be read; `number` counts from 1 (the line, where the source has lines).

    `plain` says that the values are JSON-safe already, `where` names the row's own file, if it has one.
    """

    number: int
    values: Mapping[str, object]
    plain: bool = False
    where: str = ""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read, and why. `where` names the row's own file, if it has one."""

    number: int
    reason: str
    excerpt: str = ""
    where: str = ""


Reader = Callable[[], Iterator[Row | BadRow]]
NamedReader = tuple[str, Reader]


class Mapper(Protocol):
    """Turns raw rows into documents; `wanted` are the columns that it cannot do without."""

    @property
    def wanted(self) -> tuple[str, ...]: ...

    def document(self, row: Row) -> Document | BadRow: ...


def check_columns(uri: str, wanted: Iterable[str], present: Iterable[str]) -> None:
    """Raise SourceError, naming what there is, unless all `wanted` columns are present."""
    present = list(present)
    missing = next((name for name in wanted if name not in present), None)
    if missing is not None:
        raise SourceError(f"{uri} has no column {missing!r}", hint=suggest(missing, present))


@dataclass(slots=True)
class Source:
    """A stream of documents with its rejects.

    Iterate `batches()`; memory stays bounded by one batch. After (and during) the iteration
    `rows`, `documents` and `counts` (rejects per reason) say what came through, and `rejects`
    holds the first 1,000 rejects. Every source but stdin can be iterated again.
    """

    uri: str
    reading: Reading
    readers: Sequence[NamedReader]
    mapper: Mapper
    rows: int = 0
    documents: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)
    _columns: dict[str, None] = field(default_factory=dict)
    _lacking: int = 0

    def batches(
        self,
        limit: int | None = None,
        *,
        size: int = BATCH,
        on_reject: Callable[[Reject], None] | None = None,
    ) -> Iterator[list[Document]]:
        """Up to `limit` documents in batches of at most `size`, in the order of the source.

        `on_reject` is called with each bad row. Raises SourceError where the whole source is wrong:
        unreadable, wrong encoding, the text column missing from all rows, no document at all.
        """
        self._reset()
        if limit is not None and limit <= 0:
            return
        batch: list[Document] = []
        held = 0
        for document in self._stream(on_reject):
            batch.append(document)
            held += len(document.text)
            if len(batch) >= size or held >= BATCH_BYTES or self.documents == limit:
                yield batch
                batch, held = [], 0
            if self.documents == limit:
                return
        if batch:
            yield batch
        if not self.documents:
            raise self._nothing()

    def _stream(self, on_reject: Callable[[Reject], None] | None) -> Iterator[Document]:
        for name, reader in self.readers:
            for item in reader():
                self.rows += 1
                result = self.mapper.document(item) if isinstance(item, Row) else item
                if isinstance(result, Document):
                    self.documents += 1
                    yield result
                    continue
                reject = Reject(item.where or name, result.number, result.reason, result.excerpt)
                self._count(reject)
                if on_reject is not None:
                    on_reject(reject)
                if isinstance(item, Row) and not self.documents:
                    self._probe(item)

    def _reset(self) -> None:
        self.rows = self.documents = self._lacking = 0
        self.counts.clear()
        self.rejects.clear()
        self._columns.clear()

    def _count(self, reject: Reject) -> None:
        self.counts[reject.reason] += 1
        if len(self.rejects) < KEPT_REJECTS:
            self.rejects.append(reject)

    def _probe(self, row: Row) -> None:
        """Stop early when the rows so far show that a column does not exist at all."""
        self._columns.update(dict.fromkeys(row.values))
        self._lacking += any(name not in row.values for name in self.mapper.wanted)
        if self._lacking >= PROBE:
            check_columns(self.uri, self.mapper.wanted, self._columns)

    def _nothing(self) -> SourceError:
        """The error for a source that gave no document."""
        if not self.rows:
            return SourceError(f"{self.uri} is empty: it holds no rows", hint="0 documents were read")
        if self._columns:
            check_columns(self.uri, self.mapper.wanted, self._columns)
        reasons = ", ".join(f"{count} x {reason}" for reason, count in self.counts.most_common())
        first = self.rejects[0]
        return SourceError(
            f"{self.uri} gave no document: all {self.rows} rows were rejected ({reasons})",
            hint=f"the first is row {first.row}: {first.excerpt!r}",
        )
