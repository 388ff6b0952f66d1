"""Classification heads on disk: one encoder, and a linear head per closed field.

A folder holds `head.json` (the questions, the encoder, how it was trained) and `head.safetensors` (per field
`<field>.weight` (k, d) and `<field>.bias` (k,), float32). A fine-tuned encoder lies beside them in `encoder/`, a LoRA
adapter in `adapter/`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from curator.engines.cache import sha256_of
from curator.engines.weights import fingerprint
from curator.errors import InputError, MissingExtraError, WeightsError
from curator.types import JsonObject, Question, Template

Floats = NDArray[np.float32]
Tuning = Literal["frozen", "lora", "full"]

FORMAT: Final = 1
SPEC: Final = "head.json"
TENSORS: Final = "head.safetensors"
ENCODER: Final = "encoder"
ADAPTER: Final = "adapter"
PARTS: Final = {"full": ENCODER, "lora": ADAPTER}
"""Tuning -> the subfolder with what was tuned."""
_AGAIN: Final = "train the head again, or copy the whole folder"


@dataclass(frozen=True, slots=True)
class HeadEncoder:
    """The encoder that the heads stand on. `weights` says where the base model comes from and `revision` what it
    holds; a `full`y tuned one lies in the head's own folder, and `weights` is what it began as. `tuned` is the
    fingerprint of what lies there (`encoder/` or `adapter/`)."""

    weights: str
    revision: str
    pooling: Literal["mean", "cls", "last"]
    max_length: int
    dtype: str = "float32"
    tuning: Tuning = "frozen"
    tuned: str = ""


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """What one head answers, and how it came about.

    `template` is the prompt whose features it reads (None: the state alone); `dataset` the hash or version of the
    rows it learned from; `metrics` were taken on weak labels unless their names say otherwise.
    """

    question: Question
    template: Template | None = None
    loss: str = "xent"
    dataset: str = ""
    settings: JsonObject = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LinearHead:
    """weight (k, d), bias (k,)."""

    weight: Floats
    bias: Floats

    def logprobs(self, features: Floats) -> NDArray[np.float64]:
        """Log-probability (n, k) of every option, for features (n, d)."""
        logits = features.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias
        shifted = logits - logits.max(axis=1, keepdims=True)
        result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return result


@dataclass(frozen=True, slots=True)
class Head:
    """One question's head."""

    spec: HeadSpec
    linear: LinearHead


@dataclass(frozen=True, slots=True)
class HeadModel:
    """An encoder with its heads, one per question name. `revision` is a hash of everything that decides answers:
    where the encoder lies, and how the heads were trained, does not."""

    encoder: HeadEncoder
    heads: tuple[Head, ...]
    revision: str = ""

    def head(self, question: Question) -> tuple[Head, tuple[int, ...]]:
        """The head that answers `question`, and for each of the question's options its place in the head.

        The order of options is free; everything else must be what the head was trained on.
        Raises: InputError that says what differs.
        """
        head = next((head for head in self.heads if head.spec.question.name == question.name), None)
        if head is None:
            names = ", ".join(head.spec.question.name for head in self.heads)
            raise InputError(f"no head answers the question {question.name!r}", hint=f"this folder has: {names}")
        if what := _difference(head.spec.question, question):
            raise InputError(f"the head for {question.name!r} was trained on another question: {what}", hint=_ANOTHER)
        places = {label: place for place, label in enumerate(head.spec.question.labels)}
        return head, tuple(places[label] for label in question.labels)

    def check_width(self, width: int) -> None:
        """Raises: WeightsError if a head does not read `width` features."""
        for head in self.heads:
            if head.linear.weight.shape[1] != width:
                raise WeightsError(
                    f"the head for {head.spec.question.name!r} reads {head.linear.weight.shape[1]} features, "
                    f"the encoder gives {width}",
                    hint=_AGAIN,
                )


_ANOTHER: Final = "ask what it was trained on (see head.json), or train a head for this question"


@dataclass(frozen=True, slots=True)
class _File:
    """`head.json`."""

    format: int
    encoder: HeadEncoder
    heads: Sequence[HeadSpec]
    sha256: str


