"""CSV and TSV, read so that one broken line does not take others with it.

The fields are those of RFC 4180: a quoted field may hold line breaks, a doubled quote is a quote. A
record whose quotes never close or whose number of fields is not the header's is rejected by its
first line, and reading goes on at the line after it.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator

from curator.errors import ConfigError, SourceError
from curator.sources.base import BadRow, Reading, Row, check_columns, excerpt
from curator.sources.rows import wanted_columns
from curator.sources.streams import Part, text_bytes


class _TooLongError(Exception):
    """A record has more characters than a row may have."""


class _Lines:
    """Decoded lines that can be read again, and the bad ones met on the way.

    `taken` are the lines of the current record; `number` counts all lines handed out so far.
    """

    def __init__(self, lines: Iterator[str | BadRow], limit: int) -> None:
        self._lines = lines
        self._again: deque[str | BadRow] = deque()
        self._limit = limit
        self._held = 0
        self.taken: list[str | BadRow] = []
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(line)
        self.number += 1
        if isinstance(line, BadRow):
            raise _TooLongError
        self._held += len(line)
        if self._held > self._limit and len(self.taken) > 1:
            raise _TooLongError
        return line

    def begin(self) -> None:
        """A new record starts with the next line."""
        self.taken.clear()
        self._held = 0

    def reject(self, reason: str) -> BadRow:
        """Reject the first line of the record; the others will be read again."""
        first = self.taken[0]
        number = self.number - len(self.taken) + 1
        self._again.extendleft(reversed(self.taken[1:]))
        self.number = number
        return first if isinstance(first, BadRow) else BadRow(number, reason, excerpt(first))


def read_csv(part: Part, reading: Reading) -> Iterator[Row | BadRow]:
    """One document per record. Raises SourceError where the header lacks a wanted column."""
    with part.opened() as stream:
        text = text_bytes(part, stream, reading.encoding)
        lines = _Lines(text.decoded(reading.max_row_bytes), reading.max_row_bytes)
        records = csv.reader(lines, delimiter=_delimiter(part, reading), strict=True)
        csv.field_size_limit(max(csv.field_size_limit(), reading.max_row_bytes))
        header = _header(part, records)
        _check_header(part, header, (*wanted_columns(reading), *(reading.columns or ())))
        yield from _records(lines, records, header)


def _delimiter(part: Part, reading: Reading) -> str:
    tabs = reading.format == "tsv" or (part.path is not None and ".tsv" in part.path.suffixes)
    delimiter = reading.delimiter or ("\t" if tabs else ",")
    if len(delimiter) != 1:
        raise ConfigError(f"delimiter {delimiter!r} must be one character", hint="like ',' or ';' or '\\t'")
    return delimiter


def _header(part: Part, records: Iterator[list[str]]) -> list[str]:
    """The column names; unnamed ones are called column1, column2 ..., repeated ones get a number."""
    try:
        names = next(records, [])
    except (csv.Error, _TooLongError):
        raise SourceError(f"the header of {part.name} cannot be read", hint="is it CSV? see format=") from None
    header: list[str] = []
    for position, name in enumerate(names, 1):
        name = name.strip() or f"column{position}"
        header.append(f"{name}_{position}" if name in header else name)
    return header


def _check_header(part: Part, header: list[str], wanted: tuple[str, ...]) -> None:
    if len(header) == 1 and header[0] not in wanted:
        other = next((mark for mark in ";\t|" if mark in header[0]), None)
        if other:
            raise SourceError(f"{part.name} has one column, {header[0]!r}", hint=f"perhaps delimiter={other!r}")
    if header:
        check_columns(part.name, wanted, header)


def _records(lines: _Lines, records: Iterator[list[str]], header: list[str]) -> Iterator[Row | BadRow]:
    width = len(header)
    while True:
        lines.begin()
        try:
            fields = next(records)
        except StopIteration:
            return
        except _TooLongError:
            yield lines.reject("row.too_large")
        except csv.Error as error:
            yield lines.reject("row.unclosed_quote" if "end of data" in str(error) else "row.invalid_csv")
        else:
            if len(fields) == width:
                yield Row(lines.number - len(lines.taken) + 1, dict(zip(header, fields, strict=True)), plain=True)
            elif fields:
                yield lines.reject("row.columns")
