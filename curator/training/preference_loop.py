"""One training on preferences: the model is loaded, the reference read off, trained, and its best state saved."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from datasets import Dataset
from transformers import PrinterCallback
from trl.trainer.dpo_trainer import DataCollatorForPreference

from curator.engines.gguf import quiet
from curator.engines.torch_model import AdaptedModel, CausalModel, put_on, read_model
from curator.training.checkpoints import Checkpoints
from curator.training.loop import how_far, in_training, lora, padded_tokenizer, take_steps
from curator.training.pairs import Pair, Pairs
from curator.training.preference_settings import DPOSettings
from curator.training.preference_trainer import Guard, PreferenceTrainer, configure_preferences
from curator.training.trainer import CHOSEN, REJECTED, arguments
from curator.types import JsonObject

if TYPE_CHECKING:
    from curator.training.sft import Report
    from curator.training.subject import Paths

LOGPROBS = "logprobs.json"
"""Lies beside the adapter: the log-probabilities of both answers over the steps."""


def train_pairs(
    base: Path, pairs: Pairs, settings: DPOSettings, checkpoints: Checkpoints, paths: Paths, progress: Report | None
) -> JsonObject:
    """Train the model in `base`; returns the metrics. `paths` are the checkpoint to go on from, None to begin, and
    the folder for the best state.

    Raises: TrainingError, WeightsError; KeyboardInterrupt after a signal, with a checkpoint saved.
    """
    last, place = paths
    with in_training(settings) as stop:
        began = time.monotonic()
        guard = Guard(settings, stop, progress)
        trainer = _trainer(base, pairs, settings, checkpoints, guard)
        trainer.measure(checkpoints, stop)
        take_steps(trainer, last, stop)
        with quiet():
            model = trainer.accelerator.unwrap_model(trainer.model)
            model.save_pretrained(place, save_embedding_layers=False)
    history = trainer.state.log_history
    (place / LOGPROBS).write_text(json.dumps(series(history), indent=1), encoding="utf-8")
    return {
        **_report(history, pairs, settings, trainer.state.best_global_step),
        **how_far(trainer.state, guard),
        "stopped_by_alarm": guard.stopped_by_alarm,
        "seconds": round(time.monotonic() - began, 1),
    }


def _trainer(
    base: Path, pairs: Pairs, settings: DPOSettings, checkpoints: Checkpoints, guard: Guard
) -> PreferenceTrainer:
    torch.manual_seed(settings.seed)
    tokenizer = padded_tokenizer(base)
    model = _model(base, settings)
    with quiet():
        trainer = PreferenceTrainer(
            model=model,
            args=configure_preferences(arguments(settings, checkpoints.folder, len(pairs.train)), settings),
            data_collator=DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id),
            train_dataset=_table(pairs.train),
            eval_dataset=_table(pairs.validation),
            processing_class=tokenizer,
            peft_config=None if settings.adapter else lora(settings),
            callbacks=[guard],
        )
    trainer.checkpoints, trainer.settings = checkpoints, settings
    trainer.remove_callback(PrinterCallback)  # it prints to stdout
    return trainer


def _model(base: Path, settings: DPOSettings) -> CausalModel | AdaptedModel:
    """The base, with the adapter to go on with if there is one."""
    model = read_model(base, torch.bfloat16 if settings.dtype == "bfloat16" else torch.float32)
    return put_on(Path(settings.adapter).expanduser(), model, trainable=True) if settings.adapter else model


def _table(pairs: Sequence[Pair]) -> Dataset:
    rows = [{"prompt_ids": pair.prompt, "chosen_ids": pair.chosen, "rejected_ids": pair.rejected} for pair in pairs]
    return Dataset.from_list(rows)


def series(history: Sequence[Mapping[str, float]]) -> JsonObject:
    """Log-probabilities per token over the steps, of the held-out pairs and of those of each step; `in_order` is the
    share of the pairs whose chosen answer is the more likely one per token."""
    return {"validation": _over_steps(history, "eval_"), "train": _over_steps(history, "")}


def _over_steps(history: Sequence[Mapping[str, float]], prefix: str) -> JsonObject:
    lines = [entry for entry in history if f"{prefix}loss" in entry]
    columns = {
        "chosen": "logps_per_token/chosen",
        "rejected": "logps_per_token/rejected",
        "in_order": "pairs_in_order",
        "loss": "loss",
    }
    found: JsonObject = {"step": [entry["step"] for entry in lines]}
    return found | {name: [round(entry[prefix + key], 6) for entry in lines] for name, key in columns.items()}


def _report(history: Sequence[Mapping[str, float]], pairs: Pairs, settings: DPOSettings, best_step: int) -> JsonObject:
    """What the log of the training says; log-probabilities are nats per token of the held-out answers."""
    first, *later = [entry for entry in history if "eval_loss" in entry]
    best = next(entry for entry in later if entry["step"] == best_step)
    falls = [(entry["step"], first[CHOSEN] - entry[CHOSEN]) for entry in later]
    return {
        "pairs": len(pairs.train),
        "validation_pairs": len(pairs.validation),
        "too_long": pairs.too_long,
        "validation_loss_before": first["eval_loss"],
        "validation_loss": best["eval_loss"],
        "chosen_logprob_before": first[CHOSEN],
        "chosen_logprob": best[CHOSEN],
        "rejected_logprob_before": first[REJECTED],
        "rejected_logprob": best[REJECTED],
        "alarms": [{"step": step, "fall": round(fallen, 6)} for step, fallen in falls if fallen > settings.most_fall],
        "logprobs": _over_steps(history, "eval_"),
    }
