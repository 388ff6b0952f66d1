"""Server-sent events, read from bytes as they come in.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html (parsing an event stream). Stricter in one
point: a line that is none of the known fields is an error, as it is a sign of something else than events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from curator.errors import ServerError

FIELDS: Final = (b"data", b"event", b"id", b"retry")
BOM: Final = b"\xef\xbb\xbf"
LIMIT: Final = 16 << 20
"""Bytes of one event. A server that sends more without an end is broken."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its kind (`message` where it names none) and its data."""

    name: str
    data: bytes


class EventParser:
    """Bytes in, in pieces of any size, events out. Lines end with LF, CRLF or CR; comments are passed over."""

    def __init__(self) -> None:
        self._rest = b""
        self._after_return = False
        self._begun = False
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, raw: bytes) -> Iterator[Event]:
        """The events that are complete now. Read them all: those before an error come before it.

        Raises: ServerError for a line that belongs to no event, or an event without end.
        """
        text = self._whole(raw)
        if not self._begun:
            if BOM.startswith(text):
                self._rest, text = text, b""
            self._begun = bool(text)
            text = text.removeprefix(BOM)
        if not text:
            return
        *lines, self._rest = text.split(b"\n")
        for line in lines:
            if (event := self._line(line)) is not None:
                yield event
        if self._size + len(self._rest) > LIMIT:
            raise ServerError(f"the server sent an event of more than {LIMIT >> 20} MiB")

    def end(self) -> Iterator[Event]:
        """The event that the stream ended in, where its closing blank line is missing.

        Raises: as `feed`.
        """
        rest, self._rest = self._rest, b""
        for line in (rest, b""):
            if (event := self._line(line)) is not None:
                yield event

    def _whole(self, raw: bytes) -> bytes:
        """What is to be read now, with LF at the end of every line."""
        if b"\r" not in raw and not self._after_return:
            return self._rest + raw
        if self._after_return:
            raw = raw.removeprefix(b"\n")
        self._after_return = raw.endswith(b"\r")
        return self._rest + raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _line(self, line: bytes) -> Event | None:
        if not line:
            return self._event()
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._size += len(value)
        elif name == b"event":
            self._name = value
        elif name and name not in FIELDS:
            raise ServerError(f"the server sent a line that is no event: {line[:200].decode('utf-8', 'replace')!r}")
        return None

    def _event(self) -> Event | None:
        name, data = self._name, self._data
        self._name, self._data, self._size = b"", [], 0
        return Event(name.decode("utf-8", "replace") or "message", b"\n".join(data)) if data else None
