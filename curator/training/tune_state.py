"""One file from which a killed training goes on: whole or not at all, and only for the run that wrote it."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from curator.errors import InputError, TrainingError, WeightsError

log = logging.getLogger(__name__)

FILE = "checkpoint.pt"

State = list[Tensor]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a run stands. `run` names its data and settings; `step` counts finished steps; `best` holds the
    parameters of the best epoch so far, empty before the first has ended."""

    run: str
    step: int
    parameters: State
    optimizer: dict[str, object]
    best: State
    best_loss: float
    best_epoch: int


class Checkpoints:
    """The checkpoint of `folder`, for the run called `run`."""

    def __init__(self, folder: Path, run: str) -> None:
        self.path = folder / FILE
        self.run = run

    def save(self, checkpoint: Checkpoint) -> None:
        """Raises: TrainingError for a full or read-only disk."""
        part = self.path.with_suffix(".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            content = {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}
            torch.save(content, part)
            os.replace(part, self.path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            with contextlib.suppress(OSError):
                part.unlink()
            raise TrainingError(
                f"cannot write the checkpoint {self.path}: {error}", hint="free some space, or choose another folder"
            ) from error

    def load(self) -> Checkpoint | None:
        """Where the run stands; None to begin (again).

        Raises: WeightsError for a damaged file; InputError for the checkpoint of another run.
        """
        if not self.path.is_file():
            return None
        try:
            found = Checkpoint(**torch.load(self.path, map_location="cpu", weights_only=True))
        except Exception as error:  # pickle, zipfile, torch and TypeError, by what is broken
            raise WeightsError(
                f"the checkpoint {self.path} is damaged: {type(error).__name__}",
                hint="delete it to begin the training again",
            ) from error
        if found.run != self.run:
            raise InputError(
                f"{self.path} belongs to a training with other data or settings",
                hint="delete it, train into another folder, or go on with what it was begun with",
            )
        log.info("going on from step %d (%s)", found.step, self.path)
        return found

    def delete(self) -> None:
        self.path.unlink(missing_ok=True)
