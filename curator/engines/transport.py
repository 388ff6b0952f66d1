"""HTTP with JSON bodies: one aiohttp session, and every failure mapped to our errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

import aiohttp
import orjson
from yarl import URL

from curator import telemetry
from curator.engines.answered import error_from, excerpt
from curator.engines.sse import Event, EventParser
from curator.errors import (
    ConfigError,
    EngineError,
    EngineTimeoutError,
    RequestRejectedError,
    ServerError,
)
from curator.types import Json

EVENTS: Final = "text/event-stream"
DONE: Final = b"[DONE]"
"""The data of the last event of a stream."""

CONNECT: Final = 10.0
LINGER: Final = 0.2
"""Seconds that a server has to end its answer after the last event. One that does can be asked again on the same
connection."""

_ENDLESS: Final = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT)


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
        session = await self._ready()
        with self._mapped(url):
            async with session.post(
                url, data=body, headers=telemetry.trace_headers() or None, allow_redirects=False
            ) as response:
                status = response.status
                raw = await response.read()
                if status != 200:
                    raise error_from(status, response.headers, raw, str(url), self._secret)
        return self._parsed(raw, url)

    async def events(self, path: str, body: bytes) -> AsyncGenerator[Event, None]:
        """POST `body` and read the answer as server-sent events; a server that answers with one JSON body after all is
        one event of the name `whole`. Closing the generator closes the connection, so that the server can stop.

        `timeout` is for everything up to the first event, and then for each pause before the next one: comments that
        keep a connection open do not count. Whether the answer is whole when the events end is the caller's to tell.
        Raises: as `post`, also in the middle.
        """
        url, loop = self._urls.get(path) or self._url(path), asyncio.get_running_loop()
        deadline = loop.time() + self.timeout
        response = await self._opened(url, body, deadline)
        try:
            if response.content_type != EVENTS:
                yield Event("whole", await self._rest(response, url, deadline))
                return
            parser, raw, last = EventParser(), b"*", b""
            while raw and last != DONE:
                with self._mapped(url):
                    async with asyncio.timeout_at(deadline):
                        raw = await response.content.readany()
                for event in parser.feed(raw) if raw else parser.end():
                    last = event.data
                    yield event
                    deadline = loop.time() + self.timeout
            await _linger(response)
        finally:
            response.close()

    async def _opened(self, url: URL, body: bytes, deadline: float) -> aiohttp.ClientResponse:
        """The answer to a request for a stream, its head read. Raises: as `post`."""
        session = await self._ready()
        headers = {"Accept": EVENTS, **telemetry.trace_headers()}
        with self._mapped(url):
            async with asyncio.timeout_at(deadline):
                response = await session.post(url, data=body, headers=headers, allow_redirects=False, timeout=_ENDLESS)
        if response.status == 200:
            return response
        try:
            raw = await self._rest(response, url, deadline)
            raise error_from(response.status, response.headers, raw, str(url), self._secret)
        finally:
            response.close()

    async def _rest(self, response: aiohttp.ClientResponse, url: URL, deadline: float) -> bytes:
        with self._mapped(url):
            async with asyncio.timeout_at(deadline):
                return await response.read()

    def parsed(self, raw: bytes, path: str) -> Json:
        """What the server sent, as JSON. Raises: ServerError for what is none."""
        return self._parsed(raw, self._urls.get(path) or self._url(path))

    def reported(self, status: int, raw: bytes, path: str) -> EngineError:
        """The error that a server reports inside an answer."""
        return error_from(status, {}, raw, str(self._urls.get(path) or self._url(path)), self._secret)

    async def aclose(self) -> None:
        """Close the connections. A later call opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @contextmanager
    def _mapped(self, url: URL) -> Iterator[None]:
        """Failures of the network as ours."""
        try:
            yield
        except TimeoutError:
            said = f"no answer from {url} within {self.timeout:g} s"
            late = EngineTimeoutError(said, hint="raise `timeout`, or lower the concurrency")
            late.gist = said
            raise late from None
        except (aiohttp.ClientError, OSError) as error:
            broken = self._broken(url, error)
            broken.gist = broken.message
            raise broken from error

    def _parsed(self, raw: bytes, url: URL) -> Json:
        try:
            parsed: Json = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise ServerError(f"{url} sent no valid JSON: {excerpt(raw, self._secret)!r} ({error})") from None
        return parsed

    async def _ready(self) -> aiohttp.ClientSession:
        session = self._session
        if session is None or session.closed or self._loop is not asyncio.get_running_loop():
            return await self._open()
        return session

    async def _open(self) -> aiohttp.ClientSession:
        """A new session; one that belongs to another (finished) event loop is of no use any more."""
        await self.aclose()
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=60),
            timeout=aiohttp.ClientTimeout(total=self.timeout, sock_connect=min(CONNECT, self.timeout)),
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


async def _linger(response: aiohttp.ClientResponse) -> None:
    """Wait for the end of an answer that has said all."""
    with suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(LINGER):
            while await response.content.readany():
                pass


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
