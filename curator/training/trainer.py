"""TRL's trainer with a weight per example, checkpoints that are known to be whole, and an orderly stop.

Read against TRL 1.16: `SFTTrainer.compute_loss` calls the model with `fused_lm_head=True` and gets the
log-probability of every learned token, zero elsewhere; the loss is minus their sum over the number of learned
tokens of the whole step. Scaling them by the example's weight multiplies its loss and nothing else.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl import SFTConfig, SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from curator.errors import TrainingError
from curator.training.checkpoints import PREFIX, Checkpoints, verify
from curator.training.settings import Schedule, SFTSettings, TrainingProgress
from curator.types import JsonObject

log = logging.getLogger(__name__)

Batch = dict[str, torch.Tensor]


class WeightedCollator(DataCollatorForLanguageModeling):  # type: ignore[misc]
    """Pads a batch, and keeps the examples' weights: `weight` has the shape (examples,)."""

    def torch_call(self, examples: list[dict[str, list[int] | float]]) -> Batch:
        batch: Batch = super().torch_call(examples)
        batch["weight"] = torch.tensor([example["weight"] for example in examples])
        return batch


class Sealed(Trainer):  # type: ignore[misc]
    """Keeps its checkpoints as `checkpoints` wants them, and tells nobody."""

    checkpoints: Checkpoints

    def _save_checkpoint(self, model: torch.nn.Module, trial: object) -> None:
        super()._save_checkpoint(model, trial)
        self.checkpoints.seal(Path(self.args.output_dir) / f"{PREFIX}{self.state.global_step}")

    def _load_best_model(self) -> None:
        # TRL would only warn where it is gone, and go on with the weights of the last step.
        verify(Path(self.state.best_model_checkpoint))
        super()._load_best_model()

    def _send_telemetry(self) -> None:
        """Nothing phones home."""

    def create_model_card(self, *args: object, **kwargs: object) -> None:
        """goldless writes its own."""


class WeightedTrainer(Sealed, SFTTrainer):  # type: ignore[misc]
    """Fine-tunes on examples with a column `weight`."""

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Sum over the examples of weight x negative log-likelihood, over the number of learned tokens."""
        weight = inputs["weight"]

        def weighted(**given: object) -> object:
            outputs = model(**given)
            outputs.log_probs = outputs.log_probs * weight.to(outputs.log_probs.device)[:, None]
            return outputs

        rest = {name: value for name, value in inputs.items() if name != "weight"}
        loss: torch.Tensor = super().compute_loss(weighted, rest, return_outputs, num_items_in_batch)
        return loss

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "weight" not in self._signature_columns:
            self._signature_columns.append("weight")


CHOSEN, REJECTED = "eval_logps_per_token/chosen", "eval_logps_per_token/rejected"
"""What the log of a training on preferences calls the mean log-probabilities per token of the held-out answers."""
_SPOKEN = {"loss": "loss", "eval_loss": "validation loss"}


class Watch(TrainerCallback):  # type: ignore[misc]
    """Reports progress, stops early or when asked to, and refuses a loss that is no number."""

    def __init__(
        self, settings: Schedule, stop: threading.Event, report: Callable[[TrainingProgress], None] | None
    ) -> None:
        self._settings = settings
        self._stop = stop
        self._report = report
        self._began = 0.0
        self.resumed_at = 0
        self.stopped_early = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: object
    ) -> None:
        self._began, self.resumed_at = time.monotonic(), state.global_step
        if state.best_global_step:
            # By its name: the folder may have been moved since. transformers would forget one that is not there.
            best = Path(args.output_dir) / f"{PREFIX}{state.best_global_step}"
            verify(best)
            state.best_model_checkpoint = str(best)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: object
    ) -> None:
        if self._stop.is_set():
            self._end(control)
        elif state.global_step >= state.max_steps:
            # However many steps lie between evaluations, the last state is one of those to choose from.
            control.should_save = control.should_evaluate = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """Raises: TrainingError."""
        logged = state.log_history[-1]
        for name in _SPOKEN:
            if not math.isfinite(logged.get(name, 0.0)):
                raise TrainingError(
                    f"after step {state.global_step} the {_SPOKEN[name]} is {logged[name]}, which is no number",
                    hint=f"lower the learning rate (it is {self._settings.rate:g}), or train in float32",
                )
        if self._report is not None:
            self._report(self._progress(state))
        if self._stop.is_set():
            self._end(control)

    def _end(self, control: TrainerControl) -> None:
        if not control.should_training_stop:
            log.warning("stopping: a checkpoint is being saved (once more: leave at once)")
        control.should_save = control.should_training_stop = True

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: object
    ) -> None:
        losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
        if len(losses) - 1 - losses.index(min(losses)) >= self._settings.patience:
            control.should_training_stop = self.stopped_early = True

    def _progress(self, state: TrainerState) -> TrainingProgress:
        return TrainingProgress(
            step=state.global_step,
            steps=state.max_steps,
            examples=(state.global_step - self.resumed_at) * self._settings.batch_size,
            seconds=time.monotonic() - self._began,
            loss=_last(state, "loss"),
            validation_loss=_last(state, "eval_loss"),
            resumed_at=self.resumed_at,
            chosen=_last(state, CHOSEN),
            rejected=_last(state, REJECTED),
        )


def _last(state: TrainerState, name: str) -> float | None:
    return next((float(entry[name]) for entry in reversed(state.log_history) if name in entry), None)


def configure(settings: SFTSettings, folder: Path, examples: int) -> SFTConfig:
    """TRL's settings for a training that keeps its checkpoints in `folder`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a CPU lacks
        return SFTConfig(**arguments(settings, folder, examples), max_length=None)


def arguments(settings: Schedule, folder: Path, examples: int) -> JsonObject:
    """The settings that TRL's trainers share."""
    every = settings.every(examples)
    return {
        "output_dir": str(folder),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.rate,
        "per_device_train_batch_size": settings.forward,
        "per_device_eval_batch_size": settings.forward,
        "gradient_accumulation_steps": settings.batch_size // settings.forward,
        "gradient_checkpointing": settings.checkpointing,
        "lr_scheduler_type": "cosine",
        "warmup_steps": max(1, settings.steps(examples) // 20),
        "bf16": settings.dtype == "bfloat16",
        "use_cpu": settings.device == "cpu" or not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "seed": settings.seed,
        "data_seed": settings.seed,
        "eval_strategy": "steps",
        "eval_steps": every,
        "save_strategy": "steps",
        "save_steps": every,
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
    }


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """While the block runs, the first SIGINT or SIGTERM sets the event; the second raises KeyboardInterrupt.
    In another thread than the main one, signals stay as they are."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
