"""One training with TRL: the model is loaded, trained, and its best state saved."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from datasets import Dataset
from peft import LoraConfig, TaskType
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PrinterCallback, TrainerState

from curator.engines.gguf import quiet
from curator.engines.torch_model import read_model
from curator.errors import TrainingError
from curator.training.checkpoints import Checkpoints
from curator.training.examples import Example, Examples
from curator.training.merge import copy_tokenizer
from curator.training.settings import Schedule, SFTSettings
from curator.training.trainer import Sealed, Watch, WeightedCollator, WeightedTrainer, configure, stoppable
from curator.types import JsonObject

if TYPE_CHECKING:
    from curator.training.sft import Report


def train(
    base: Path,
    examples: Examples,
    settings: SFTSettings,
    checkpoints: Checkpoints,
    paths: tuple[Path | None, Path],
    progress: Report | None,
) -> JsonObject:
    """Train the model in `base`; returns the metrics. `paths` are the checkpoint to go on from, None to begin, and
    the folder for the best state.

    Raises: TrainingError, WeightsError; KeyboardInterrupt after a signal, with a checkpoint saved.
    """
    last, place = paths
    with in_training(settings) as stop:
        began = time.monotonic()
        watch = Watch(settings, stop, progress)
        trainer = _trainer(base, examples, settings, checkpoints, watch)
        take_steps(trainer, last, stop)
        _save(trainer, base, place, settings)
    seconds = {"seconds": round(time.monotonic() - began, 1)}
    return {**_report(trainer.state.log_history, examples), **how_far(trainer.state, watch), **seconds}


@contextmanager
def in_training(settings: Schedule) -> Iterator[threading.Event]:
    """A place to train in; the event is set when a signal asks to stop. Raises: TrainingError if memory runs out."""
    with stoppable() as stop, _explained(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TRL's and torch's advice to those who call them
        yield stop


def take_steps(trainer: Sealed, last: Path | None, stop: threading.Event) -> None:
    """Train to the end, from the checkpoint `last` if there is one. Raises: KeyboardInterrupt after a signal."""
    if last is None:
        trainer.args.eval_on_start = True
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    if stop.is_set() and trainer.state.global_step < trainer.state.max_steps:
        raise KeyboardInterrupt


def how_far(state: TrainerState, watch: Watch) -> JsonObject:
    """How a training went, beside its losses."""
    return {
        "best_step": state.best_global_step,
        "steps": state.global_step,
        "steps_planned": state.max_steps,
        "stopped_early": watch.stopped_early,
        "resumed_at_step": watch.resumed_at,
    }


def _trainer(
    base: Path, examples: Examples, settings: SFTSettings, checkpoints: Checkpoints, watch: Watch
) -> WeightedTrainer:
    torch.manual_seed(settings.seed)
    tokenizer = padded_tokenizer(base)
    # All weights are kept in float32: a step of bfloat16 is too coarse for them to move.
    frozen = settings.method == "lora" and settings.dtype == "bfloat16"
    model = read_model(base, torch.bfloat16 if frozen else torch.float32)
    with quiet():
        trainer = WeightedTrainer(
            model=model,
            args=configure(settings, checkpoints.folder, len(examples.train)),
            data_collator=WeightedCollator(pad_token_id=tokenizer.pad_token_id),
            train_dataset=_table(examples.train),
            eval_dataset=_table(examples.validation),
            processing_class=tokenizer,
            peft_config=lora(settings) if settings.method == "lora" else None,
            callbacks=[watch],
        )
    trainer.checkpoints = checkpoints
    trainer.remove_callback(PrinterCallback)  # it prints to stdout
    return trainer


def padded_tokenizer(base: Path) -> PreTrainedTokenizerBase:
    """The base's tokenizer, with something to pad with."""
    tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def lora(settings: Schedule) -> LoraConfig:
    """Twice the rank as alpha, no dropout, every linear layer but the head."""
    return LoraConfig(
        r=settings.rank, lora_alpha=2 * settings.rank, target_modules="all-linear", task_type=TaskType.CAUSAL_LM
    )


def _table(examples: Sequence[Example]) -> Dataset:
    rows = [{"input_ids": item.ids, "labels": item.labels, "weight": item.weight} for item in examples]
    return Dataset.from_list(rows)


def _save(trainer: WeightedTrainer, base: Path, place: Path, settings: SFTSettings) -> None:
    """The weights, for all weights also the tokenizer, so that the folder is a model of its own."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    with quiet():
        if settings.method == "lora":
            model.save_pretrained(place, save_embedding_layers=False)
            return
        model.to(getattr(torch, str(model.config.dtype).removeprefix("torch.")))
        model.save_pretrained(place)
    copy_tokenizer(base, place)


def _report(history: Sequence[dict[str, float]], examples: Examples) -> JsonObject:
    """What the log of the training says; losses are nats per token of the answers."""
    losses = [entry["loss"] for entry in history if "loss" in entry]
    validation = [entry for entry in history if "eval_loss" in entry]
    best = min(validation[1:], key=lambda entry: entry["eval_loss"])
    head = max(1, len(losses) // 10)
    return {
        "examples": len(examples.train),
        "validation_examples": len(examples.validation),
        "too_long": examples.too_long,
        "first_loss": sum(losses[:head]) / head if losses else None,
        "last_loss": sum(losses[-head:]) / head if losses else None,
        "validation_loss_before": validation[0]["eval_loss"],  # of the base: it is evaluated before the first step
        "validation_loss": best["eval_loss"],
        "validation_token_accuracy_before": validation[0].get("eval_mean_token_accuracy"),
        "validation_token_accuracy": best.get("eval_mean_token_accuracy"),
    }


@contextmanager
def _explained(settings: Schedule) -> Iterator[None]:
    """Out of memory in the words of the settings. Raises: TrainingError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        full = isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)
        if not full:
            raise
        raise TrainingError(
            f"out of memory with {settings.forward} examples of up to {settings.max_length} tokens at a time",
            hint="lower micro_batch or max_length, or set checkpointing"
            + (", or train an adapter: method='lora'" if settings.shown["method"] == "full" else ""),
        ) from error
