"""How likely a causal language model finds texts: mean negative log-likelihood per token. Synchronous."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from curator.engines.base import render_messages
from curator.engines.encoder import batches
from curator.engines.torch_model import CausalModel, load_prompter, read_model, torch_dtype
from curator.engines.weights import resolve
from curator.errors import ConfigError
from curator.types import DecideRequest, Question, Template

Floats = NDArray[np.float64]
IGNORED = -100
MAX_LENGTH = 512
BATCH_TOKENS = 1024
"""Tokens of a batch, padding included; the logits take tokens x vocabulary floats."""


class Likelihood:
    """The causal model that `spec` names (see `curator.engines.weights.resolve`), loaded when it is first needed.

    Of a text longer than `max_length` tokens the beginning is scored; of a prompt that is too long the end is read.

    Raises: WeightsError, ConfigError, MissingExtraError.
    """

    def __init__(
        self, spec: str, *, max_length: int = MAX_LENGTH, dtype: str = "bfloat16", device: str | None = None
    ) -> None:
        if max_length < 2:
            raise ConfigError(f"max_length is {max_length}", hint="2 tokens or more")
        found = resolve(spec)
        self.spec, self.revision = spec, found.revision
        self._path, self._dtype = found.path, torch_dtype(dtype)
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._prompter = load_prompter(found.path, max_length)
        self._limit = self._prompter.limit
        self._model: CausalModel | None = None

    def mean_nll(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> Floats:
        """Nats per token (n,) of every text, after its prompt where there are any: the log of its perplexity. NaN for
        a text of no tokens."""
        starts = [self._prompter.encode(prompt) or [self._start] for prompt in prompts or [""] * len(texts)]
        texts_ids = [self._prompter.tokenizer.encode(text, add_special_tokens=False) for text in texts]
        rows = [self._row(start, ids) for start, ids in zip(starts, texts_ids, strict=True)]
        found = np.full(len(rows), np.nan)
        for places in batches([len(ids) for ids, _ in rows], BATCH_TOKENS):
            found[places] = self._score([rows[place] for place in places])
        return found

    def prompts(self, texts: Sequence[str], question: Question, template: Template) -> list[str]:
        """The whole prompt about each text, up to where the answer would begin.

        Raises: TaskError for a prompt that the model's chat template refuses.
        """
        asked = (render_messages(DecideRequest(text, (question,), template), question) for text in texts)
        return [self._prompter.text(messages, template.answer_prefix) for messages in asked]

    @property
    def _start(self) -> int:
        """What stands before a text that has no prompt: the first token needs something to be predicted from."""
        return self._prompter.end

    def _row(self, start: list[int], ids: list[int]) -> tuple[list[int], int]:
        """Token ids, and how many of them at the end are scored."""
        kept = ids[: self._limit - 1]
        return [*start[-(self._limit - len(kept)) :], *kept], len(kept)

    @torch.inference_mode()
    def _score(self, rows: Sequence[tuple[list[int], int]]) -> list[float]:
        longest = max(len(ids) for ids, _ in rows)
        inputs = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in rows], device=self._device)
        mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows], device=self._device)
        labels = torch.full_like(inputs, IGNORED)
        for place, (ids, scored) in enumerate(rows):
            labels[place, len(ids) - scored : len(ids)] = inputs[place, len(ids) - scored : len(ids)]
        logits = self._ready()(input_ids=inputs, attention_mask=mask, use_cache=False).logits[:, :-1]
        wanted = labels[:, 1:]
        known = wanted != IGNORED
        losses = torch.zeros(wanted.shape, device=self._device)
        # Only what is scored goes to float32: of a prompt with a short answer that is little.
        losses[known] = torch.nn.functional.cross_entropy(logits[known].float(), wanted[known], reduction="none")
        # A text of no tokens has no mean: 0 / 0 is NaN.
        means: list[float] = (losses.sum(1) / known.sum(1)).tolist()
        return means

    def _ready(self) -> CausalModel:
        """The model, in evaluation mode. Raises: WeightsError, ConfigError for the device."""
        if self._model is None:
            model = read_model(self._path, self._dtype)
            try:
                self._model = model.to(self._device).eval()
            except RuntimeError as error:
                raise ConfigError(
                    f"the model cannot be put on device {self._device!r}: {error}", hint="device='cpu'"
                ) from error
        return self._model
