"""Classifiers from weak labels: linear heads on a frozen encoder, or on one that is fine-tuned with them.

fields = [Supervision.of_labels(question, labels, weights)]
train_classifier(texts, fields, Path("models/tone"))
engine = connect("head:models/tone")
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import orjson

from curator.engines.encoder import Encoder
from curator.engines.features import FeatureCache
from curator.engines.heads import Head, HeadEncoder, HeadModel, HeadSpec, Tuning, save_heads
from curator.engines.known import DEFAULT_ENCODER
from curator.errors import ConfigError, InputError
from curator.training.failures import training_errors
from curator.training.finetune import tune
from curator.training.head_settings import HeadSettings, TuneSettings
from curator.training.heads import TrainedHead, train_head
from curator.training.supervision import Supervision, check_supervision
from curator.types import JsonObject


def train_classifier(
    texts: Sequence[str],
    fields: Sequence[Supervision],
    folder: Path,
    encoder: Encoder | str = DEFAULT_ENCODER,
    settings: HeadSettings | TuneSettings | None = None,
) -> HeadModel:
    """Train a head per field and write them to `folder`, which `connect("head:<folder>")` serves.

    `settings` decide how: `HeadSettings` leave the encoder frozen (minutes on a CPU; features are cached),
    `TuneSettings` train it too, with LoRA or fully, all fields at once. A run of the latter that was killed goes
    on from its last checkpoint in `folder` when it is called again with the same arguments.

    Raises: InputError for labels that cannot be learnt from, or a `folder` in which another training was begun;
    ConfigError; TrainingError for a loss that is not finite or too little memory; WeightsError, also for a damaged
    checkpoint; MissingExtraError (LoRA needs peft).
    """
    settings = settings or HeadSettings()
    _check(texts, fields)
    encoder = Encoder(encoder) if isinstance(encoder, str) else encoder
    if encoder.identity.adapter:
        raise ConfigError("an encoder with an adapter cannot carry a head", hint="merge the adapter into its weights")
    named = [(field, dataset_hash(texts, field)) for field in fields]
    with training_errors():
        if isinstance(settings, TuneSettings):
            tuned = tune(encoder, texts, fields, folder, settings)
            saved = _save(
                folder, head_encoder(encoder, settings.method, tuned.fingerprint), named, tuned.heads, settings
            )
            tuned.done()
            return saved
        trained = _train_frozen(encoder, texts, fields, settings)
    return _save(folder, head_encoder(encoder), named, trained, settings)


def dataset_hash(texts: Sequence[str], field: Supervision) -> str:
    """What `Supervision.dataset` says, else a hash (hex, 128 bit) of the texts and their labels."""
    if field.dataset:
        return field.dataset
    digest = hashlib.blake2b(field.digest.encode(), digest_size=16)
    for text in texts:
        digest.update(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())
    return digest.hexdigest()


def _check(texts: Sequence[str], fields: Sequence[Supervision]) -> None:
    if not fields:
        raise InputError("there is no field to train a head for", hint="pass a Supervision per closed field")
    names = [field.question.name for field in fields]
    if len(set(names)) < len(names):
        raise InputError(f"two fields have the same name: {', '.join(names)}")
    for field in fields:
        try:
            check_supervision(len(texts), field.targets, field.weights, field.question.labels)
        except InputError as error:
            raise InputError(f"field {field.question.name!r}: {error.message}", hint=error.hint) from None


def _train_frozen(
    encoder: Encoder, texts: Sequence[str], fields: Sequence[Supervision], settings: HeadSettings
) -> list[TrainedHead]:
    cache = FeatureCache(encoder, encoder.identity.key)
    trained = []
    for field in fields:
        used = np.flatnonzero(field.weights > 0)
        shown = encoder.render([texts[row] for row in used], field.question, field.template)
        trained.append(train_head(cache.encode(shown), field.targets[used], field.weights[used], settings))
    return trained


def head_encoder(encoder: Encoder, tuning: Tuning = "frozen", tuned: str = "") -> HeadEncoder:
    """How a head's folder names the encoder that it stands on."""
    identity = encoder.identity
    place = Path(identity.weights).expanduser()
    weights = str(place.resolve()) if place.exists() else identity.weights
    return HeadEncoder(weights, identity.revision, identity.pooling, identity.max_length, identity.dtype, tuning, tuned)


def _save(
    folder: Path,
    encoder: HeadEncoder,
    fields: Sequence[tuple[Supervision, str]],
    trained: Sequence[TrainedHead],
    settings: HeadSettings | TuneSettings,
) -> HeadModel:
    plain: JsonObject = orjson.loads(orjson.dumps(asdict(settings)))
    heads = []
    for (field, dataset), one in zip(fields, trained, strict=True):
        spec = HeadSpec(field.question, field.template, settings.loss.name, dataset, plain, one.metrics)
        heads.append(Head(spec, one.linear))
    return save_heads(folder, HeadModel(encoder, tuple(heads)))
