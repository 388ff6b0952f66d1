"""What a server's answer other than 200 means: its status and message mapped to our errors."""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from datetime import UTC
from typing import Final

import orjson

from curator.errors import (
    AuthenticationError,
    ContextLengthError,
    EngineError,
    EngineTimeoutError,
    ModelNotFoundError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
)
from curator.types import Json

EXCERPT: Final = 400
"""Characters of a server's message that are repeated in an error."""

_TOO_LONG = re.compile(
    r"context.?(length|size|window)|maximum.{0,30}(input|token|length)|too many tokens|prompt is too long"
    r"|longer than the (model|maximum)|input is too long|must have less than \d+ tokens",
    re.IGNORECASE,
)
_LIMITS = (
    r"(?:context length|context size|context window|maximum|limit)[^\d.]{0,40}?(\d[\d,]*)",
    r"\(?(\d[\d,]*) tokens? (?:maximum|limit|max)",
    r"must (?:have less than|be <=) (\d[\d,]*)",
)
_NEEDS = (
    r"(?:requested|resulted in|contains(?: at least)?|given:?|has|total of|input \()\s*(\d[\d,]*)",
    r"(\d[\d,]*) tokens? (?:>|exceed|is longer)",
)


def error_from(status: int, headers: Mapping[str, str], raw: bytes, url: str, secret: str = "") -> EngineError:
    """The error for an HTTP answer other than 200, with the server's own message."""
    error = _error(status, headers, raw, url, secret)
    error.gist = f"{url} answered {status}"
    return error


def _error(status: int, headers: Mapping[str, str], raw: bytes, url: str, secret: str) -> EngineError:
    said = excerpt(_message(raw).encode(), secret)
    text = f"{url} answered {status}: {said}" if said else f"{url} answered {status}"
    if status == 429:
        return RateLimitError(text, retry_after=retry_after(headers.get("Retry-After")))
    if status in (401, 403):
        return AuthenticationError(text, hint="check the API key")
    if status == 413 or (400 <= status < 500 and _TOO_LONG.search(said)):
        return ContextLengthError(text, limit=_figure(_LIMITS, said), needed=_figure(_NEEDS, said))
    if status == 404:
        return ModelNotFoundError(text, hint="check the model's name, and that the URL ends in /v1 where it should")
    if status in (408, 504):
        return EngineTimeoutError(text, retry_after=retry_after(headers.get("Retry-After")))
    if status == 501 or 400 <= status < 500:
        return RequestRejectedError(text)
    if status >= 500:
        return ServerError(text, retry_after=retry_after(headers.get("Retry-After")))
    target = headers.get("Location", "")
    return RequestRejectedError(text, hint=f"the server redirects to {target}" if target else "expected status 200")


def retry_after(value: str | None) -> float | None:
    """Seconds to wait from a Retry-After header: a number, or an HTTP date (RFC 9110, s. 10.2.3)."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time())


def _message(raw: bytes) -> str:
    """The human part of an error body: OpenAI's, FastAPI's and other common shapes, else the text."""
    try:
        body: Json = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return re.sub(r"(<[^>]*>|\s)+", " ", raw[: 8 * EXCERPT].decode("utf-8", "replace")).strip()
    for key in ("error", "message", "detail", "msg"):
        if isinstance(body, list) and body:
            body = body[0]
        if isinstance(body, dict) and key in body:
            body = body[key]
    return body if isinstance(body, str) else orjson.dumps(body).decode()


def excerpt(raw: bytes, secret: str) -> str:
    """The beginning of what a server sent, without the API key."""
    text = raw[: 4 * EXCERPT].decode("utf-8", "replace")
    return (text.replace(secret, "***") if secret else text)[:EXCERPT]


def _figure(patterns: tuple[str, ...], text: str) -> int:
    for pattern in patterns:
        if found := re.search(pattern, text, re.IGNORECASE):
            return int(found.group(1).replace(",", ""))
    return 0
