"""How classifiers are trained: a head alone, or the encoder with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from curator.errors import ConfigError
from curator.training.losses import LossSettings


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """How a head is trained: Adam, a cosine schedule, early stopping on weak labels.

    `validation` is the share of rows held out for that; training stops after `patience` epochs without a better
    validation loss, and the best epoch counts. `weight_decay` is decoupled (AdamW) and acts on standardised
    features.
    Raises: ConfigError for values outside their range.
    """

    loss: LossSettings = field(default_factory=LossSettings)
    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    validation: float = 0.1
    patience: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_size, self.patience) < 1:
            raise ConfigError("epochs, batch_size and patience are 1 or more")
        if self.learning_rate <= 0 or self.weight_decay < 0 or not 0 <= self.validation < 1:
            raise ConfigError("learning_rate is above 0, weight_decay 0 or more, validation in [0, 1)")


@dataclass(frozen=True, slots=True)
class TuneSettings:
    """How an encoder is tuned: AdamW, a cosine schedule, gradients clipped at norm 1, early stopping on weak labels.

    `learning_rate` is the encoder's (default 5e-4 with LoRA, 5e-5 fully, which suit encoders of MiniLM's size; large
    language models usually want less), `head_learning_rate` the heads', which begin at zero. Training stops after
    `patience` epochs without a better validation loss, and the best epoch counts. A checkpoint is written every
    `checkpoint_steps` and after every epoch.
    Raises: ConfigError for values outside their range.
    """

    method: Literal["lora", "full"] = "lora"
    loss: LossSettings = field(default_factory=LossSettings)
    epochs: int = 5
    batch_size: int = 16
    learning_rate: float | None = None
    head_learning_rate: float = 1e-2
    weight_decay: float = 0.01
    validation: float = 0.1
    patience: int = 2
    seed: int = 0
    lora_rank: int = 16
    checkpoint_steps: int = 100

    def __post_init__(self) -> None:
        if self.method not in ("lora", "full"):
            raise ConfigError(f"method {self.method!r} is unknown", hint="'lora' or 'full'")
        if min(self.epochs, self.batch_size, self.patience, self.lora_rank, self.checkpoint_steps) < 1:
            raise ConfigError("epochs, batch_size, patience, lora_rank and checkpoint_steps are 1 or more")
        if min(self.rate, self.head_learning_rate) <= 0 or self.weight_decay < 0 or not 0 <= self.validation < 1:
            raise ConfigError("learning rates are above 0, weight_decay 0 or more, validation in [0, 1)")

    @property
    def rate(self) -> float:
        """The encoder's learning rate."""
        if self.learning_rate is not None:
            return self.learning_rate
        return 5e-4 if self.method == "lora" else 5e-5
