"""How a fine-tuning is run, and what it says while it runs. Loads nothing heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from curator.errors import ConfigError
from curator.types import JsonObject

Method = Literal["lora", "full"]
LEARNING_RATES: dict[Method, float] = {"lora": 2e-4, "full": 2e-5}
"""TRL's recommendation for adapters, and its own default for all weights."""


class Schedule:
    """What all trainings of language models share: how often, how fast, and how many rows at a time."""

    __slots__ = ()

    epochs: int
    batch_size: int
    micro_batch: int
    max_length: int
    rank: int
    validation: float
    patience: int
    evaluations: int
    seed: int
    dtype: Literal["bfloat16", "float32"]
    checkpointing: bool
    device: str | None

    @property
    def rate(self) -> float:
        """The learning rate."""
        raise NotImplementedError

    @property
    def shown(self) -> JsonObject:
        """All settings that decide on the result; where it runs does not."""
        given = {name: getattr(self, name) for name in self.__dataclass_fields__}  # type: ignore[attr-defined]
        return {**{name: given[name] for name in given if name != "device"}, "learning_rate": self.rate}

    @property
    def forward(self) -> int:
        """Examples at a time through the model: the largest number up to `micro_batch` that divides a step."""
        return next(size for size in range(min(self.micro_batch, self.batch_size), 0, -1) if not self.batch_size % size)

    def steps(self, examples: int) -> int:
        """Steps of the optimiser for so many examples."""
        return self.epochs * math.ceil(examples / self.batch_size)

    def every(self, examples: int) -> int:
        """Steps from one evaluation to the next."""
        return max(1, math.ceil(self.steps(examples) / self.evaluations))

    def check(self) -> None:
        """Raises: ConfigError for a value that makes no sense."""
        if self.dtype not in ("bfloat16", "float32"):
            raise ConfigError(f"cannot train in {self.dtype!r}", hint="bfloat16 or float32")
        for name in ("epochs", "batch_size", "micro_batch", "max_length", "rank", "patience", "evaluations"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not 0 < self.validation < 1:
            raise ConfigError(f"validation is {self.validation}; it is a share of the rows, such as 0.1")
        if not (self.rate > 0 and math.isfinite(self.rate)):
            raise ConfigError(f"learning_rate is {self.rate}; it must be above 0")


@dataclass(frozen=True, slots=True)
class SFTSettings(Schedule):
    """How to fine-tune.

    `lora` trains an adapter of rank `rank` on every linear projection, `full` all weights. A step of the
    optimiser takes `batch_size` examples, `micro_batch` of them at a time through the model (fewer take less
    memory and change nothing else). Examples of more than `max_length` tokens are left out. `validation` is the
    share of the documents that is held out: their weak labels decide on early stopping, after `patience` evaluations
    without a lower loss; `evaluations` is how often in all it is evaluated and a checkpoint written.
    `checkpointing` computes activations twice to keep fewer of them. `dtype` is that of the computation.

    Raises: ConfigError for a value that makes no sense.
    """

    method: Method = "lora"
    epochs: int = 3
    learning_rate: float | None = None
    batch_size: int = 16
    micro_batch: int = 8
    max_length: int = 1024
    rank: int = 16
    validation: float = 0.1
    patience: int = 3
    evaluations: int = 10
    seed: int = 0
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    checkpointing: bool = False
    device: str | None = None

    def __post_init__(self) -> None:
        if self.method not in LEARNING_RATES:
            raise ConfigError(f"unknown training method {self.method!r}", hint="lora or full")
        self.check()

    @property
    def rate(self) -> float:
        """The learning rate, that of the method where none is given."""
        return LEARNING_RATES[self.method] if self.learning_rate is None else self.learning_rate


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How far a training is. `examples` are those seen by this process, in `seconds`; `loss` and
    `validation_loss` are the last ones, in nats per token of the answers. `chosen` and `rejected` are the mean
    log-probabilities per token of the held-out pairs' answers, where preferences are learned."""

    step: int
    steps: int
    examples: int = 0
    seconds: float = 0.0
    loss: float | None = None
    validation_loss: float | None = None
    resumed_at: int = 0
    chosen: float | None = None
    rejected: float | None = None

    @property
    def rate(self) -> float | None:
        """Examples per second."""
        return self.examples / self.seconds if self.examples and self.seconds else None

    @property
    def eta(self) -> float | None:
        """Seconds to go, if every step is to be taken."""
        done = self.step - self.resumed_at
        return (self.steps - self.step) * self.seconds / done if done > 0 else None
