"""What torch raises while training, as errors that say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from curator.errors import TrainingError

LOWER = "lower batch_size or the encoder's max_length, tune with LoRA, or leave the encoder frozen"
_NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")


@contextmanager
def training_errors() -> Iterator[None]:
    """Raises: TrainingError where memory runs out, on a GPU or on the CPU."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TrainingError(f"out of memory: {_line(error)}", hint=LOWER) from error
    except RuntimeError as error:
        # torch's CPU allocator has no exception of its own.
        if any(words in str(error).lower() for words in _NO_MEMORY):
            raise TrainingError(f"out of memory: {_line(error)}", hint=LOWER) from error
        raise


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
