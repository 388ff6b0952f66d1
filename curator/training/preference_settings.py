"""How preferences are learned. Loads nothing heavy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from curator.errors import ConfigError
from curator.training.settings import Schedule

PreferenceMethod = Literal["dpo", "orpo"]
PREFERENCE_RATES: dict[PreferenceMethod, float] = {"dpo": 1e-5, "orpo": 8e-5}
"""Ten times what is usual for all weights, as adapters need: 1e-6 for DPO (TRL's default), 8e-6 for ORPO (arXiv
2403.07691)."""


@dataclass(frozen=True, slots=True)
class DPOSettings(Schedule):
    """How to train on preference pairs. An adapter of rank `rank` on every linear projection is trained.

    `dpo` (arXiv 2305.18290) raises the chosen answer above the rejected one, measured against the model that it started
    from; `beta` is how closely it stays there. `nll_weight` times the negative log-likelihood per token of the chosen
    answers is added (arXiv 2404.19733), since plain DPO lowers the chosen answers too, only less. `orpo` (arXiv
    2403.07691) has no reference: it learns the chosen answers and adds `beta` times the log odds ratio; its
    `nll_weight` is 1. `adapter` is one to go on with, such as that of Stage I; the reference is then the base with it.

    Where the mean log-probability per token of the held-out chosen answers falls by more than `most_fall` nats below
    its start, an alarm is raised: `on_fall` `stop` ends the training and keeps the best state from before, `warn` goes
    on. All else is as in `SFTSettings`; `micro_batch` counts pairs, which are two sequences each.

    Raises: ConfigError for a value that makes no sense.
    """

    method: PreferenceMethod = "dpo"
    epochs: int = 1
    learning_rate: float | None = None
    beta: float = 0.1
    nll_weight: float = 1.0
    adapter: str | None = None
    most_fall: float = 0.1
    on_fall: Literal["stop", "warn"] = "stop"
    batch_size: int = 16
    micro_batch: int = 2
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
        if self.method not in PREFERENCE_RATES:
            raise ConfigError(f"unknown training method {self.method!r}", hint="dpo or orpo")
        if self.on_fall not in ("stop", "warn"):
            raise ConfigError(f"on_fall is {self.on_fall!r}", hint="stop or warn")
        for name, least in (("beta", 0.0), ("most_fall", 0.0), ("nll_weight", -1e-9)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > least):
                raise ConfigError(f"{name} is {value}; it must be {'0 or more' if least else 'above 0'}")
        if self.method == "orpo" and self.nll_weight != 1:
            raise ConfigError(f"nll_weight is {self.nll_weight}; ORPO's is 1", hint="weigh the odds ratio with beta")
        self.check()

    @property
    def rate(self) -> float:
        """The learning rate, that of the method where none is given."""
        return PREFERENCE_RATES[self.method] if self.learning_rate is None else self.learning_rate
