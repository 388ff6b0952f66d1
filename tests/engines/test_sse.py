"""Server-sent events, cut anywhere."""

from __future__ import annotations

import random

import pytest

from curator.engines.sse import LIMIT, Event, EventParser
from curator.errors import ServerError


def read(*pieces: bytes) -> list[Event]:
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)] + list(parser.end())


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b"data: a\n\ndata:b\n\n", [("message", b"a"), ("message", b"b")]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [("message", b"a"), ("message", b"b")]),
        (b"data: a\r\rdata: b\r\r", [("message", b"a"), ("message", b"b")]),
        (b": ping\n\ndata: a\n: ping\n\n", [("message", b"a")]),
        (b"data: 1\ndata:  2\ndata\ndata: 3\n\n", [("message", b"1\n 2\n\n3")]),
        (b"event: error\nid: 7\nretry: 10\ndata: x\n\ndata: y\n\n", [("error", b"x"), ("message", b"y")]),
        (b"event: ping\n\ndata: a\n\n", [("message", b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("message", b"a")]),
        (b"data: [DONE]", [("message", b"[DONE]")]),
        (b"data: a\n", [("message", b"a")]),
        ("data: é😀\n\n".encode(), [("message", "é😀".encode())]),
        (b"", []),
        (b"\n\n\n", []),
    ],
)
def test_events_are_the_same_however_the_bytes_are_cut(raw, events):
    expected = [Event(name, data) for name, data in events]
    assert read(raw) == expected
    assert read(*(raw[i : i + 1] for i in range(len(raw)))) == expected
    coin = random.Random(1)
    for _ in range(20):
        cuts = sorted(coin.choices(range(len(raw) + 1), k=4))
        assert read(*(raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True))) == expected


@pytest.mark.parametrize("raw", [b'{"error": "overloaded"}\n', b"<html>\n", b"data : a\n\n", b"choices"])
def test_a_line_of_something_else_is_an_error(raw):
    with pytest.raises(ServerError, match="a line that is no event"):
        read(raw)


def test_an_event_without_end_is_an_error():
    parser, line = EventParser(), b"data: " + b"x" * (LIMIT // 16) + b"\n"
    assert not [event for _ in range(16) for event in parser.feed(line)]
    with pytest.raises(ServerError, match="more than 16 MiB"):
        list(parser.feed(line))


def test_what_stands_before_an_error_is_read():
    events = EventParser().feed(b"data: a\n\noops\n")
    assert next(events).data == b"a"
    with pytest.raises(ServerError):
        next(events)
