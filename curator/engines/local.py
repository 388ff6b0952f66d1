"""What engines have in common that hold the model themselves: prompts as token ids, labels read off a trie."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import ClassVar, TypeVar

from curator.engines.adapters import check_adapter
from curator.engines.base import EngineIdentity, Preview
from curator.engines.chat_fields import refuse_unheard
from curator.engines.prompt import Prompt, Prompter, readout
from curator.engines.readout import Tokens, read, together
from curator.engines.weights import Weights, fingerprint
from curator.types import (
    Capability,
    Completion,
    DecideRequest,
    Decision,
    Decisions,
    GenerateRequest,
    Sample,
    Usage,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NextToken:
    """Log-probabilities of the tokens asked for, and what reading them took."""

    logprobs: Sequence[float]
    usage: Usage


class LocalEngine(ABC):
    """Decides with next-token log-probabilities; a subclass runs the model.

    Nothing is loaded before it is needed: the tokenizer for `preview`, the model for the first request. A model here
    reads and writes text: of a chat request it heeds the turns, the sampling and the schema, and of the other fields
    those in `heard`; harmless ones are passed over (`curator.engines.chat_fields`), the rest is refused by name. Tools
    are: nothing here finds the calls in what a model writes.
    """

    heard: ClassVar[Collection[str]] = ()
    """The fields of chat requests that the engine can heed beside these."""

    def __init__(self, identity: EngineIdentity, concurrency: int) -> None:
        self._identity = identity
        self._concurrency = concurrency

    @property
    def identity(self) -> EngineIdentity:
        return self._identity

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset(("decide", "generate"))

    @property
    def concurrency(self) -> int:
        return self._concurrency

    async def decide(self, request: DecideRequest) -> Decisions:
        """Every question at once; the shared state comes first, so that a prefix cache serves them all.

        Raises: ContextLengthError before the model runs; TaskError; EngineError.
        """
        began = time.perf_counter()
        prompter = await self.prompter()
        prompts = [prompter.question(request, question) for question in request.questions]
        answers = await together([self._answer(prompt, request) for prompt in prompts])
        usage = sum((usage for _, usage in answers), Usage(calls=0))
        return Decisions(tuple(answer for answer, _ in answers), usage, None, time.perf_counter() - began)

    async def generate(self, request: GenerateRequest) -> Completion:
        """Sample `request.n` texts.

        Raises: ContextLengthError and RequestRejectedError before the model runs; TaskError; EngineError.
        """
        began = time.perf_counter()
        samples, usage = await self.sample(await self.prompt(request), request)
        return Completion(tuple(samples), usage, None, time.perf_counter() - began)

    async def prompt(self, request: GenerateRequest) -> list[int]:
        """The token ids that the model continues. Raises: as `generate`, before the model runs."""
        refuse_unheard(request, str(self.identity), self.heard)
        return (await self.prompter()).request(request)

    async def preview(self, request: DecideRequest) -> tuple[Preview, ...]:
        """Exactly what `decide` sends. Needs the tokenizer only."""
        return (await self.prompter()).preview(request)

    async def _answer(self, prompt: Prompt, request: DecideRequest) -> tuple[Decision, Usage]:
        used: list[Usage] = []

        async def ask(path: Tokens, tokens: Tokens) -> Sequence[float]:
            answer = await self.next_token([*prompt.ids, *path], tokens)
            used.append(answer.usage)
            return answer.logprobs

        reading = await read(prompt.trie, ask)
        decision = Decision(reading.logprobs, reading.label_mass, readout(request.template))
        return decision, sum(used, Usage(calls=0))

    @abstractmethod
    async def prompter(self) -> Prompter:
        """The model's tokenizer, loaded on first use."""

    @abstractmethod
    async def next_token(self, ids: list[int], tokens: Tokens) -> NextToken:
        """Natural log-probability, over the whole vocabulary, of each of `tokens` after the prompt `ids`."""

    @abstractmethod
    async def sample(self, ids: list[int], request: GenerateRequest) -> tuple[list[Sample], Usage]:
        """Continue the prompt `ids`."""

    @abstractmethod
    async def aclose(self) -> None:
        """Free the model. Calling twice is fine."""


def local_identity(provider: str, spec: str, weights: Weights, adapter: str | None, dtype: str) -> EngineIdentity:
    """Who answers: a folder goes by its name, so that moving it changes nothing; the content by its hash. The
    dtype belongs to the revision because it changes the log-probabilities.

    Raises: WeightsError for what is no adapter, or does not fit the weights."""
    path = Path(spec).expanduser()
    return EngineIdentity(
        provider=provider,
        model=path.name if path.exists() else spec,
        revision=f"{weights.revision}:{dtype}",
        adapter=_adapter(check_adapter(Path(adapter).expanduser(), weights)) if adapter else "",
    )


def _adapter(folder: Path) -> str:
    return f"{folder.name}@{fingerprint(folder)}"


def once(load: Callable[[], T]) -> Callable[[], T]:
    """`load`, made to run once for all threads that call it, also at the same time. One that failed is tried again."""
    kept: list[T] = []
    lock = Lock()

    def loaded() -> T:
        with lock:
            if not kept:
                kept.append(load())
            return kept[0]

    return loaded
