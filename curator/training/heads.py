"""A linear head on frozen features: minutes on a CPU, the default way to train a classifier."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curator.engines.heads import LinearHead
from curator.errors import InputError, TrainingError
from curator.training.head_settings import HeadSettings
from curator.training.losses import Loss, xent
from curator.training.supervision import Floats, check_supervision, split, strata

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """A head and its training figures, all taken on weak labels: `rows`, `epochs` (run), `best_epoch` (from 1),
    `train_loss`, `validation_rows`, and where there are some `validation_loss` and `validation_agreement`."""

    linear: LinearHead
    metrics: dict[str, float]


def train_head(
    features: Features, targets: Floats, weights: Floats, settings: HeadSettings | None = None
) -> TrainedHead:
    """Train a linear head on features (n, d), soft targets (n, k) and weights (n,).

    Zero-initialised, on features standardised by the training rows (folded back into the head). The same input and
    seed give the same head.

    Raises: InputError for labels that cannot be learnt from; TrainingError if the loss is not finite.
    """
    settings = settings or HeadSettings()
    labels = [str(option) for option in range(targets.shape[1])] if targets.ndim == 2 else []
    check_supervision(len(features), targets, weights, labels)
    if features.ndim != 2 or not np.isfinite(features).all():
        raise InputError(f"features must be finite and (rows, width), not {features.shape}")
    train, held = split(strata([targets], [weights]), settings.validation, settings.seed)
    mean = features[train].mean(axis=0)
    scale = np.maximum(features[train].std(axis=0), 1e-6)
    data = _Data.of((features - mean) / scale, targets, weights)
    weight, bias, metrics = _fit(data.rows(train), data.rows(held), settings)
    folded = weight / scale
    return TrainedHead(LinearHead(folded.astype(np.float32), (bias - folded @ mean).astype(np.float32)), metrics)


@dataclass(frozen=True, slots=True)
class _Data:
    features: Tensor
    targets: Tensor
    weights: Tensor

    @staticmethod
    def of(features: Features, targets: Floats, weights: Floats) -> _Data:
        return _Data(*(torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in (features, targets, weights)))

    def rows(self, places: NDArray[np.int64] | Tensor) -> _Data:
        chosen = torch.as_tensor(places)
        return _Data(self.features[chosen], self.targets[chosen], self.weights[chosen])

    def loss(self, head: torch.nn.Linear, loss: Loss) -> Tensor:
        result: Tensor = loss(head(self.features), self.targets, self.weights)
        return result


def _fit(train: _Data, held: _Data, settings: HeadSettings) -> tuple[Floats, Floats, dict[str, float]]:
    """The best epoch's weight (k, d) and bias (k,), and the metrics."""
    head = zero_linear(train.features.shape[1], train.targets.shape[1])
    count = len(train.weights)
    steps = settings.epochs * math.ceil(count / settings.batch_size)
    optimizer = torch.optim.AdamW(head.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(settings.seed)
    stopper, step = Stopper(settings.patience), 0
    for epoch in range(settings.epochs):
        for places in torch.split(torch.randperm(count, generator=generator), settings.batch_size):
            loss = train.rows(places).loss(head, settings.loss.at(step, steps))
            finite(loss.item(), step)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            step += 1
        judged = held if len(held.weights) else train
        with torch.no_grad():
            value = finite(judged.loss(head, xent).item(), step)
        if stopper.better(epoch, value):
            best = [parameter.detach().clone() for parameter in head.parameters()]
        if stopper.stop(epoch):
            break
    with torch.no_grad():
        for parameter, kept in zip(head.parameters(), best, strict=True):
            parameter.copy_(kept)
        metrics: dict[str, float] = {"rows": count, "epochs": epoch + 1, "best_epoch": stopper.best_epoch + 1}
        metrics["train_loss"] = train.loss(head, xent).item()
        metrics |= validation_metrics(head(held.features), held.targets, held.weights)
    return head.weight.detach().double().numpy(), head.bias.detach().double().numpy(), metrics


def validation_metrics(logits: Tensor, targets: Tensor, weights: Tensor) -> dict[str, float]:
    """Loss and agreement with weak labels on held-out rows; the number of rows alone where there are none."""
    found: dict[str, float] = {"validation_rows": len(weights)}
    if len(weights):
        same = (logits.argmax(-1) == targets.argmax(-1)).float()
        found["validation_loss"] = xent(logits, targets, weights).item()
        found["validation_agreement"] = ((same * weights).sum() / weights.sum()).item()
    return found


def zero_linear(width: int, options: int) -> torch.nn.Linear:
    """A linear layer that begins by finding all options equally likely."""
    with torch.random.fork_rng(devices=[]):
        head = torch.nn.Linear(width, options)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
    return head


@dataclass(slots=True)
class Stopper:
    """Early stopping: epochs are counted from 0, values are losses."""

    patience: int
    best: float = math.inf
    best_epoch: int = -1

    def better(self, epoch: int, value: float) -> bool:
        """Whether `value` is the best so far; it is noted then."""
        if value < self.best:
            self.best, self.best_epoch = value, epoch
            return True
        return False

    def stop(self, epoch: int) -> bool:
        return epoch - self.best_epoch >= self.patience


def finite(loss: float, step: int) -> float:
    """Raises: TrainingError for a loss that is NaN or infinite."""
    if math.isfinite(loss):
        return loss
    raise TrainingError(
        f"the loss is {loss} at step {step}", hint="lower the learning rate; in float16 use float32 or bfloat16"
    )
