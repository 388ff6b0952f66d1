"""The elements of one large JSON array, without holding the array.

Only brackets and strings are looked at, so an element that is not valid JSON is handed on like any
other and only its own row is rejected. Where an element is never closed (or is too large), reading
goes on at the next place that looks like the border of two objects.
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
    """`buffer[start:]` is the current element, or the space before it; brackets are counted up to
    `scanned`. `depth` is 0 outside the array, 1 between its elements, more inside one.
    """

    def __init__(self, limit: int) -> None:
        self.buffer = b""
        self.limit = limit
        self.depth = 0
        self.start = 0
        self.scanned = 0
        self.rows = 0
        self.skipping = False

    def split(self) -> Iterator[bytes | BadRow]:
        """The elements that are complete by now; the buffer keeps what is not."""
        for token in _TOKEN.finditer(self.buffer, self.scanned):
            if token[0] == b'"':  # the rest of this string is still to come
                self.scanned = token.start()
                break
            self.scanned = token.end()
            yield from self._token(token)
        else:
            self.scanned = len(self.buffer)
        if self.depth > 1 and not self.skipping and len(self.buffer) - self.start > self.limit:
            self.skipping = True
            yield self._bad("row.too_large", self.buffer[self.start :])
        if self.skipping:
            self._forget()
        self.buffer = self.buffer[self.start :]
        self.scanned -= self.start
        self.start = 0

    def finish(self) -> Iterator[bytes | BadRow]:
        """What is left at the end of the file: nothing, or an element that was never closed."""
        while self.depth > 1 and not self.skipping:
            border = _BORDER.search(self.buffer, self.start)
            if border is None:
                break
            self.rows += 1
            yield self.buffer[self.start : border.start() + 1]
            self.start = self.scanned = border.end()
            self.depth = 1
            yield from self.split()
        if self.depth and not self.skipping:
            yield from self._between(len(self.buffer))

    def _token(self, token: re.Match[bytes]) -> Iterator[bytes | BadRow]:
        kind = token[0][:1]
        if kind in b"{[":
            if self.depth == 1:
                yield from self._between(token.start())
            self.depth += 1
            if self.depth == 1:
                self.start = token.end()
        elif kind in b"}]" and self.depth:
            self.depth -= 1
            if self.depth == 0:
                yield from self._between(token.start())
            elif self.depth == 1:
                yield from self._element(token.end())

    def _element(self, end: int) -> Iterator[bytes | BadRow]:
        """The element that ends here; nothing where it was too large and is reported already."""
        if not self.skipping:
            self.rows += 1
            yield self.buffer[self.start : end]
        self.skipping = False
        self.start = end

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
