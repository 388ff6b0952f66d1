"""curator/training/preference_trainer.py: the losses, against what they are defined as."""

from __future__ import annotations

import pytest

pytest.importorskip("trl")

import json
import math
import threading
import types
from dataclasses import replace

import torch
from pair_builders import QUICK, pair_set
from transformers import TrainerState

from curator.engines.torch_model import load_prompter
from curator.training.checkpoints import Checkpoints
from curator.training.examples import Split
from curator.training.pairs import build_pairs
from curator.training.preference_loop import _trainer
from curator.training.preference_trainer import Guard, fall, odds_ratio_loss


def trainer_of(tiny_model, tmp_path, settings=QUICK):
    pairs = build_pairs(pair_set(tmp_path / "s.duckdb").pairs(), load_prompter(tiny_model, None), Split(0.25, 0, 512))
    checkpoints = Checkpoints(tmp_path / "c", {})
    checkpoints.begin()
    guard = Guard(settings, threading.Event(), None)
    trainer = _trainer(tiny_model, pairs, settings, checkpoints, guard)
    trainer.measure(checkpoints, threading.Event())
    return trainer


def logps(trainer) -> torch.Tensor:
    """(chosen, rejected) x 2 pairs: summed log-probabilities, computed from the logits."""
    found = []
    for row in [trainer.train_dataset[i] for i in range(2)]:
        for side in ("chosen_ids", "rejected_ids"):
            ids = torch.tensor([row["prompt_ids"] + row[side]])
            with torch.no_grad():
                scores = trainer.model(input_ids=ids).logits.float().log_softmax(-1)[0, :-1]
            told = scores.gather(1, ids[0, 1:, None])[:, 0]
            found.append(told[len(row["prompt_ids"]) - 1 :].sum())
    return torch.stack(found).view(2, 2)


def loss(trainer) -> float:
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(2)])
    return trainer.compute_loss(trainer.model, batch).item()


def lengths(trainer, side: str) -> torch.Tensor:
    return torch.tensor([float(len(trainer.train_dataset[i][side])) for i in range(2)])


def test_before_any_step_dpo_is_log_2_and_the_likelihood_of_the_chosen_answers(tiny_model, tmp_path):
    trainer = trainer_of(tiny_model, tmp_path, replace(QUICK, nll_weight=0.5))
    known = logps(trainer)
    reference = torch.tensor([trainer.train_dataset[i]["ref_chosen_logps"] for i in range(2)])
    torch.testing.assert_close(known[:, 0], reference, rtol=1e-4, atol=1e-3)
    nll = -known[:, 0].sum() / lengths(trainer, "chosen_ids").sum()
    assert loss(trainer) == pytest.approx(math.log(2) + 0.5 * nll.item(), rel=1e-4)


def test_orpo_is_what_trls_own_trainer_calls_it(tiny_model, tmp_path):
    from trl.experimental.orpo import ORPOTrainer

    trainer = trainer_of(tiny_model, tmp_path, replace(QUICK, method="orpo", beta=0.3))
    known = logps(trainer)
    chosen, rejected = known[:, 0] / lengths(trainer, "chosen_ids"), known[:, 1] / lengths(trainer, "rejected_ids")
    stand_in = types.SimpleNamespace(beta=0.3, accelerator=trainer.accelerator)
    ratio = ORPOTrainer.odds_ratio_loss(stand_in, chosen, rejected)[0]
    assert loss(trainer) == pytest.approx((-chosen - ratio).mean().item(), rel=1e-4)
    assert not (tmp_path / "c" / "reference.json").exists()


def test_a_model_that_is_sure_of_every_token_has_a_finite_loss():
    certain = torch.zeros(1, requires_grad=True)
    found = odds_ratio_loss(certain, torch.tensor([-1.0]), 0.1)
    found.sum().backward()
    assert found.isfinite().all()
    assert certain.grad.isfinite().all()


def test_log_probabilities_are_means_over_the_pairs_and_their_tokens(tiny_model, tmp_path):
    trainer = trainer_of(tiny_model, tmp_path)
    loss(trainer)
    noted = trainer._metrics["eval"]
    expected = logps(trainer)[:, 0] / lengths(trainer, "chosen_ids")
    assert noted["logps_per_token/chosen"] == pytest.approx(expected.tolist(), rel=1e-3)
    assert len(noted["pairs_in_order"]) == 2


def test_the_reference_is_computed_once(tiny_model, tmp_path):
    trainer = trainer_of(tiny_model, tmp_path)
    columns = ["prompt_ids", "chosen_ids", "rejected_ids"]
    trainer.train_dataset = trainer.train_dataset.select_columns(columns)
    trainer.eval_dataset = trainer.eval_dataset.select_columns(columns)
    known = {"train": [[-1.0, -2.0]] * 12, "validation": [[-3.0, -4.0]] * 4}
    (tmp_path / "c" / "reference.json").write_text(json.dumps(known))
    trainer.measure(trainer.checkpoints, threading.Event())
    assert trainer.train_dataset[0]["ref_rejected_logps"] == -2.0
    assert trainer.eval_dataset[0]["ref_chosen_logps"] == -3.0


def test_the_fall_is_measured_from_the_start():
    state = TrainerState()
    assert fall(state) == 0
    name = "eval_logps_per_token/chosen"
    state.log_history = [{name: -1.0}, {"loss": 1.0}, {name: -0.5}, {name: -1.25}]
    assert fall(state) == 0.25
