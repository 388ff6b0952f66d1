"""Reading request bodies: bounded in size and in time, and always JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import orjson
from aiohttp import web

from cascade.gateway.settings import LimitSettings
from cascade.wire.faults import Fault
from curator.types import Json


class Refused(Exception):  # noqa: N818
    """The gateway itself answers, with `fault` and `headers`. `closes` the connection where the rest of a request is
    not read."""

    def __init__(self, fault: Fault, *, closes: bool = False, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.closes = closes
        self.headers = headers or {}


async def read_json(request: web.Request, limits: LimitSettings) -> Json:
    """The body.

    Raises: Refused for one that is too large (413), too slow (408), or no JSON (400).
    """
    raw = await _read(request, limits)
    try:
        found: Json = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        problem = "is empty" if not raw else _not_utf8(raw) or f"is no valid JSON: {error}"
        raise Refused(Fault(400, f"the body {problem}", "invalid_request_error", "invalid_json")) from None
    return found


def _not_utf8(raw: bytes) -> str:
    """Where the body is no text; nothing if it is."""
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        return f"is no valid UTF-8: byte {error.start} is {raw[error.start]:#04x}"
    return ""


async def _read(request: web.Request, limits: LimitSettings) -> bytes:
    if (request.content_length or 0) > limits.body:
        raise _too_large(limits.body)
    try:
        if request.content.is_eof():
            # It came with its headers, as short ones do: there is nothing to wait for.
            return await request.read()
        async with asyncio.timeout(limits.body_seconds):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(limits.body) from None
    except TimeoutError:
        text = f"the body was not all there after {limits.body_seconds:g} s"
        raise Refused(Fault(408, text, "invalid_request_error", "request_timeout"), closes=True) from None
    except (web.HTTPException, web.RequestPayloadError, ValueError):
        text = "the body does not have the encoding that its headers say"
        raise Refused(Fault(400, text, "invalid_request_error", "invalid_encoding"), closes=True) from None


def _too_large(most: int) -> Refused:
    text = f"the body has more than {most} bytes, the most that this server takes (its serve.limits.body)"
    return Refused(Fault(413, text, "invalid_request_error", "body_too_large"), closes=True)
