"""A local mock of OpenAI-compatible servers: fixed latency, seeded or scripted faults.

    python -m benchmarks.mock_server --port 8900 --latency 0.05 --rate-limit 0.02 --hang 0.005

Speaks chat completions with log-probabilities, `/v1/decisions`, `/v1/systemone` and vLLM's token routes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Self

import orjson
from aiohttp import web

from benchmarks.mock_routes import DIALECTS, Route, Said

FAULTS = ("rate_limit", "server_error", "invalid_json", "wrong_shape", "hang", "drop", "half")


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares of requests that fail in each way, drawn with `seed`; or `script`, one name (or "") per
    request in order of arrival, after which all is well."""

    rate_limit: float = 0.0
    server_error: float = 0.0
    invalid_json: float = 0.0
    wrong_shape: float = 0.0
    hang: float = 0.0
    drop: float = 0.0
    half: float = 0.0
    retry_after: str = "0.1"
    seed: int = 0
    script: Sequence[str] = ()


@dataclass
class MockServer:
    """`async with MockServer(...) as server: server.url`. `status` maps paths to fixed error answers;
    more than `capacity` requests at once are answered 429."""

    speaks: Sequence[str] = ("chat",)
    labels: Sequence[str] = ("positive", "negative")
    latency: float = 0.0
    faults: Faults = Faults()
    capacity: int = 1_000_000
    api_key: str = ""
    port: int = 0
    keep: bool = True
    status: Mapping[str, tuple[int, object]] = field(default_factory=dict)
    replies: Mapping[str, object] = field(default_factory=dict)
    requests: list[tuple[str, Said]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    async def __aenter__(self) -> Self:
        self._busy = 0
        self._random = random.Random(self.faults.seed)
        self._routes: dict[str, Route] = {}
        for dialect in self.speaks:
            self._routes |= DIALECTS[dialect]
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.read()
        number = sum(self.counts.values())
        self.counts[request.path] += 1
        if self.keep:
            self.requests.append((request.path, orjson.loads(raw)))
            self.headers.append(request.headers)
        self._busy += 1
        try:
            if self._busy > self.capacity:
                return self._error(429, "too many requests", {"Retry-After": self.faults.retry_after})
            await asyncio.sleep(self.latency)
            fault = self._fault(number)
            return await self._fail(request, fault) if fault else self._answer(request, raw)
        finally:
            self._busy -= 1

    def _answer(self, request: web.BaseRequest, raw: bytes) -> web.Response:
        path = request.path
        if self.api_key and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return self._error(401, f"Incorrect API key provided: {request.headers.get('Authorization', '')}")
        if path in self.status:
            status, body = self.status[path]
            return _json(body, status)
        if path in self.replies:
            return _json(self.replies[path])
        if path not in self._routes:
            return _json({"detail": "Not Found"}, 404)
        return _json(self._routes[path](orjson.loads(raw), self.labels))

    def _fault(self, number: int) -> str:
        if self.faults.script:
            return self.faults.script[number] if number < len(self.faults.script) else ""
        drawn = self._random.random()
        for name in FAULTS:
            drawn -= getattr(self.faults, name)
            if drawn < 0:
                return name
        return ""

    async def _fail(self, request: web.BaseRequest, fault: str) -> web.StreamResponse:
        self.counts[fault] += 1
        if fault == "rate_limit":
            return self._error(429, "slow down", {"Retry-After": self.faults.retry_after})
        if fault == "server_error":
            return self._error(500, "out of luck")
        if fault == "invalid_json":
            return web.Response(body=b'{"choices": [{"mess', content_type="application/json")
        if fault == "wrong_shape":
            return _json({"choices": []})
        if fault == "hang":
            await asyncio.sleep(3600)
        if fault == "half":
            return await _half(request)
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    def _error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
        return _json({"error": {"message": message, "type": "mock", "code": status}}, status, headers)


async def _half(request: web.BaseRequest) -> web.StreamResponse:
    """Promise 1,000 bytes, send 20, hang up."""
    response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"choices": [{"index"')
    if request.transport is not None:
        request.transport.close()
    return response


def _json(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type="application/json")


async def serve(server: MockServer) -> None:
    """Run until killed; prints the URL when ready."""
    async with server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--speaks", nargs="+", default=["chat"], choices=sorted(DIALECTS))
    for known in fields(Faults):
        if known.name in FAULTS:
            parser.add_argument(f"--{known.name.replace('_', '-')}", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    given = vars(parser.parse_args())
    faults = Faults(seed=given["seed"], **{name: given[name] for name in FAULTS})
    server = MockServer(given["speaks"], latency=given["latency"], faults=faults, port=given["port"], keep=False)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(server))


if __name__ == "__main__":
    main()
