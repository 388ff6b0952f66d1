"""A causal language model in torch: next-token log-probabilities and sampling. Synchronous; one call at a time."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    GenerationConfig,
    LogitsProcessorList,
    PretrainedConfig,
)

from curator.engines.gguf import quiet
from curator.engines.prompt import Prompter
from curator.engines.readout import common
from curator.engines.sampled import sample
from curator.errors import ConfigError, MissingExtraError, WeightsError
from curator.types import GenerateRequest, JsonObject, Sample, Sampling


class Output(Protocol):
    logits: torch.Tensor
    past_key_values: DynamicCache


class CausalModel(Protocol):
    """What is used of a transformers model."""

    config: PretrainedConfig
    generation_config: GenerationConfig

    @property
    def forward(self) -> Callable[..., Output]: ...

    def __call__(self, **inputs: torch.Tensor | DynamicCache | int | bool | None) -> Output: ...

    def generate(self, inputs: torch.Tensor, **settings: object) -> torch.Tensor: ...

    def parameters(self) -> Iterator[torch.nn.Parameter]: ...

    def to(self, target: str | torch.dtype) -> CausalModel: ...

    def eval(self) -> CausalModel: ...

    def save_pretrained(self, folder: Path) -> None: ...


class AdaptedModel(CausalModel, Protocol):
    """A model with a LoRA adapter on it."""

    def merge_and_unload(self) -> CausalModel: ...


Processor = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Maps the tokens so far and the next-token scores to new scores."""


SHARED = 16
"""A common beginning of fewer tokens is not worth a forward pass of its own."""


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with; the last token of each is never counted, it has to be read."""
    first = prompts[0]
    return min(min(common(first, prompt), len(prompt) - 1) for prompt in prompts)


def context_length(folder: Path) -> int:
    """Tokens that the model can read, by its config."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or 1 << 30)


def load_prompter(folder: Path, max_model_len: int | None) -> Prompter:
    """The model's tokenizer and chat template.

    Raises: WeightsError.
    """
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"the tokenizer in {folder} cannot be loaded: {error}") from error
    limit = context_length(folder)
    return Prompter(tokenizer, min(limit, max_model_len or limit))


def load(folder: Path, adapter: str | None, device: str | None, dtype: str) -> TorchModel:
    """Load a model, and put a LoRA adapter on it.

    Raises: WeightsError, ConfigError (dtype, device), MissingExtraError (adapters need peft).
    """
    model = read_model(folder, torch_dtype(dtype))
    if adapter is not None:
        model = put_on(adapter, model)
    target = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return TorchModel(model.to(target).eval())
    except RuntimeError as error:
        raise ConfigError(f"the model cannot be put on device {target!r}: {error}", hint="device='cpu'") from error


def read_model(folder: Path, dtype: torch.dtype) -> CausalModel:
    """The model in `folder`, on the CPU. Raises: WeightsError."""
    try:
        with quiet():
            model: CausalModel = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{folder} cannot be loaded by transformers: {error}") from error
    return model


def put_on(adapter: str | Path, model: CausalModel, *, trainable: bool = False) -> AdaptedModel:
    """The model with a LoRA adapter on it, whose weights are to be trained on if `trainable`.

    Raises: WeightsError if the adapter is damaged or of another model; MissingExtraError.
    """
    try:
        with quiet():
            load = extra("peft", "a LoRA adapter").PeftModel.from_pretrained
            adapted: AdaptedModel = load(model, str(adapter), is_trainable=trainable)
    except Exception as error:  # peft raises ValueError, RuntimeError (shapes), safetensors' own
        if isinstance(error, MissingExtraError):
            raise
        first = str(error).strip().partition("\n")[0]
        raise WeightsError(
            f"the adapter {adapter} cannot be put on this model: {first}", hint="put it on the model it was trained on"
        ) from error
    return adapted


def torch_dtype(name: str) -> torch.dtype:
    """Raises: ConfigError for what is no floating-point dtype."""
    dtype = getattr(torch, name, None)
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
        return dtype
    raise ConfigError(f"dtype {name!r} is unknown", hint="bfloat16, float16 or float32")


