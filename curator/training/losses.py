"""Losses for learning from weak labels.

All take logits (b, k), soft targets (b, k) whose rows sum to 1, and sample weights (b,) that are 0 or more, and
return the weighted mean over the batch, a scalar in nats. Targets and weights carry no gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from curator.errors import ConfigError

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
LossName = Literal["xent", "kd", "logconf", "reverse_kl", "gce"]

FLOOR = 1e-4
"""Least probability of a target whose logarithm is taken: a hard label's zeros would make `reverse_kl` infinite."""


@dataclass(frozen=True, slots=True)
class LossSettings:
    """Which loss, and its knobs.

    `temperature` is that of `kd`; `strength` and `warmup` are those of `logconf`: the share of the student's own
    hardened predictions at full strength, and the share of the steps over which it grows; `q` is that of `gce`
    (near 0 cross-entropy, 1 mean absolute error).
    Raises: ConfigError for values outside their range.
    """

    name: LossName = "xent"
    temperature: float = 2.0
    strength: float = 0.5
    warmup: float = 0.2
    q: float = 0.7

    def __post_init__(self) -> None:
        if self.name not in ("xent", "kd", "logconf", "reverse_kl", "gce"):
            raise ConfigError(f"no loss is called {self.name!r}", hint="xent, kd, logconf, reverse_kl or gce")
        if self.temperature <= 0 or not 0 < self.q <= 1 or not 0 <= self.strength <= 1 or not 0 <= self.warmup <= 1:
            raise ConfigError(
                f"loss settings out of range: {self}",
                hint="temperature > 0, q in (0, 1], strength and warmup in [0, 1]",
            )

    def at(self, step: int, steps: int) -> Loss:
        """The loss at `step` (from 0) of `steps`."""
        if self.name == "kd":
            return lambda logits, targets, weights: kd(logits, targets, weights, self.temperature)
        if self.name == "logconf":
            strength = warmed(self.strength, step, self.warmup * steps)
            return lambda logits, targets, weights: logconf(logits, targets, weights, strength)
        if self.name == "gce":
            return lambda logits, targets, weights: gce(logits, targets, weights, self.q)
        return reverse_kl if self.name == "reverse_kl" else xent


def xent(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy with soft targets: -sum_c t_c log p_c."""
    return _mean(-(targets * logits.log_softmax(-1)).sum(-1), weights)


def kd(logits: Tensor, targets: Tensor, weights: Tensor, temperature: float = 2.0) -> Tensor:
    """KL(t' || p') at a temperature, times its square so that gradients keep their size (Hinton et al. 2015).

    Of the weak labels only probabilities are known: t' is t^(1/T), normalised, which is what tempering their
    logits gives.
    """
    softened = (targets.clamp_min(1e-12).log() / temperature).log_softmax(-1)
    student = (logits / temperature).log_softmax(-1)
    return _mean((softened.exp() * (softened - student)).sum(-1), weights) * temperature**2


def logconf(logits: Tensor, targets: Tensor, weights: Tensor, strength: float) -> Tensor:
    """Cross-entropy with (1 - c) t + c h, h being the student's own predictions, hardened (Burns et al.,
    arXiv 2312.09390, there for two classes). No gradient flows through h."""
    prior = (targets * weights.unsqueeze(-1)).sum(0) / weights.sum().clamp_min(1e-12)
    own = torch.nn.functional.one_hot(harden(logits, prior), logits.shape[-1]).to(targets.dtype)
    return xent(logits, (1 - strength) * targets + strength * own, weights)


def reverse_kl(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """KL(p || t): mode seeking, so mass that the weak labels spread over wrong classes is not imitated
    (arXiv 2502.11107)."""
    student = logits.log_softmax(-1)
    floored = targets.clamp_min(FLOOR)
    weak = (floored / floored.sum(-1, keepdim=True)).log()
    return _mean((student.exp() * (student - weak)).sum(-1), weights)


def gce(logits: Tensor, targets: Tensor, weights: Tensor, q: float = 0.7) -> Tensor:
    """Generalised cross-entropy, sum_c t_c (1 - p_c^q) / q (Zhang & Sabuncu 2018, with soft targets)."""
    powers = (logits.log_softmax(-1) * q).exp()
    return _mean((targets * (1 - powers) / q).sum(-1), weights)


def warmed(strength: float, step: int, warmup: float) -> float:
    """strength * min(1, step / warmup). The published code jumps to full strength after the first step."""
    return strength * min(1.0, step / warmup) if warmup > 0 else strength


@torch.no_grad()
def harden(logits: Tensor, prior: Tensor) -> Tensor:
    """Classes (b,) so that class c is given to about b * prior[c] rows, the most confident (row, class) pairs first.

    With two classes this is the threshold at the batch quantile that matches the prior; an argmax instead lets the
    majority class eat the others.
    """
    rows, classes = logits.shape
    left = quotas(prior, rows)
    chosen = [-1] * rows
    for pair in logits.softmax(-1).flatten().argsort(descending=True, stable=True).tolist():
        row, option = divmod(pair, classes)
        if chosen[row] < 0 and left[option]:
            chosen[row] = option
            left[option] -= 1
    return torch.tensor(chosen, device=logits.device)


def quotas(prior: Tensor, rows: int) -> list[int]:
    """How many of `rows` each class gets: rows * prior, rounded by largest remainders, so that they sum to rows."""
    share = (prior / prior.sum()).double() * rows
    counts = share.floor()
    rest = rows - int(counts.sum())
    counts[(share - counts).argsort(descending=True, stable=True)[:rest]] += 1
    return [int(count) for count in counts]


def _mean(losses: Tensor, weights: Tensor) -> Tensor:
    return (losses * weights).sum() / weights.sum().clamp_min(1e-12)
