"""Whether a LoRA adapter belongs on a model, found out before anything large is loaded.

An adapter that goldless trained says in `training.json` what it was trained on.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from curator.engines.weights import Weights
from curator.errors import WeightsError
from curator.types import JsonObject

log = logging.getLogger(__name__)

RECORD = "training.json"
"""Lies in the folder of every model that goldless trained: its base, data, settings and metrics."""

_SHAPE = ("model_type", "hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size")


def shape_of(folder: Path) -> JsonObject:
    """What of a model's config has to be the same for an adapter to fit."""
    config = _read(folder / "config.json")
    inner = config.get("text_config")
    found = inner if isinstance(inner, dict) else config
    return {name: found[name] for name in _SHAPE if name in found}


def record_of(folder: Path) -> JsonObject:
    """What goldless noted about a model that it trained; empty for one from elsewhere."""
    path = folder / RECORD
    return _read(path) if path.is_file() else {}


def check_adapter(adapter: Path, weights: Weights) -> Path:
    """The adapter's folder.

    Raises: WeightsError for what is no adapter, or was trained on a model of another shape. One that was trained on
    other weights of the same shape (another quantisation, another revision) is only warned of.
    """
    if not (adapter / "adapter_config.json").is_file():
        raise WeightsError(f"{adapter} is no LoRA adapter", hint="pass the folder that peft saved")
    record = record_of(adapter)
    base, shape = record.get("base"), record.get("shape")
    if isinstance(shape, dict) and (here := shape_of(weights.path)) != shape:
        names = [name for name in shape if here.get(name) != shape[name]]
        differ = ", ".join(f"{name} {shape[name]}, not {here.get(name)}" for name in names)
        raise WeightsError(
            f"the adapter {adapter} does not fit {weights.path.name}: it was trained on {base} ({differ})",
            hint=f"put it on {base}",
        )
    if record and record.get("revision") != weights.revision:
        log.warning("the adapter %s was trained on other weights: %s, revision %s", adapter, base, record["revision"])
    return adapter


def _read(path: Path) -> JsonObject:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    return found if isinstance(found, dict) else {}
