"""curator/training/trainer.py: what a weight does to the loss."""

from __future__ import annotations

import pytest

pytest.importorskip("trl")

import threading

import torch
from training_builders import FAST, TASK, rows, training_set

from curator.engines.torch_model import load_prompter
from curator.training.checkpoints import Checkpoints
from curator.training.examples import Split, build
from curator.training.loop import _trainer
from curator.training.trainer import Watch


@pytest.fixture
def trainer(tiny_model, tmp_path, recwarn):
    data = training_set(tmp_path / "s.duckdb", rows(24))
    examples = build(TASK, data.rows(), load_prompter(tiny_model, None), Split(0.1, 0, 512))
    watch = Watch(FAST, threading.Event(), None)
    return _trainer(tiny_model, examples, FAST, Checkpoints(tmp_path / "c", {}), watch)


def loss_and_gradient(trainer, weights: list[float]) -> tuple[float, torch.Tensor]:
    """Of the first two examples under these weights; 10 tokens in the whole step."""
    first = [trainer.train_dataset[i] for i in range(2)]
    batch = trainer.data_collator([{**row, "weight": weight} for row, weight in zip(first, weights, strict=True)])
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=torch.tensor(10))
    loss.backward()
    found = [p.grad.flatten() for p in trainer.model.parameters() if p.requires_grad and p.grad is not None]
    return loss.item(), torch.cat(found)


def test_the_loss_and_its_gradient_are_the_weighted_sum_of_the_examples(trainer):
    one, other = loss_and_gradient(trainer, [1, 0]), loss_and_gradient(trainer, [0, 1])
    both = loss_and_gradient(trainer, [2, 0.5])
    assert one[0] != pytest.approx(other[0])
    assert both[0] == pytest.approx(2 * one[0] + 0.5 * other[0], rel=1e-5)
    torch.testing.assert_close(both[1], 2 * one[1] + 0.5 * other[1], rtol=1e-3, atol=1e-6)
    nothing = loss_and_gradient(trainer, [0, 0])
    assert nothing[0] == 0
    assert not nothing[1].any()
