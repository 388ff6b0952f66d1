"""Server-sent events, as the OpenAI API frames them."""

from __future__ import annotations

from typing import Final

import orjson

from curator.types import JsonObject

DONE: Final = b"data: [DONE]\n\n"
"""Ends a finished stream of chunks. A stream that broke ends with an error event and without it."""

MEDIA: Final = "text/event-stream"


def data(body: JsonObject) -> bytes:
    """A chunk."""
    return b"data: " + orjson.dumps(body) + b"\n\n"


def event(body: JsonObject) -> bytes:
    """An event of the Responses API, which says its type twice."""
    return b"event: " + str(body["type"]).encode() + b"\n" + data(body)
