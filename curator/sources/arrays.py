"""The elements of one large JSON array, without holding the array.

Only brackets and strings are looked at, so an element that is not valid JSON is handed on like any
other and only its own row is rejected. Where the brackets of an element do not match, it ends at the
next place that looks like the border of two objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from curator.sources.base import BadRow, excerpt

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|["{}\[\]]', re.DOTALL)
"""A whole string, a bracket, or the quote of a string that is not complete yet."""
_BORDER = re.compile(rb"\}\s*,\s*(?=\{)")
_SPACE = b" \t\r\n,"


def elements(chunks: Iterable[bytes], limit: int) -> Iterator[bytes | BadRow]:
    """The elements of the array that `chunks` spell, each as bytes; a BadRow for one that is larger
    than `limit` bytes, and for what stands between the elements but is none."""
    splitter = _Splitter(limit)
    for chunk in chunks:
        splitter.buffer += chunk
        yield from splitter.split()
    yield from splitter.finish()


class _Splitter:
    """`buffer[start:]` is the current element, or the space before it; brackets are matched up to
    `scanned`. `open` holds the open brackets: the array's own, then those of the current element.
    """

    def __init__(self, limit: int) -> None:
        self.buffer = b""
        self.limit = limit
        self.open = bytearray()
        self.start = 0
        self.scanned = 0
        self.rows = 0
        self.skipping = False

    def split(self) -> Iterator[bytes | BadRow]:
        """The elements that are complete by now; the buffer keeps what is not."""
        while (token := _TOKEN.search(self.buffer, self.scanned)) and token[0] != b'"':
            self.scanned = token.end()
            if len(token[0]) == 1:
                yield from self._bracket(token[0], token.start())
        # An open quote is where scanning goes on when the rest of its string is there.
        self.scanned = token.start() if token else len(self.buffer)
        if len(self.open) > 1 and not self.skipping and len(self.buffer) - self.start > self.limit:
            self.skipping = True
            yield self._bad("row.too_large", self.buffer[self.start :])
        if self.skipping:
            self._forget()
        self.buffer = self.buffer[self.start :]
        self.scanned -= self.start
        self.start = 0

    def finish(self) -> Iterator[bytes | BadRow]:
        """What is left at the end of the file: nothing, or an element that was never closed."""
        while len(self.open) > 1 and not self.skipping and self._border(len(self.buffer)):
            yield from self._element(self.scanned)
            yield from self.split()
        if self.open and not self.skipping:
            yield from self._between(len(self.buffer))

    def _bracket(self, bracket: bytes, at: int) -> Iterator[bytes | BadRow]:
        if bracket in b"{[":
            if len(self.open) == 1:
                yield from self._between(at)
            self.open += bracket
            if len(self.open) == 1:
                self.start = at + 1
        elif len(self.open) == 1:
            yield from self._between(at)
            self.open.clear()
        elif self.open:
            matched = bytes((self.open.pop(),)) + bracket in (b"{}", b"[]")
            if not matched and not self.skipping:
                self._border(at + 1)
                yield from self._element(self.scanned)
            elif len(self.open) == 1:
                yield from self._element(at + 1)

    def _border(self, end: int) -> bool:
        """Let the current element, whose brackets do not match, end at the first border before
        `end`; where there is none, at `end`."""
        border = _BORDER.search(self.buffer, self.start, end)
        self.scanned = border.start() + 1 if border else end
        return border is not None

    def _element(self, end: int) -> Iterator[bytes | BadRow]:
        """The element that ends here; nothing where it was too large and is reported already."""
        del self.open[1:]
        raw = self.buffer[self.start : end]
        self.start = end
        if self.skipping:
            self.skipping = False
        elif len(raw) > self.limit:
            yield self._bad("row.too_large", raw)
        else:
            self.rows += 1
            yield raw

    def _between(self, end: int) -> Iterator[BadRow]:
        """Anything but commas before `end` is a bare value: no object, but a row all the same."""
        stray = self.buffer[self.start : end].strip(_SPACE)
        self.start = end
        if stray:
            yield self._bad("row.not_object" if stray[:1] not in b"{[" else "row.invalid_json", stray)

    def _bad(self, reason: str, raw: bytes) -> BadRow:
        self.rows += 1
        return BadRow(self.rows, reason, excerpt(raw))

    def _forget(self) -> None:
        """Let go of an element that is too large; an open string stays open."""
        rest = self.buffer[self.scanned :]
        escape = (len(rest) - len(rest.rstrip(b"\\"))) % 2
        self.buffer = b'"' + b"\\" * escape if rest else b""
        self.scanned = self.start = 0
