"""A frozen text encoder: texts -> feature vectors, for classification heads.

Encoder models (BERT, sentence-transformers) are pooled over their tokens and L2-normalised; of a causal language
model the hidden state of the last token is taken, as in Burns et al. (arXiv 2312.09390). Synchronous; one call at
a time.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeVar, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerFast

from curator.engines.base import render_messages
from curator.engines.gguf import quiet
from curator.engines.prompt import Prompter
from curator.engines.torch_model import extra, torch_dtype
from curator.engines.weights import fingerprint, resolve
from curator.errors import ConfigError, WeightsError
from curator.types import DecideRequest, Question, Template

Features = NDArray[np.float32]
Pooling = Literal["mean", "cls", "last"]
"""How token states become one vector: their mean, the first one, or the last one (the only one of a causal
model that has read everything)."""

BATCH_TOKENS = 1024
"""Tokens of a batch, padding included. On a CPU larger ones leave the caches: with MiniLM on one core 4,096 took 1.3
times as long, 16,384 2.4 times. A GPU may like more."""
MAX_LENGTH = 512
"""Tokens read of a text where neither the model nor the user sets a limit: causal models could read far more
than a head needs."""

T = TypeVar("T")


class Hidden(Protocol):
    """What is used of a model's output: states (batch, tokens, width)."""

    last_hidden_state: torch.Tensor


