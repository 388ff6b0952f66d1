"""curator/training/estimate.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")

from curator.engines.torch_model import read_model
from curator.training import estimate
from curator.training.estimate import parameters, training_seconds
from curator.training.preference_settings import DPOSettings


def test_the_weights_are_counted_from_the_headers(tiny_model):
    import torch

    assert parameters(tiny_model) == sum(p.numel() for p in read_model(tiny_model, torch.float32).parameters())


def test_the_time_grows_with_the_tokens_and_recomputing(tiny_model, monkeypatch):
    monkeypatch.setattr(estimate, "_speed", lambda dtype, device: 1e9)
    settings = DPOSettings()
    one = training_seconds(tiny_model, settings, 1000, 0)
    assert training_seconds(tiny_model, settings, 2000, 0) == pytest.approx(2 * one)
    assert training_seconds(tiny_model, settings, 0, 1000) == pytest.approx(one / 2)
    assert training_seconds(tiny_model, replace(settings, checkpointing=True), 1000, 0) == pytest.approx(1.5 * one)


def test_the_speed_of_this_machine_is_measured(tiny_model):
    assert training_seconds(tiny_model, DPOSettings(dtype="float32"), 1000, 0) > 0
