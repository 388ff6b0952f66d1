"""Models for the engines' tests: a tiny random one made here in a second, and SmolLM2-135M for what is marked `engine`.

There is one vLLM in process for the whole suite, started when first asked for; `vllm serve` is in tests/conftest.py.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing
from typing import TypeVar

import psutil
import pytest
from vllm_process import DTYPE

from curator.engines.base import Preview
from curator.engines.vllm import VLLMEngine
from curator.types import Completion, DecideRequest, Decisions, Delta, GenerateRequest

T = TypeVar("T")

SMOL = "wheel:smollm2-135m"


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
    running = [child for child in psutil.Process().children(recursive=True) if child.is_running()]
    ours = [child for child in running if child.name().startswith("VLLM")]
    # Those of the suite's `vllm serve` lie in that server's session.
    return [child for child in ours if os.getsid(child.pid) == os.getsid(0)]


@pytest.fixture(scope="session")
def vllm_processes() -> Callable[[], list[psutil.Process]]:
    """Lists the processes of vLLM in process."""
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
