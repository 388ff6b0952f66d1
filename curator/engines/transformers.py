"""A model in this process through transformers: the engine that works wherever torch does.

Requests in flight are cut into micro-batches of similar length; each is one prefill whose logits are computed
at the last position only. The model runs in one worker thread, results leave as soon as their batch is done.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from curator.engines.local import LocalEngine, NextToken, local_identity
from curator.engines.prompt import Prompter
from curator.engines.readout import Tokens, common
from curator.engines.torch_model import TorchModel, load, load_prompter, torch_dtype
from curator.engines.weights import resolve
from curator.errors import EngineError, GoldlessError
from curator.types import GenerateRequest, Sample, Usage

T = TypeVar("T")

CONCURRENCY = 64
"""Requests in flight that give the micro-batches enough prompts of similar length."""


BLOCK = 64
"""Prompts that share this many tokens more with another are better company for it."""

SLACK = 1.25
"""How much more per prompt a larger batch may cost: padding, and less in common."""


@dataclass(slots=True, eq=False)
class _Read:
    """A prompt that waits for its next-token log-probabilities."""

    ids: list[int]
    tokens: Tokens
    answer: asyncio.Future[list[float]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class TransformersEngine(LocalEngine):
    """Decides and generates with a transformers model.

    `weights` is anything that `curator.engines.weights.resolve` takes; `adapter` a folder with a LoRA adapter;
    `device` "cpu", "cuda", ... (default: the best there is); `dtype` "bfloat16", "float16" or "float32";
    `batch_tokens` bounds a micro-batch, padding included; `max_model_len` the context.
    """

    def __init__(
        self,
        weights: str,
        *,
        adapter: str | None = None,
        device: str | None = None,
        dtype: str = "bfloat16",
        batch_tokens: int = 2048,
        max_model_len: int | None = None,
    ) -> None:
        torch_dtype(dtype)
        found = resolve(weights)
        super().__init__(local_identity("transformers", weights, found, adapter, dtype), CONCURRENCY)
        self._load_model = partial(load, found.path, adapter, device, dtype)
        self._load_prompter = partial(load_prompter, found.path, max_model_len)
        self._batch_tokens = batch_tokens
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="goldless-transformers")
        self._model: TorchModel | None = None
        self._prompter: Prompter | None = None
        self._waiting: list[_Read] = []
        self._pump: asyncio.Task[None] | None = None

    async def prompter(self) -> Prompter:
        if self._prompter is None:
            self._prompter = await self._run(self._load_prompter)
        return self._prompter

    async def next_token(self, ids: list[int], tokens: Tokens) -> NextToken:
        read = _Read(ids, tokens)
        self._waiting.append(read)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._work())
        return NextToken(await read.answer, Usage(input_tokens=len(ids)))

    async def sample(self, ids: list[int], request: GenerateRequest) -> tuple[list[Sample], Usage]:
        prompter = await self.prompter()
        samples, tokens = await self._run(partial(self._generate, ids, request, prompter))
        return samples, Usage(input_tokens=len(ids), output_tokens=tokens)

    async def aclose(self) -> None:
        """Free the model; what is in flight fails."""
        if self._pump is not None:
            self._pump.cancel()
        for read in self._waiting:
            read.answer.cancel()
        self._waiting.clear()
        await asyncio.to_thread(self._worker.shutdown)
        self._model = self._prompter = None
        gc.collect()

    def _ready(self) -> TorchModel:
        """The model; called in the worker thread only."""
        if self._model is None:
            self._model = self._load_model()
        return self._model

    async def _run(self, work: Callable[[], T]) -> T:
        """Run `work` in the worker thread.

        Raises: EngineError for whatever torch and transformers raise (out of memory, kernels, shapes).
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, work)
        except GoldlessError:
            raise
        except Exception as error:
            raise EngineError(f"{self.identity} failed: {type(error).__name__}: {error}") from error

    async def _work(self) -> None:
        """Run micro-batches until nobody waits."""
        while batch := self._take():
            try:
                answers = await self._run(partial(self._read, batch))
            except Exception as error:
                for read in batch:
                    if not read.answer.done():
                        read.answer.set_exception(error)
                continue
            for read, answer in zip(batch, answers, strict=True):
                if not read.answer.done():
                    read.answer.set_result(answer)

    def _read(self, batch: list[_Read]) -> list[list[float]]:
        return self._ready().next_logprobs([read.ids for read in batch], [read.tokens for read in batch])

    def _generate(self, ids: list[int], request: GenerateRequest, prompter: Prompter) -> tuple[list[Sample], int]:
        return self._ready().generate(ids, request, prompter)

    def _take(self) -> list[_Read]:
        """The read that waits longest, with those that go well with it."""
        self._waiting = [read for read in self._waiting if not read.answer.done()]
        if not self._waiting:
            return []
        chosen = set(choose([read.ids for read in self._waiting], self._batch_tokens))
        batch = [read for place, read in enumerate(self._waiting) if place in chosen]
        self._waiting = [read for place, read in enumerate(self._waiting) if place not in chosen]
        return batch


def choose(prompts: Sequence[Sequence[int]], most: int) -> list[int]:
    """Places of the prompts to run together with the first one: those that begin alike and are of similar length,
    as long as no prompt costs much more than it would in the best smaller batch. `most` bounds the tokens."""
    first = prompts[0]
    alike = [common(first, prompt) for prompt in prompts]
    order = sorted(
        range(len(prompts)), key=lambda place: (-(alike[place] // BLOCK), abs(len(prompts[place]) - len(first)))
    )
    order = [0, *(place for place in order if place)]
    shared, longest, best = len(first), len(first), float(len(first))
    for count, place in enumerate(order, 1):
        shared, longest = min(shared, alike[place]), max(longest, len(prompts[place]))
        cost = shared + count * (longest - shared)
        if count > 1 and (cost > most or cost / count > SLACK * best):
            return order[: count - 1]
        best = min(best, cost / count)
    return order
