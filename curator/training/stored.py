"""Heads trained on a dataset version, and recorded with it."""

from __future__ import annotations

from pathlib import Path

import orjson

from curator.engines.heads import HeadModel
from curator.engines.known import DEFAULT_ENCODER
from curator.store import DatasetVersion, ModelRecord
from curator.task import Output
from curator.telemetry import stage_span
from curator.training.classifier import train_classifier
from curator.training.examples import TrainingSet
from curator.training.head_settings import HeadSettings, TuneSettings
from curator.training.outputs import weights_sha256
from curator.training.weak_labels import read_supervision
from curator.types import JsonObject


def train_heads(
    data: TrainingSet[Output],
    folder: str | Path,
    encoder: str = DEFAULT_ENCODER,
    settings: HeadSettings | TuneSettings | None = None,
) -> ModelRecord:
    """Train a head for every closed field of a dataset version, write them to `folder`, and record them in the
    store; `connect("head:<folder>")` serves them.

    Raises: as `train_classifier` and `read_supervision`.
    """
    version, target = data.found(), Path(folder).expanduser()
    config: JsonObject = {"folder": str(target), "encoder": encoder, "dataset_version": version.version}
    with data.store.run("train", config) as run, stage_span("train", rows=version.rows):
        texts, fields = read_supervision(data.store, data.task, version.version)
        model = train_classifier(texts, fields, target, encoder, settings)
        return data.store.add_model(_recorded(target, version, model, run.id))


def _recorded(folder: Path, version: DatasetVersion, model: HeadModel, run_id: str) -> ModelRecord:
    tuned = model.encoder.tuning != "frozen"
    fields = {head.spec.question.name: head.spec.metrics for head in model.heads}
    return ModelRecord(
        name=folder.absolute().name,
        kind="classifier" if tuned else "head",
        base=model.encoder.weights,
        revision=model.encoder.revision,
        dataset_version=version.version,
        dataset_hash=version.hash,
        path=str(folder.absolute()),
        sha256=weights_sha256(folder),
        report={"settings": model.heads[0].spec.settings, "fields": orjson.loads(orjson.dumps(fields))},
        run_id=run_id,
    )
