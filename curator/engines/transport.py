"""HTTP with JSON bodies: one aiohttp session, and every failure mapped to our errors."""

from __future__ import annotations

import asyncio
import email.utils
import re
import time
from collections.abc import Mapping
from datetime import UTC
from typing import Final

import aiohttp
import orjson
from yarl import URL

from curator import telemetry
from curator.errors import (
    AuthenticationError,
    ConfigError,
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


class Transport:
    """Posts JSON to the paths of one server.

    `timeout` is seconds for a whole exchange; at most `connections` are open at once and they are
    kept alive. The session is made at the first call, in the event loop that makes it.
    """

    def __init__(
        self, base_url: str, *, api_key: str | None, timeout: float, headers: Mapping[str, str], connections: int
    ) -> None:
        self.base = parse_base(base_url)
        self.timeout = timeout
        self._secret = api_key or ""
        self._headers = {"Content-Type": "application/json", "Accept": "application/json", **headers}
        if api_key:
            self._headers.setdefault("Authorization", f"Bearer {api_key}")
        if bad := [name for name, value in self._headers.items() if not (name + value).isprintable()]:
            raise ConfigError(f"the header {bad[0]} holds a line break or another control character")
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._urls: dict[str, URL] = {}

    async def post(self, path: str, body: bytes) -> Json:
        """POST `body` (JSON) and return the parsed answer.

        `path` is relative to the base URL (`/decisions`); with a leading `//` it is relative to the
        server's root (`//tokenize`).

        Raises: EngineError's kin by status; ServerError for a refused, dropped or half-sent
        exchange and for a body that is no JSON; EngineTimeoutError.
        """
        url = self._urls.get(path) or self._url(path)
        session = self._session
        if session is None or session.closed or self._loop is not asyncio.get_running_loop():
            session = await self._open()
        try:
            async with session.post(
                url, data=body, headers=telemetry.trace_headers() or None, allow_redirects=False
            ) as response:
                status = response.status
                raw = await response.read()
                if status != 200:
                    raise error_from(status, response.headers, raw, str(url), self._secret)
        except TimeoutError:
            raise EngineTimeoutError(
                f"no answer from {url} within {self.timeout:g} s", hint="raise `timeout`, or lower the concurrency"
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise self._broken(url, error) from error
        try:
            parsed: Json = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise ServerError(f"{url} sent no valid JSON: {_excerpt(raw, self._secret)!r} ({error})") from None
        return parsed

    async def aclose(self) -> None:
        """Close the connections. A later call opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _open(self) -> aiohttp.ClientSession:
        """A new session; one that belongs to another (finished) event loop is of no use any more."""
        await self.aclose()
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=self.timeout, sock_connect=min(10.0, self.timeout)),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
        )
        return self._session

    def _url(self, path: str) -> URL:
        url = self.base.origin().with_path(path[1:]) if path.startswith("//") else URL(str(self.base) + path)
        self._urls[path] = url
        return url

    def _broken(self, url: URL, error: Exception) -> EngineError:
        text = str(error).replace(self._secret, "***") if self._secret else str(error)
        if isinstance(error, aiohttp.ClientSSLError):
            return RequestRejectedError(
                f"no secure connection to {url}: {text}", hint="check https:// and certificates"
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            return ServerError(
                f"cannot connect to {url}: {error.os_error.strerror or text}",
                hint=f"is a server running at {self.base.origin()}?",
            )
        if isinstance(error, aiohttp.InvalidURL):
            return RequestRejectedError(f"{url} is not a URL")
        return ServerError(f"{url} broke the connection: {text or type(error).__name__}")


def parse_base(base_url: str) -> URL:
    """The server's base URL without a trailing slash.

    Raises: ConfigError if it is not an http(s) URL, or holds credentials or a query.
    """
    try:
        url = URL(base_url.rstrip("/"))
        valid = url.scheme in ("http", "https") and bool(url.host) and url.port is not None
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f"{base_url!r} is not a server's URL", hint="e.g. http://localhost:8000/v1")
    if url.user or url.password:
        raise ConfigError("a URL must not hold credentials", hint="pass api_key instead")
    if url.query_string or url.fragment:
        raise ConfigError(f"{base_url!r} must end with the path", hint="put the model behind #, settings behind its ?")
    return url


def error_from(status: int, headers: Mapping[str, str], raw: bytes, url: str, secret: str = "") -> EngineError:
    """The error for an HTTP answer other than 200, with the server's own message."""
    said = _excerpt(_message(raw).encode(), secret)
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


def _excerpt(raw: bytes, secret: str) -> str:
    text = raw[: 4 * EXCERPT].decode("utf-8", "replace")
    return (text.replace(secret, "***") if secret else text)[:EXCERPT]


def _figure(patterns: tuple[str, ...], text: str) -> int:
    for pattern in patterns:
        if found := re.search(pattern, text, re.IGNORECASE):
            return int(found.group(1).replace(",", ""))
    return 0
