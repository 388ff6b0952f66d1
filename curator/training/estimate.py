"""How long a training may take, from the model's size and how fast this machine multiplies matrices."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

from curator.training.outputs import missing_extra
from curator.training.settings import Schedule

_SIZE = 2048
_PARTS = 0.5
"""Of a training's time that is spent multiplying large matrices; the rest is attention, the adapter and the softmax.
Measured: 0.55 with 1.5 billion parameters in bfloat16 on one core."""


def training_seconds(model: Path, settings: Schedule, learned: int, read: int) -> float:
    """Seconds to learn from so many tokens with an adapter, and to read others without learning.

    A token costs 2 operations per parameter forward, as many for the gradient of what lies before, and the forward
    pass again with `checkpointing`. Raises: MissingExtraError without torch.
    """
    passes = 3 if settings.checkpointing else 2
    operations = 2 * parameters(model) * (passes * learned + read)
    return operations / (_PARTS * _speed(settings.dtype, settings.device))


def parameters(model: Path) -> int:
    """The number of weights in a folder's safetensors files, as their headers say."""
    return sum(math.prod(shape) for path in model.glob("*.safetensors") for shape in _shapes(path))


def _shapes(path: Path) -> list[list[int]]:
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return [item["shape"] for name, item in header.items() if name != "__metadata__"]


def _speed(dtype: str, device: str | None) -> float:
    """Operations per second of a product of large matrices, the best of three."""
    try:
        import torch
    except ImportError as error:
        raise missing_extra(error) from error
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    matrix = torch.ones(_SIZE, _SIZE, dtype=getattr(torch, dtype), device=place)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        (matrix @ matrix)[0, 0].item()
        times.append(time.perf_counter() - began)
    return 2 * _SIZE**3 / min(times)
