"""A model in this process through transformers: the engine that works wherever torch does.

Requests in flight are cut into micro-batches of similar length; each is one prefill whose logits are computed
at the last position only. The model runs in one worker thread, results leave as soon as their batch is done.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from curator.engines.batching import Batcher, Worker
from curator.engines.local import LocalEngine, NextToken, local_identity, once
from curator.engines.prompt import Prompter
from curator.engines.readout import Tokens, common
from curator.engines.torch_model import TorchModel, load, load_prompter, torch_dtype
from curator.engines.weights import resolve
from curator.types import GenerateRequest, Sample, Usage

CONCURRENCY = 64
"""Requests in flight that give the micro-batches enough prompts of similar length."""


BLOCK = 64
"""Prompts that share this many tokens more with another are better company for it."""

SLACK = 1.25
"""How much more per prompt a larger batch may cost: padding, and less in common."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A prompt whose next-token log-probabilities are wanted."""

    ids: list[int]
    tokens: Tokens


class TransformersEngine(LocalEngine):
    """Decides and generates with a transformers model.

    `weights` is anything that `curator.engines.weights.resolve` takes; `adapter` a folder with a LoRA adapter;
    `device` "cpu", "cuda", ... (default: the best there is); `dtype` "bfloat16", "float16" or "float32";
    `batch_tokens` bounds a micro-batch, padding included; `max_model_len` the context. It does not stream: transformers
    gives a text when it is whole, and `curator.engines.pieces.streamed` hands that out as one piece per sample.
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
        self._load_prompter = once(partial(load_prompter, found.path, max_model_len))
        self._worker = Worker(str(self.identity))
        self._reads = Batcher(
            self._worker, lambda reads: choose([read.ids for read in reads], batch_tokens), self._read
        )
        self._model: TorchModel | None = None
        self._prompter: Prompter | None = None

    async def prompter(self) -> Prompter:
        if self._prompter is None:
            self._prompter = await self._worker.run(self._load_prompter)
        return self._prompter

    async def next_token(self, ids: list[int], tokens: Tokens) -> NextToken:
        return NextToken(await self._reads.ask(_Read(ids, tokens)), Usage(input_tokens=len(ids)))

    async def sample(self, ids: list[int], request: GenerateRequest) -> tuple[list[Sample], Usage]:
        prompter = await self.prompter()
        samples, tokens = await self._worker.run(partial(self._generate, ids, request, prompter))
        return samples, Usage(input_tokens=len(ids), output_tokens=tokens)

    async def aclose(self) -> None:
        """Free the model; what is in flight fails."""
        self._reads.cancel()
        await self._worker.aclose()
        self._model = self._prompter = None
        gc.collect()

    def _ready(self) -> TorchModel:
        """The model; called in the worker thread only."""
        if self._model is None:
            self._model = self._load_model()
        return self._model

    def _read(self, batch: Sequence[_Read]) -> list[list[float]]:
        return self._ready().next_logprobs([read.ids for read in batch], [read.tokens for read in batch])

    def _generate(self, ids: list[int], request: GenerateRequest, prompter: Prompter) -> tuple[list[Sample], int]:
        return self._ready().generate(ids, request, prompter)


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
