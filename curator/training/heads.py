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
from curator.training.supervision import Floats, check_supervision, check_targets, split, strata

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scaling:
    """Mean (d,) and spread (d,) of the features that a head was trained on: it learns on standardised ones."""

    mean: Features
    spread: Features

    @classmethod
    def of(cls, features: Features) -> Scaling:
        """The scaling that these features (n, d) need."""
        return cls(features.mean(axis=0), np.maximum(features.std(axis=0), 1e-6))

    def apply(self, features: Features) -> Features:
        """Features (n, d) with mean 0 and spread 1."""
        scaled: Features = (features - self.mean) / self.spread
        return scaled

    def fold(self, weight: Floats, bias: Floats) -> LinearHead:
        """A head on standardised features as one on the features themselves."""
        folded = weight / self.spread
        return LinearHead(folded.astype(np.float32), (bias - folded @ self.mean).astype(np.float32))


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """A head and its training figures, all taken on weak labels: `rows`, `epochs` (run), `best_epoch` (from 1),
    `train_loss`, `validation_rows`, and where there are some `validation_loss` and `validation_agreement`.
    `scaling` is what a head on frozen features was trained under; training it further needs it."""

    linear: LinearHead
    metrics: dict[str, float]
    scaling: Scaling | None = None

    def probabilities(self, features: Features) -> Floats:
        """Probability (n, k) of every option."""
        found: Floats = np.exp(self.linear.logprobs(features))
        return found


def train_head(
    features: Features,
    targets: Floats,
    weights: Floats,
    settings: HeadSettings | None = None,
    start: TrainedHead | None = None,
) -> TrainedHead:
    """Train a linear head on features (n, d), soft targets (n, k) and weights (n,).

    Zero-initialised, on features standardised by the training rows (folded back into the head). The same input and
    seed give the same head. With a `start` the training goes on from there, under its scaling: only what is added to
    it is learnt, and weight decay pulls towards it (L2-SP, arXiv 1802.01483), so that a handful of rows of some of the
    classes is enough.

    Raises: InputError for labels that cannot be learnt from, or a `start` of another shape; TrainingError if the
    loss is not finite.
    """
    settings = settings or HeadSettings()
    _check(features, targets, weights, start)
    train, held = split(strata([targets], [weights]), settings.validation, settings.seed)
    scaling = (start.scaling if start else None) or Scaling.of(features[train])
    offset = start.linear.logprobs(features) if start else np.zeros(targets.shape)
    data = _Data.of(scaling.apply(features), targets, weights, offset)
    weight, bias, metrics = _fit(data.rows(train), data.rows(held), settings)
    learnt = scaling.fold(weight, bias)
    if start:
        learnt = LinearHead(learnt.weight + start.linear.weight, learnt.bias + start.linear.bias)
    return TrainedHead(learnt, metrics, scaling)


def _check(features: Features, targets: Floats, weights: Floats, start: TrainedHead | None) -> None:
    if start is None:
        labels = [str(option) for option in range(targets.shape[1])] if targets.ndim == 2 else []
        check_supervision(len(features), targets, weights, labels)
    else:
        check_targets(len(features), targets, weights, len(start.linear.bias))
        if not (weights > 0).any():
            raise InputError("no row has a label to go on with", hint="keep the head as it is")
    if features.ndim != 2 or not np.isfinite(features).all():
        raise InputError(f"features must be finite and (rows, width), not {features.shape}")
    if start is not None and features.shape[1] != start.linear.weight.shape[1]:
        raise InputError(
            f"the head to go on from reads {start.linear.weight.shape[1]} features, these are {features.shape[1]}",
            hint="use the encoder that it was trained on",
        )


@dataclass(frozen=True, slots=True)
class _Data:
    """`offset` (n, k) are the logits that training begins with."""

    features: Tensor
    targets: Tensor
    weights: Tensor
    offset: Tensor

    @staticmethod
    def of(features: Features, *others: Floats) -> _Data:
        return _Data(*(torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in (features, *others)))

    def rows(self, places: NDArray[np.int64] | Tensor) -> _Data:
        chosen = torch.as_tensor(places)
        return _Data(self.features[chosen], self.targets[chosen], self.weights[chosen], self.offset[chosen])

    def logits(self, head: torch.nn.Linear) -> Tensor:
        result: Tensor = head(self.features) + self.offset
        return result

    def loss(self, head: torch.nn.Linear, loss: Loss) -> Tensor:
        return loss(self.logits(head), self.targets, self.weights)


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
        metrics |= validation_metrics(held.logits(head), held.targets, held.weights)
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
