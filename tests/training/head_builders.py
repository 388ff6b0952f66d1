"""A task that a tiny random encoder can learn: whether a text says good or bad, and whether it is long."""

from __future__ import annotations

import numpy as np

from curator.training.head_settings import TuneSettings
from curator.training.supervision import Supervision
from curator.types import Option, Question

TONE = Question("tone", "choice", "Is the text kind?", (Option("kind"), Option("unkind")))
SIZE = Question("size", "predicate", "Is the text long?", (Option("yes"), Option("no")))

KIND = np.random.default_rng(0).permutation(np.arange(60) % 2 == 0)
LONG = np.random.default_rng(1).permutation(np.arange(60) % 3 == 0)
TEXTS = [
    f"a {'good' if kind else 'bad'} film {'and so on and so on ' if long else ''}{number}"
    for number, (kind, long) in enumerate(zip(KIND.tolist(), LONG.tolist(), strict=True))
]
FIELDS = [
    Supervision.of_labels(TONE, ["kind" if kind else "unkind" for kind in KIND]),
    # A row in five has no label for this field.
    Supervision.of_labels(SIZE, [None if i % 5 == 4 else "yes" if long else "no" for i, long in enumerate(LONG)]),
]


def tiny_settings(method: str) -> TuneSettings:
    return TuneSettings(
        method="full" if method == "full" else "lora",
        epochs=4,
        batch_size=8,
        learning_rate=1e-3,
        head_learning_rate=5e-2,
        validation=0.2,
        patience=4,
        lora_rank=4,
        checkpoint_steps=3,
    )
