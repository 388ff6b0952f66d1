"""What is no proper request: too large, too slow, no JSON, no such path; and sockets that misbehave."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from gateway_builders import MOOD_BODY, Running, running, scripted_tiers

pytestmark = pytest.mark.anyio

BODY = json.dumps({"model": "cascade", "input": "fine", "questions": [MOOD_BODY]}).encode()


def post(body: bytes, path: str = "/v1/decisions", **headers: str) -> bytes:
    given = {"Host": "x", "Content_Length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


async def talk(server: Running, *said: bytes, wait: float = 0.0) -> bytes:
    """All that comes back until the server closes, or has answered what was `said` and is told that this is the end."""
    host, _, port = server.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    for part in said:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(wait)
    try:
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


def told(answer: httpx.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["code"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "invalid_json")),
        (b"{", (400, "invalid_json")),
        (b"\xff\xfe", (400, "invalid_json")),
        (b'{"model": "\xff"}', (400, "invalid_json")),
        (b"NaN", (400, "invalid_json")),
        (b"[" * 100_000, (400, "invalid_json")),
        (b"[]", (400, "invalid_value")),
        (b"{}", (400, "invalid_value")),
        (b'{"model": 7, "input": "x", "questions": []}', (400, "invalid_value")),
    ],
)
async def test_bodies_that_cannot_be_read(tmp_path: Path, body: bytes, expected: tuple[int, str]) -> None:
    async with running(tmp_path) as server, httpx.AsyncClient() as client:
        assert told(await client.post(f"{server.url}/v1/decisions", content=body)) == expected
        assert told(await client.post(f"{server.url}/v1/chat/completions", content=body)) == expected


async def test_a_body_that_is_too_large(tmp_path: Path) -> None:
    async def much():
        for _ in range(200):
            yield b" " * 1000

    async with running(tmp_path, limits={"body": 10_000}) as server, httpx.AsyncClient() as client:
        url = f"{server.url}/v1/decisions"
        exact = BODY + b" " * (10_000 - len(BODY))
        assert (await client.post(url, content=exact)).status_code == 200
        assert told(await client.post(url, content=exact + b" ")) == (413, "body_too_large")
        # Without a Content-Length it is read as far as it may go.
        assert told(await client.post(url, content=much())) == (413, "body_too_large")
        said = await talk(server, post(b"", Content_Length="100000000"))
        assert said.startswith(b"HTTP/1.1 413")


async def test_a_body_that_does_not_come(tmp_path: Path) -> None:
    async with running(tmp_path, limits={"body_seconds": 0.3}) as server:
        said = await talk(server, post(BODY[:20], Content_Length=str(len(BODY))))
    assert said.startswith(b"HTTP/1.1 408")
    assert b"request_timeout" in said


async def test_a_slow_client_is_served_all_the_same(tmp_path: Path) -> None:
    whole = post(BODY, Connection="close")
    pieces = [whole[at : at + 40] for at in range(0, len(whole), 40)]
    async with running(tmp_path) as server:
        said = await talk(server, *pieces, wait=0.01)
    assert said.startswith(b"HTTP/1.1 200")


async def test_half_open_connections_are_closed(tmp_path: Path) -> None:
    async with running(tmp_path, limits={"idle_seconds": 0.3}) as server:
        assert await talk(server) == b""
        assert await talk(server, b"POST /v1/decisions HTTP/1.1\r\nHost: x\r\n") == b""


async def test_a_half_sent_request_takes_no_place(tmp_path: Path) -> None:
    """Clients that begin and go away, in the head and in the body, leave nothing in flight."""
    async with running(tmp_path, limits={"in_flight": 1, "queue": 0}) as server:
        host, _, port = server.url.removeprefix("http://").rpartition(":")
        whole = post(BODY)
        for part in (whole[:30], whole[: whole.index(b"\r\n\r\n") + 4], whole[:-5]):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(part)
            await writer.drain()
            writer.close()
        said = await talk(server, post(BODY, Connection="close"))
        assert said.startswith(b"HTTP/1.1 200")
        assert server.gateway.admission.in_flight == 0


async def test_a_body_that_waits_for_its_turn(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        said = await talk(server, post(BODY, Expect="100-continue", Connection="close"))
        assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")
        assert (await talk(server, post(BODY, Expect="a miracle", Connection="close"))).startswith(b"HTTP/1.1 200")


async def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    hard = BODY.replace(b"fine", b"hard")
    async with running(tmp_path) as server:
        said = await talk(server, post(BODY) + post(hard) + post(BODY, Connection="close"))
    tiers = [line.split(b": ")[1] for line in said.split(b"\r\n") if line.lower().startswith(b"x-goldless-tier")]
    assert tiers == [b"small", b"strong", b"small"]


async def test_a_request_that_is_no_http_leaves_nothing_of_it_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "Bearer sk-gl-secret"
    async with running(tmp_path) as server:
        said = await talk(server, post(b"", Authorization=f"{secret}\x00"))
    assert said.startswith(b"HTTP/1.0 400")
    assert "sk-gl-secret" not in caplog.text


async def test_paths_and_methods(tmp_path: Path) -> None:
    async with running(tmp_path) as server, httpx.AsyncClient(base_url=server.url) as client:
        assert told(await client.get("/v2/chat")) == (404, "not_found")
        assert told(await client.get("/v1/models/gpt-9")) == (404, "model_not_found")
        wrong = await client.get("/v1/decisions")
        assert told(wrong) == (405, "method_not_allowed")
        assert wrong.headers["allow"] == "POST"
        assert told(await client.request("PURGE", "/healthz")) == (405, "method_not_allowed")
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.get("/readyz")).json() == {"status": "ready", "tiers": {"small": True, "strong": True}}
        assert told(await client.get("/metrics")) == (501, "not_available")
        state = (await client.get("/status")).json()
        assert [one["verdict"] for one in state["policy"]["questions"]] == ["PASS", "PASS"]
        assert state["upstreams"]["small"][0]["breaker"] == "closed"
        server.gateway.draining = True
        assert (await client.get("/readyz")).status_code == 503


async def test_many_at_once_are_told_to_come_again(tmp_path: Path) -> None:
    tiers = scripted_tiers()
    tiers["small"]._latency = 0.5
    limits = {"in_flight": 1, "queue": 1, "queue_seconds": 5.0}
    async with running(tmp_path, tiers, limits=limits) as server, httpx.AsyncClient() as client:
        asked = [client.post(f"{server.url}/v1/decisions", content=BODY, timeout=30) for _ in range(4)]
        found = await asyncio.gather(*asked)
    codes = sorted(answer.status_code for answer in found)
    assert codes == [200, 200, 503, 503]
    refused = next(answer for answer in found if answer.status_code == 503)
    assert told(refused) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
