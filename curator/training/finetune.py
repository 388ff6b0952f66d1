"""Fine-tuning an encoder together with its heads, fully or with LoRA; resumes after a kill.

The order of rows depends on seed and epoch only, and dropout is off, so a run that was killed and went on ends
where an uninterrupted one does.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import orjson
import torch
from torch import Tensor

from curator.engines.encoder import Encoder
from curator.engines.heads import PARTS, LinearHead
from curator.errors import ConfigError
from curator.training.head_settings import TuneSettings
from curator.training.heads import Stopper, TrainedHead, finite, validation_metrics, zero_linear
from curator.training.lora import add_lora, save_part
from curator.training.losses import Loss, xent
from curator.training.supervision import Supervision, split, strata
from curator.training.tune_state import Checkpoint, Checkpoints, State

log = logging.getLogger(__name__)

Rows = list[int]
Output = tuple[Tensor, Tensor, Tensor]
"""Per field and batch: logits (b, k), targets (b, k), weights (b,)."""

EVALUATED = 64
"""Rows that are validated at once: no gradients, so more fit than while training."""


@dataclass(frozen=True, slots=True)
class _Field:
    """Token rows, targets (n, k), weights (n,) and the head of one field."""

    rows: list[list[int]]
    targets: Tensor
    weights: Tensor
    head: torch.nn.Linear


@dataclass(frozen=True, slots=True)
class Tuned:
    """The heads, the fingerprint of the tuned encoder beside them, and `done`, which lets go of the checkpoint."""

    heads: list[TrainedHead]
    fingerprint: str
    done: Callable[[], None]


def tune(
    encoder: Encoder, texts: Sequence[str], fields: Sequence[Supervision], folder: Path, settings: TuneSettings
) -> Tuned:
    """Train a copy of `encoder` and a head per field, and save the tuned part to `folder`; `fields` are checked.

    Raises: TrainingError, ConfigError, WeightsError, MissingExtraError (LoRA needs peft).
    """
    if settings.method == "full" and encoder.identity.dtype != "float32":
        raise ConfigError(
            f"full tuning in {encoder.identity.dtype} loses small updates", hint="dtype='float32', or LoRA"
        )
    checkpoints = Checkpoints(folder, _run_name(encoder, texts, fields, settings))
    state = checkpoints.load()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        run = _Run(encoder.fresh(), texts, fields, settings)
        run.train(checkpoints, state)
    heads = run.trained()
    return Tuned(heads, save_part(run.encoder, folder / PARTS[settings.method]), checkpoints.delete)


def _run_name(encoder: Encoder, texts: Sequence[str], fields: Sequence[Supervision], settings: TuneSettings) -> str:
    parts = [encoder.identity.key, asdict(settings), list(texts), [item.digest for item in fields]]
    return hashlib.blake2b(orjson.dumps(parts), digest_size=16).hexdigest()


class _Run:
    """One training. The texts of fields without a template are the same, and are encoded once per step."""

    def __init__(
        self, encoder: Encoder, texts: Sequence[str], fields: Sequence[Supervision], settings: TuneSettings
    ) -> None:
        self.encoder, self._settings = encoder, settings
        if settings.method == "lora":
            add_lora(encoder, settings.lora_rank)
        device = next(encoder.model.parameters()).device
        inputs = _inputs(encoder, texts, fields)
        self._fields = [
            _Field(
                rows,
                torch.as_tensor(item.targets, dtype=torch.float32, device=device),
                torch.as_tensor(item.weights, dtype=torch.float32, device=device),
                zero_linear(encoder.width, len(item.question.options)).to(device),
            )
            for item, rows in zip(fields, inputs, strict=True)
        ]
        groups = strata([item.targets for item in fields], [item.weights for item in fields])
        self._train, self._held = split(groups, settings.validation, settings.seed)
        self._per_epoch = math.ceil(len(self._train) / settings.batch_size)
        tuned = [parameter for parameter in encoder.model.parameters() if parameter.requires_grad]
        own = [parameter for item in self._fields for parameter in item.head.parameters()]
        self._parameters = [*tuned, *own]
        self._rates = (settings.rate, settings.head_learning_rate)
        self._optimizer = torch.optim.AdamW([{"params": tuned}, {"params": own}], weight_decay=settings.weight_decay)
        self._stopper, self._best, self._epochs = Stopper(settings.patience), State(), 0

    def train(self, checkpoints: Checkpoints, state: Checkpoint | None) -> None:
        """Run to the end from `state`, then take the best epoch's parameters."""
        step = self._restore(state) if state else 0
        while step < self._settings.epochs * self._per_epoch and not self._stopped(step):
            epoch, batch = divmod(step, self._per_epoch)
            start = batch * self._settings.batch_size
            self._step(step, self._order(epoch)[start : start + self._settings.batch_size])
            step += 1
            if ended := step % self._per_epoch == 0:
                self._end_epoch(epoch, step)
            if ended or step % self._settings.checkpoint_steps == 0:
                checkpoints.save(self._checkpoint(checkpoints.run, step))
        self._epochs = step // self._per_epoch
        self._put(self._best)

    def trained(self) -> list[TrainedHead]:
        """The heads, with their metrics on held-out rows."""
        common = {"rows": len(self._train), "epochs": self._epochs, "best_epoch": self._stopper.best_epoch + 1}
        found = []
        for item, (logits, targets, weights) in zip(self._fields, self._evaluate(self._held.tolist()), strict=True):
            linear = LinearHead(item.head.weight.detach().cpu().numpy(), item.head.bias.detach().cpu().numpy())
            used = weights > 0
            metrics = validation_metrics(logits[used], targets[used], weights[used])
            found.append(TrainedHead(linear, common | metrics))
        return found

    def _stopped(self, step: int) -> bool:
        epochs, inside = divmod(step, self._per_epoch)
        return inside == 0 and epochs > 0 and self._stopper.stop(epochs - 1)

    def _order(self, epoch: int) -> Rows:
        rows: Rows = np.random.default_rng((self._settings.seed, epoch)).permutation(self._train).tolist()
        return rows

    def _step(self, step: int, places: Rows) -> None:
        steps = self._settings.epochs * self._per_epoch
        loss = _mean_loss(self._forward(places), self._settings.loss.at(step, steps))
        finite(loss.item(), step)
        decay = 0.5 * (1 + math.cos(math.pi * step / steps))
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * decay
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()

    def _end_epoch(self, epoch: int, step: int) -> None:
        judged = self._held if len(self._held) else self._train
        loss = finite(_mean_loss(self._evaluate(judged.tolist()), xent).item(), step)
        log.info("epoch %d: validation loss %.4f", epoch + 1, loss)
        if self._stopper.better(epoch, loss):
            self._best = self._take()

    def _forward(self, places: Rows) -> list[Output]:
        features: dict[int, Tensor] = {}
        found = []
        for item in self._fields:
            if id(item.rows) not in features:
                features[id(item.rows)] = self.encoder.forward([item.rows[place] for place in places]).float()
            found.append((item.head(features[id(item.rows)]), item.targets[places], item.weights[places]))
        return found

    @torch.no_grad()
    def _evaluate(self, places: Rows) -> list[Output]:
        """As `_forward`, for any number of rows."""
        parts = [self._forward(places[start : start + EVALUATED]) for start in range(0, len(places), EVALUATED)]
        if not parts:
            return [(item.targets[:0], item.targets[:0], item.weights[:0]) for item in self._fields]
        joined = []
        for column in zip(*parts, strict=True):
            logits, targets, weights = (torch.cat(pieces) for pieces in zip(*column, strict=True))
            joined.append((logits, targets, weights))
        return joined

    def _checkpoint(self, run: str, step: int) -> Checkpoint:
        stopper, state = self._stopper, self._optimizer.state_dict()
        return Checkpoint(run, step, self._take(), state, self._best, stopper.best, stopper.best_epoch)

    def _restore(self, state: Checkpoint) -> int:
        self._put(state.parameters)
        self._optimizer.load_state_dict(state.optimizer)
        self._best, self._stopper.best, self._stopper.best_epoch = state.best, state.best_loss, state.best_epoch
        return state.step

    def _take(self) -> State:
        return [tensor.detach().cpu().clone() for tensor in self._parameters]

    @torch.no_grad()
    def _put(self, state: State) -> None:
        for tensor, kept in zip(self._parameters, state, strict=True):
            tensor.copy_(kept)


def _mean_loss(outputs: Sequence[Output], loss: Loss) -> Tensor:
    """Mean over the fields, each over its labelled rows; a field that has none in the batch costs nothing."""
    losses = []
    for logits, targets, weights in outputs:
        used = weights > 0
        losses.append(loss(logits[used], targets[used], weights[used]) if used.any() else logits.sum() * 0)
    return torch.stack(losses).mean()


def _inputs(encoder: Encoder, texts: Sequence[str], fields: Sequence[Supervision]) -> list[list[list[int]]]:
    """Token rows per field; fields without a template share one list."""
    shared: list[list[int]] = encoder.tokenize(texts) if any(item.template is None for item in fields) else []
    return [
        shared if item.template is None else encoder.tokenize(encoder.render(texts, item.question, item.template))
        for item in fields
    ]