def save_heads(folder: Path, model: HeadModel) -> HeadModel:
    """Write `head.safetensors` and then `head.json`, each whole or not at all; returns the model with its revision.

    Raises: WeightsError for a full or read-only disk; MissingExtraError.
    """
    tensors = {}
    for head in model.heads:
        tensors[f"{head.spec.question.name}.weight"] = np.ascontiguousarray(head.linear.weight, dtype=np.float32)
        tensors[f"{head.spec.question.name}.bias"] = np.ascontiguousarray(head.linear.bias, dtype=np.float32)
    try:
        from safetensors.numpy import save
    except ImportError:
        raise MissingExtraError("saving heads needs safetensors", hint="pip install 'goldless[local]'") from None
    content = save(tensors)
    specs = [head.spec for head in model.heads]
    spec = _File(FORMAT, model.encoder, specs, hashlib.sha256(content).hexdigest())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(folder / TENSORS, content)
        _replace(folder / SPEC, orjson.dumps(asdict(spec), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        raise WeightsError(f"cannot write the head to {folder}: {error}", hint="free some space") from error
    return load_heads(folder)


def load_heads(folder: Path) -> HeadModel:
    """Read what `save_heads` wrote.

    Raises: WeightsError for a file that is missing, damaged, of a newer format, or does not belong to the others.
    """
    spec = _read_spec(folder)
    file = folder / TENSORS
    if not file.is_file():
        raise WeightsError(f"{folder} lacks {TENSORS}", hint=_AGAIN)
    if sha256_of(file) != spec.sha256:
        raise WeightsError(f"{file} is not the file that {SPEC} was written with: damaged or mixed up", hint=_AGAIN)
    if (part := PARTS.get(spec.encoder.tuning)) and fingerprint(folder / part) != spec.encoder.tuned:
        raise WeightsError(f"{folder / part} is missing or not what was trained with these heads", hint=_AGAIN)
    heads = tuple(Head(item, head) for item, head in zip(spec.heads, _linear(file, spec.heads), strict=True))
    return HeadModel(spec.encoder, heads, _revision(spec))


def _revision(spec: _File) -> str:
    asked = [(item.question, item.template) for item in spec.heads]
    decides = [spec.sha256, replace(spec.encoder, weights=""), asked]
    return hashlib.sha256(orjson.dumps(decides)).hexdigest()[:32]


def _linear(file: Path, specs: Sequence[HeadSpec]) -> list[LinearHead]:
    try:
        from safetensors.numpy import load_file
    except ImportError:
        raise MissingExtraError("reading heads needs safetensors", hint="pip install 'goldless[local]'") from None
    tensors = load_file(file)
    try:
        found = [
            LinearHead(tensors[f"{spec.question.name}.weight"], tensors[f"{spec.question.name}.bias"]) for spec in specs
        ]
    except KeyError as error:
        raise WeightsError(f"{file} has no tensor {error}", hint=_AGAIN) from None
    for spec, head in zip(specs, found, strict=True):
        options = len(spec.question.options)
        if head.weight.ndim != 2 or head.bias.shape != (options,) or len(head.weight) != options:
            raise WeightsError(f"the head for {spec.question.name!r} in {file} has the wrong shape", hint=_AGAIN)
    return found


def _read_spec(folder: Path) -> _File:
    if not folder.is_dir():
        raise WeightsError(f"there is no folder {folder}", hint="pass the folder that train_classifier wrote")
    path = folder / SPEC
    try:
        content = orjson.loads(path.read_bytes())
        version = content["format"]
    except FileNotFoundError:
        raise WeightsError(
            f"{folder} holds no {SPEC}: it is no head", hint="for a language model write transformers:<folder>"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path} is damaged: {error}", hint=_AGAIN) from error
    if version != FORMAT:
        raise WeightsError(f"{path} has format {version}, this goldless reads {FORMAT}", hint="update goldless")
    try:
        return TypeAdapter(_File).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise WeightsError(f"{path} is damaged: {place}: {first['msg']}", hint=_AGAIN) from None


def _difference(trained: Question, asked: Question) -> str:
    """What differs, options' order aside; empty if nothing does."""
    if trained.kind != asked.kind:
        return f"a {trained.kind}, not a {asked.kind}"
    if set(trained.labels) != set(asked.labels) or len(trained.labels) != len(asked.labels):
        return f"its options are {', '.join(trained.labels)}; asked were {', '.join(asked.labels)}"
    if set(trained.options) != set(asked.options):
        return "its options are described in other words"
    return "" if trained.instructions == asked.instructions else f"its instructions are {trained.instructions!r}"


def _replace(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)
