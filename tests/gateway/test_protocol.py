"""What is no HTTP, over a real socket: refused in JSON, without a word of it, and the server lives."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from gateway_builders import running
from test_app import BODY, post, talk

pytestmark = pytest.mark.anyio

CHUNKED = b"POST /v1/decisions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
SECRET = "sk-gl-secret"
MALFORMED = {
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00", "invalid_http"),
    "no path": (b"GET\r\n\r\n", "invalid_http"),
    "empty lines first": (b"\r\n" * 50 + b"x y z\r\n\r\n", "invalid_http"),
    "method": (b"G@T / HTTP/1.1\r\nHost: x\r\n\r\n", "invalid_http"),
    "version": (b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n", "invalid_http"),
    "address": (b"GET http://[::1 HTTP/1.1\r\nHost: x\r\n\r\n", "invalid_http"),
    "negative length": (post(b"", Content_Length="-5"), "invalid_http"),
    "no colon": (GET + b"bad header\r\n\r\n", "invalid_http"),
    "nul in a header": (post(b"", Authorization=f"{SECRET}\x00"), "invalid_http"),
    "long header": (GET + b"X-A: " + b"a" * 20_000 + b"\r\n\r\n", "headers_too_large"),
    "long path": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", "headers_too_large"),
    "many headers": (GET + b"".join(b"X-%d: a\r\n" % number for number in range(5000)) + b"\r\n", "invalid_http"),
    "two lengths": (CHUNKED[:-2] + b"Content-Length: 5\r\n\r\n0\r\n\r\n", "invalid_http"),
    "no chunk": (CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", "invalid_http"),
    "chunk too long": (CHUNKED + b'3\r\n{"model\r\n0\r\n\r\n', "invalid_http"),
    "no gzip": (post(b"no gzip", Content_Encoding="gzip", Connection="close"), "invalid_encoding"),
}


@pytest.mark.parametrize(("said", "code"), MALFORMED.values(), ids=MALFORMED)
async def test_an_error_in_json_and_the_server_lives(
    tmp_path: Path, said: bytes, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running(tmp_path, limits={"idle_seconds": 1.0, "body_seconds": 2.0}) as server:
        head, _, body = (await talk(server, said)).partition(b"\r\n\r\n")
        status = b"431" if code == "headers_too_large" else b"400"
        assert head.split()[1] == status, head
        assert b"content-type: application/json" in head.lower()
        error = json.loads(body)["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", code)
        assert SECRET not in body.decode() + caplog.text
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert (await talk(server, post(BODY, Connection="close"))).startswith(b"HTTP/1.1 200")


async def test_garbage_behind_a_request_does_not_touch_its_answer(tmp_path: Path) -> None:
    """Pipelined: the first is answered in full or not at all, then the connection ends with the error."""
    async with running(tmp_path) as server:
        said = await talk(server, post(BODY), b"garbage\r\n\r\n", wait=0.2)
    first, _, rest = said.partition(b"HTTP/1.0 400")
    assert first.startswith(b"HTTP/1.1 200")
    assert json.loads(first.partition(b"\r\n\r\n")[2])["goldless"]["certified"] is True
    assert json.loads(rest.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"
