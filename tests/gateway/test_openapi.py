"""The served document against the server: asked as it says, and as it does not."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import httpx
import pytest
from gateway_builders import running, scripted_tiers

from cascade.gateway.app import ENDPOINTS
from cascade.gateway.openapi import document
from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.types import DecideRequest


def first(request: DecideRequest) -> dict[str, object]:
    """Sure of the first option of whatever is asked."""
    return {question.name: question.labels[0] for question in request.questions}


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server in a thread of its own."""
    tiers = scripted_tiers(
        small=ScriptedEngine(first, lambda _: "a draft", identity=EngineIdentity("scripted", "small")),
        strong=ScriptedEngine(first, lambda _: "an answer", identity=EngineIdentity("scripted", "strong")),
    )
    found: list[str] = []
    ready, stop = threading.Event(), threading.Event()

    async def main() -> None:
        async with running(tmp_path, tiers) as server:
            found.append(server.url)
            ready.set()
            await anyio.to_thread.run_sync(stop.wait)

    thread = threading.Thread(target=anyio.run, args=(main,))
    thread.start()
    try:
        assert ready.wait(20)
        yield found[0]
    finally:
        stop.set()
        thread.join(20)


def test_it_describes_every_endpoint() -> None:
    paths = document(["cascade"])["paths"]
    assert {(one.method.lower(), one.path) for one in ENDPOINTS} == {
        (method, path) for path, methods in paths.items() for method in methods if method != "parameters"
    }


def test_the_server_is_as_it_says(url: str, tmp_path: Path) -> None:
    """schemathesis makes requests from the document, right and wrong ones, and checks the answers against it."""
    assert httpx.get(f"{url}/openapi.json").json() == json.loads(
        json.dumps(document(["cascade", "cascade:small", "cascade:strong"]))
    )
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "-n", "15", "--seed", "1"]
    # A choice may have the same option twice, as far as a schema can say, and any request may have more headers. There
    # are no metrics without an SDK.
    command += ["--exclude-checks", "positive_data_acceptance,negative_data_rejection", "--exclude-path", "/metrics"]
    command += ["--generation-database", "none", "--no-color"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
