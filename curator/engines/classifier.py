"""A trained classification head as an engine: decides what it was trained on, generates nothing.

States in flight are encoded in micro-batches; all questions about one state share its features.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from curator.engines.base import EngineIdentity, Preview
from curator.engines.batching import Batcher, Worker
from curator.engines.encoder import BATCH_TOKENS, Encoder, Features
from curator.engines.heads import ADAPTER, ENCODER, Head, HeadEncoder, load_heads
from curator.engines.readout import together
from curator.errors import ConfigError, WeightsError
from curator.types import (
    Capability,
    Completion,
    DecideRequest,
    Decision,
    Decisions,
    GenerateRequest,
    Question,
    Usage,
)

CONCURRENCY = 64
MICRO_BATCH = 64
"""Texts of a micro-batch: large enough to sort by length, small enough that nobody waits long."""


@dataclass(frozen=True, slots=True)
class _Encoded:
    """Features (d,) of a text, and how many tokens were read for them."""

    features: Features
    tokens: int


class ClassifierEngine:
    """Decides with the heads in `folder` (see `curator.engines.heads`).

    A request's template and demonstrations are for models that read prompts: a head has its own. `encoder` says
    where the base encoder lies now, if not where it was when the head was trained; `batch_tokens` bounds a batch,
    padding included; `device` as for the transformers engine.

    Raises: WeightsError for a folder that is incomplete or damaged, or an encoder that is not the one of the head.
    """

    def __init__(
        self,
        folder: str,
        *,
        encoder: str | None = None,
        device: str | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        path = Path(folder).expanduser()
        self._model = load_heads(path)
        self._open = partial(open_encoder, self._model.encoder, path, encoder, device)
        self._batch_tokens = batch_tokens
        self.identity = EngineIdentity("head", path.resolve().name, revision=self._model.revision)
        self.capabilities: frozenset[Capability] = frozenset({"decide"})
        self.concurrency = CONCURRENCY
        self._encoder: Encoder | None = None
        self._worker = Worker(str(self.identity))
        self._texts: Batcher[str, _Encoded] = Batcher(
            self._worker, lambda waiting: range(min(len(waiting), MICRO_BATCH)), self._encode
        )

    @property
    def questions(self) -> tuple[Question, ...]:
        """What this engine can be asked."""
        return tuple(head.spec.question for head in self._model.heads)

    async def decide(self, request: DecideRequest) -> Decisions:
        """A probability per option, over the options alone (so `label_mass` is None).

        Raises: InputError for a question that no head was trained on; WeightsError; EngineError.
        """
        began = time.perf_counter()
        found = [self._model.head(question) for question in request.questions]
        texts = [await self._text(head, request.state) for head, _ in found]
        distinct = list(dict.fromkeys(texts))
        encoded = dict(zip(distinct, await together([self._texts.ask(text) for text in distinct]), strict=True))
        answers = tuple(
            _decision(head, order, encoded[text].features) for (head, order), text in zip(found, texts, strict=True)
        )
        usage = Usage(sum(item.tokens for item in encoded.values()), calls=len(distinct))
        return Decisions(answers, usage, None, time.perf_counter() - began)

    async def generate(self, request: GenerateRequest) -> Completion:
        """Raises: ConfigError: a head only decides."""
        raise ConfigError("a classification head cannot generate", hint="ask closed fields only, or a language model")

    async def preview(self, request: DecideRequest) -> tuple[Preview, ...]:
        """The text that is encoded per question. Needs the tokenizer only; no tokens are scored."""
        found = [self._model.head(question) for question in request.questions]
        texts = [await self._text(head, request.state) for head, _ in found]
        counts = await self._worker.run(partial(self._count, texts))
        return tuple(
            Preview(question.name, text, count, tuple((label, ()) for label in question.labels), "head")
            for question, text, count in zip(request.questions, texts, counts, strict=True)
        )

    async def aclose(self) -> None:
        """Free the encoder; what is in flight fails."""
        self._texts.cancel()
        await self._worker.aclose()
        self._encoder = None
        gc.collect()

    async def _text(self, head: Head, state: str) -> str:
        if head.spec.template is None:
            return state
        return (await self._worker.run(partial(self._render, head, state)))[0]

    def _render(self, head: Head, state: str) -> list[str]:
        return self._ready().render([state], head.spec.question, head.spec.template)

    def _count(self, texts: Sequence[str]) -> list[int]:
        return [len(row) for row in self._ready().tokenize(texts)]

    def _encode(self, texts: Sequence[str]) -> list[_Encoded]:
        encoder = self._ready()
        self._model.check_width(encoder.width)
        rows = encoder.tokenize(texts)
        features = encoder.encode_tokens(rows, self._batch_tokens)
        return [_Encoded(vector, len(row)) for vector, row in zip(features, rows, strict=True)]

    def _ready(self) -> Encoder:
        """The encoder; called in the worker thread only."""
        if self._encoder is None:
            self._encoder = self._open()
        return self._encoder


def open_encoder(wanted: HeadEncoder, folder: Path, spec: str | None, device: str | None) -> Encoder:
    """The encoder that the heads in `folder` stand on; `spec` overrides where its weights come from.

    Raises: WeightsError if it is gone, or not what the heads were trained on.
    """
    full = wanted.tuning == "full"
    source = str(folder / ENCODER) if full else spec or wanted.weights
    try:
        encoder = Encoder(
            source,
            adapter=folder / ADAPTER if wanted.tuning == "lora" else None,
            pooling=wanted.pooling,
            max_length=wanted.max_length,
            dtype=wanted.dtype,
            device=device,
        )
    except WeightsError as error:
        raise WeightsError(
            f"the encoder of {folder} cannot be opened: {error.message}",
            hint="train again" if full else f"say where it lies: connect('head:{folder}', encoder='...')",
        ) from error
    if not full and encoder.identity.revision != wanted.revision:
        raise WeightsError(
            f"{source} is not the encoder that {folder} was trained on: its revision is {encoder.identity.revision}, "
            f"trained was on {wanted.revision}",
            hint="pass the right one: connect('head:...', encoder='...'), or train again",
        )
    return encoder


def _decision(head: Head, order: Sequence[int], features: Features) -> Decision:
    logprobs = head.linear.logprobs(features[None])[0]
    return Decision(tuple(float(logprobs[place]) for place in order), None, "head")