def extra(module: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise MissingExtraError(f"{what} needs {module}", hint=f"pip install {module}") from None


class TorchModel:
    """A loaded model."""

    def __init__(self, model: CausalModel) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        names = inspect.signature(inner.forward).parameters
        self._takes_positions = "position_ids" in names
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in names else {}
        self._shares = "past_key_values" in names

    @torch.inference_mode()
    def next_logprobs(self, prompts: Sequence[list[int]], tokens: Sequence[Sequence[int]]) -> list[list[float]]:
        """Per prompt the natural log-probability, in float32 over the whole vocabulary, of its `tokens` as the next
        one. What all prompts begin with is read once; the rests are padded on the left."""
        cache = self._read_shared(prompts)
        shared = 0 if cache is None else cache.get_seq_length()
        inputs = self._inputs([prompt[shared:] for prompt in prompts], shared)
        logits = self._model(**inputs, **self._last_only, past_key_values=cache, use_cache=cache is not None).logits
        logprobs = logits[:, -1].float().log_softmax(-1)
        return [row[list(wanted)].tolist() for row, wanted in zip(logprobs, tokens, strict=True)]

    def _read_shared(self, prompts: Sequence[list[int]]) -> DynamicCache | None:
        """Keys and values of the prompts' common beginning, repeated for each; None where that is short, or where
        the model keeps another kind of state."""
        length = shared_length(prompts)
        if not self._shares or len(prompts) == 1 or length < SHARED:
            return None
        ids = torch.tensor([prompts[0][:length]], device=self._device)
        cache = self._model(input_ids=ids, **self._last_only, use_cache=True).past_key_values
        self._shares = type(cache) is DynamicCache and not any(cache.is_sliding)
        if not self._shares:
            return None
        cache.batch_repeat_interleave(len(prompts))
        return cache

    def _inputs(self, prompts: Sequence[list[int]], shared: int) -> dict[str, torch.Tensor]:
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        if not shared and all(len(prompt) == longest for prompt in prompts):
            return {"input_ids": ids.to(self._device)}
        mask = torch.tensor([[1] * shared + [0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self._takes_positions:
            inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, shared:]
        return {name: value.to(self._device) for name, value in inputs.items()}

    @torch.inference_mode()
    def generate(self, ids: list[int], request: GenerateRequest, prompter: Prompter) -> tuple[list[Sample], int]:
        """`request.n` continuations of `ids`, and how many tokens they took.

        Greedy samples are all the same, so one is made. Raises: MissingExtraError for a schema without xgrammar.
        """
        count = request.n if request.sampling.temperature > 0 else 1
        scorer = _Scorer()
        processors = LogitsProcessorList([scorer])
        if request.schema is not None:
            processors.append(self._grammar(request.schema, prompter))
        ends = self._ends(prompter)
        prompt = torch.tensor([ids] * count, device=self._device)
        settings = _settings(request.sampling) | {"eos_token_id": ends, "pad_token_id": ends[0]}
        with quiet(), torch.random.fork_rng():
            if request.sampling.seed is not None:
                torch.manual_seed(request.sampling.seed)
            output = self._model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                logits_processor=processors,
                tokenizer=prompter.tokenizer,
                **settings,
            )
        rows = output[:, len(ids) :]
        scores = scorer.finish(rows)
        found = [
            _sample(row.tolist(), score, ends, request.sampling, prompter)
            for row, score in zip(rows, scores, strict=True)
        ]
        samples = [sample for sample, _ in found]
        return samples * (request.n // count), sum(taken for _, taken in found)

    def _ends(self, prompter: Prompter) -> list[int]:
        """Every token that ends a turn, by the chat template and by the model's own settings."""
        own = getattr(self._model.generation_config, "eos_token_id", None)
        return sorted({prompter.end, *(own if isinstance(own, list) else [] if own is None else [own])})

    def _grammar(self, schema: JsonObject, prompter: Prompter) -> Processor:
        xgrammar = extra("xgrammar", "generating by a JSON schema with transformers")
        extra("xgrammar.contrib.hf", "generating by a JSON schema with transformers")
        info = xgrammar.TokenizerInfo.from_huggingface(
            prompter.tokenizer, vocab_size=self._model.config.vocab_size, stop_token_ids=self._ends(prompter)
        )
        compiled = xgrammar.GrammarCompiler(info).compile_json_schema(json.dumps(schema))
        processor: Processor = xgrammar.contrib.hf.LogitsProcessor(compiled)
        return processor


class _Scorer:
    """Notes the log-probability of every sampled token under the model itself, before temperature and masks."""

    def __init__(self) -> None:
        self._last: torch.Tensor | None = None
        self._taken: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._last is not None:
            self._taken.append(self._last.gather(-1, input_ids[:, -1:]))
        self._last = scores.float().log_softmax(-1)
        return scores

    def finish(self, rows: torch.Tensor) -> list[list[float]]:
        """Log-probability per row and token."""
        if self._last is None:
            return [[] for _ in rows]
        return torch.cat([*self._taken, self._last.gather(-1, rows[:, -1:])], dim=-1).tolist()


def _settings(sampling: Sampling) -> dict[str, object]:
    """Exactly what is asked for: a model's own preferences (top_k, repetition penalty) are put out of force."""
    settings: dict[str, object] = {"max_new_tokens": sampling.max_tokens, "repetition_penalty": 1.0}
    if sampling.stop:
        settings["stop_strings"] = list(sampling.stop)
    if sampling.temperature > 0:
        return settings | {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    return settings | {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


def _sample(
    row: list[int], scores: list[float], ends: list[int], sampling: Sampling, prompter: Prompter
) -> tuple[Sample, int]:
    """One row of tokens as a sample, and how many tokens it took, the ending one included."""
    length = next((place for place, token in enumerate(row) if token in ends), len(row))
    taken = min(length + 1, len(row))
    text = prompter.decode(row[:length])
    cut = min((place for stop in sampling.stop if (place := text.find(stop)) >= 0), default=len(text))
    stopped = length < len(row) or cut < len(text)
    return sample(text[:cut], "stop" if stopped else "length", scores[:taken]), taken