class EncoderModel(Protocol):
    """What is used of a transformers model without a head."""

    config: PretrainedConfig

    def __call__(self, **inputs: torch.Tensor) -> Hidden: ...

    def parameters(self) -> Iterator[torch.nn.Parameter]: ...

    def save_pretrained(self, save_directory: Path, **settings: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class EncoderIdentity:
    """All that decides a text's features. `revision` names the weights' content; `adapter` is a LoRA folder,
    with its hash behind `@`."""

    weights: str
    revision: str
    pooling: Pooling
    max_length: int
    dtype: str
    adapter: str = ""

    @property
    def key(self) -> str:
        """Hash (hex, 128 bit) under which features are cached. Where the weights lie does not matter."""
        parts = (self.revision, self.pooling, self.max_length, self.dtype, self.adapter.rpartition("@")[2])
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


class Encoder:
    """Encodes texts with the weights that `spec` names (see `curator.engines.weights.resolve`).

    `adapter` is a folder with a LoRA adapter; `pooling` defaults to what the model was made for; texts are cut at
    `max_length` tokens, special ones included: their end is dropped, of a causal model's their beginning, since
    it reads the last token. The tokenizer is loaded at once, the model when it is first needed.

    Raises: WeightsError, ConfigError, MissingExtraError.
    """

    def __init__(
        self,
        spec: str,
        *,
        adapter: Path | None = None,
        pooling: Pooling | None = None,
        max_length: int | None = None,
        dtype: str = "float32",
        device: str | None = None,
    ) -> None:
        found = resolve(spec)
        self._path, self._adapter, self._dtype = found.path, adapter, torch_dtype(dtype)
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        config, tokenizer = _config_and_tokenizer(found.path)
        self.pooling: Pooling = pooling or _pooling(found.path, config)
        if self.pooling not in get_args(Pooling):
            raise ConfigError(f"pooling {pooling!r} is unknown", hint=f"one of {', '.join(get_args(Pooling))}")
        self.max_length = _max_length(found.path, config, tokenizer, max_length)
        self._tokenizer, self._prompter = tokenizer, Prompter(tokenizer, self.max_length)
        self._pad: int = tokenizer.pad_token_id or tokenizer.eos_token_id or 0
        self._model: EncoderModel | None = None
        note = f"{adapter.name}@{fingerprint(adapter)}" if adapter else ""
        self.identity = EncoderIdentity(spec, found.revision, self.pooling, self.max_length, dtype, note)

    @property
    def model(self) -> EncoderModel:
        """The model, in evaluation mode. Raises: WeightsError, ConfigError for the device."""
        if self._model is None:
            self._model = _load(self._path, self._adapter, self._dtype, self._device)
        return self._model

    @model.setter
    def model(self, model: EncoderModel) -> None:
        self._model = model

    def fresh(self) -> Encoder:
        """The same encoder, with weights of its own that may be trained."""
        twin = copy.copy(self)
        twin._model = None
        return twin

    @property
    def width(self) -> int:
        """Length d of a feature vector."""
        return int(self.model.config.get_text_config().hidden_size)

    def encode(self, texts: Sequence[str], batch_tokens: int = BATCH_TOKENS) -> Features:
        """Features (n, d) in float32, in the order of `texts`."""
        return self.encode_tokens(self.tokenize(texts), batch_tokens)

    def encode_tokens(self, rows: Sequence[Sequence[int]], batch_tokens: int = BATCH_TOKENS) -> Features:
        """Features (n, d) of texts that `tokenize` has cut; batches hold texts of similar length."""
        features = np.zeros((len(rows), self.width), dtype=np.float32)
        for places in batches([len(row) for row in rows], batch_tokens):
            with torch.inference_mode():
                features[places] = self.forward([rows[place] for place in places]).float().cpu().numpy()
        return features

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids per text, cut at the limit; never empty."""
        if not texts:
            return []
        if self.pooling == "last":
            return [self._prompter.encode(text)[-self.max_length :] or [self._pad] for text in texts]
        with quiet():
            rows: list[list[int]] = self._tokenizer(list(texts), truncation=True, max_length=self.max_length).input_ids
        return [row or [self._pad] for row in rows]

    def forward(self, rows: Sequence[Sequence[int]]) -> torch.Tensor:
        """Features (b, d) of one batch, through which gradients flow."""
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *([self._pad] * (longest - len(row)))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        ids, mask = ids.to(self._device), mask.to(self._device)
        states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.pooling == "last":
            return states[torch.arange(len(rows)), mask.sum(1) - 1]
        if self.pooling == "mean":
            share = mask.unsqueeze(-1).to(states.dtype)
            states = (states * share).sum(1) / share.sum(1)
        else:
            states = states[:, 0]
        return torch.nn.functional.normalize(states, dim=-1)

    def render(self, states: Sequence[str], question: Question, template: Template | None) -> list[str]:
        """What is encoded for a question about each state: the state alone, or with a template the whole prompt
        up to where the answer would begin.

        Raises: TaskError for a prompt that the model's chat template refuses.
        """
        if template is None:
            return list(states)
        asked = (render_messages(DecideRequest(state, (question,), template), question) for state in states)
        return [self._prompter.text(messages, template.answer_prefix) for messages in asked]

    def save(self, folder: Path) -> None:
        """Write model and tokenizer (of a model with an adapter, the adapter alone) as safetensors."""
        adapted = hasattr(self.model, "peft_config")
        # Else peft asks a hub whether the vocabulary has been changed.
        settings = {"save_embedding_layers": False} if adapted else {}
        with quiet():
            self.model.save_pretrained(folder, **settings)
            if not adapted:
                self._tokenizer.save_pretrained(folder)


def batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Places in batches of similar length, longest first (so that memory runs out at once or never); a batch costs
    at most `most` tokens with its padding, a single text may cost more."""
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    while order:
        count = max(1, most // max(1, lengths[order[0]]))
        yield order[:count]
        order = order[count:]


def _config_and_tokenizer(folder: Path) -> tuple[PretrainedConfig, PreTrainedTokenizerFast]:
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            return config, AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers, tokenizers and json raise whatever comes
        raise WeightsError(
            f"the config or tokenizer in {folder} cannot be loaded: {error}", hint="download the model again"
        ) from error


def _load(folder: Path, adapter: Path | None, dtype: torch.dtype, device: str) -> EncoderModel:
    try:
        with quiet():
            model = AutoModel.from_pretrained(folder, dtype=dtype, local_files_only=True)
            if adapter is not None:
                model = extra("peft", "a LoRA adapter").PeftModel.from_pretrained(model, adapter)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise WeightsError(f"{folder} cannot be loaded by transformers: {error}") from error
    except Exception as error:
        if type(error).__module__.startswith("safetensors"):
            raise WeightsError(f"the weights in {folder} are damaged: {error}", hint="download them again") from error
        raise
    try:
        loaded: EncoderModel = model.to(device).eval()
    except RuntimeError as error:
        raise ConfigError(f"the encoder cannot be put on device {device!r}: {error}", hint="device='cpu'") from error
    return loaded


def _pooling(folder: Path, config: PretrainedConfig) -> Pooling:
    """What a sentence-transformers folder says, else by architecture."""
    settings = _json(folder / "1_Pooling" / "config.json")
    known: dict[str, Pooling] = {"mean_tokens": "mean", "cls_token": "cls", "lasttoken": "last"}
    wanted = [name.removeprefix("pooling_mode_") for name, on in settings.items() if on is True and "mode_" in name]
    if wanted:
        if len(wanted) > 1 or wanted[0] not in known:
            raise WeightsError(f"{folder} pools by {' and '.join(wanted)}", hint=f"pass one of {get_args(Pooling)}")
        return known[wanted[0]]
    names = getattr(config, "architectures", None) or [""]
    return "last" if names[0].endswith(("ForCausalLM", "LMHeadModel")) else "mean"


def _max_length(folder: Path, config: PretrainedConfig, tokenizer: PreTrainedTokenizerFast, wanted: int | None) -> int:
    """The user's limit, else the sentence-transformers folder's, else MAX_LENGTH; never beyond the model's own."""
    positions = getattr(config.get_text_config(), "max_position_embeddings", None) or 1 << 30
    own = min(int(positions), int(tokenizer.model_max_length))
    stated = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    limit = min(own, wanted or (stated if isinstance(stated, int) else MAX_LENGTH))
    if limit < 2:
        raise ConfigError(f"max_length is {wanted}", hint="2 tokens or more")
    return limit


def _json(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        found: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} is damaged: {error}", hint="download the model again") from error
    return found
