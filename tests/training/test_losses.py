"""Losses against values computed by hand, and gradients against finite differences."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")

from curator.errors import ConfigError  # noqa: E402
from curator.training.losses import (  # noqa: E402
    FLOOR,
    LossSettings,
    gce,
    harden,
    kd,
    logconf,
    quotas,
    reverse_kl,
    warmed,
    xent,
)

LOGITS = torch.log(torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]], dtype=torch.float64)) + 3.0
TARGETS = torch.tensor([[0.6, 0.3, 0.1], [0.0, 1.0, 0.0]], dtype=torch.float64)
WEIGHTS = torch.tensor([1.0, 3.0], dtype=torch.float64)


def mean(first: float, second: float) -> float:
    return (1.0 * first + 3.0 * second) / 4.0


def test_cross_entropy():
    first = -(0.6 * math.log(0.7) + 0.3 * math.log(0.2) + 0.1 * math.log(0.1))
    assert xent(LOGITS, TARGETS, WEIGHTS).item() == pytest.approx(mean(first, math.log(2)))


def test_distillation_tempers_both_sides():
    logits, targets = torch.log(torch.tensor([[0.5, 0.5]])), torch.tensor([[0.9, 0.1]])
    weak, student = math.sqrt(0.9) / (math.sqrt(0.9) + math.sqrt(0.1)), 0.5
    expected = 4 * (weak * math.log(weak / student) + (1 - weak) * math.log((1 - weak) / student))
    assert kd(logits, targets, torch.ones(1), 2.0).item() == pytest.approx(expected, rel=1e-5)
    assert weak == pytest.approx(0.75)


def test_distillation_at_temperature_one_is_cross_entropy_less_the_targets_entropy():
    entropy = -(TARGETS * TARGETS.clamp_min(1e-300).log()).sum(-1)
    expected = xent(LOGITS, TARGETS, WEIGHTS) - (entropy * WEIGHTS).sum() / 4
    assert kd(LOGITS, TARGETS, WEIGHTS, 1.0).item() == pytest.approx(expected.item(), abs=1e-9)


def test_reverse_kl():
    first = 0.7 * math.log(0.7 / 0.6) + 0.2 * math.log(0.2 / 0.3) + 0.1 * math.log(0.1 / 0.1)
    total = 1 + 2 * FLOOR
    second = 0.5 * math.log(0.5 * total) + 2 * 0.25 * math.log(0.25 * total / FLOOR)
    assert reverse_kl(LOGITS, TARGETS, WEIGHTS).item() == pytest.approx(mean(first, second))


def test_generalised_cross_entropy():
    q = 0.7
    first = (0.6 * (1 - 0.7**q) + 0.3 * (1 - 0.2**q) + 0.1 * (1 - 0.1**q)) / q
    assert gce(LOGITS, TARGETS, WEIGHTS, q).item() == pytest.approx(mean(first, (1 - 0.5**q) / q))


def test_generalised_cross_entropy_lies_between_cross_entropy_and_absolute_error():
    assert gce(LOGITS, TARGETS, WEIGHTS, 1e-6).item() == pytest.approx(xent(LOGITS, TARGETS, WEIGHTS).item(), rel=1e-4)
    absolute = mean(0.6 * 0.3 + 0.3 * 0.8 + 0.1 * 0.9, 0.5)
    assert gce(LOGITS, TARGETS, WEIGHTS, 1.0).item() == pytest.approx(absolute)


def test_the_confidence_loss_mixes_in_the_students_own_hardened_predictions():
    # Weighted prior: (0.15, 0.825, 0.025): of two rows both go to class 1.
    weights_of_own = -math.log(0.2), -math.log(0.5)
    first = 0.5 * -(0.6 * math.log(0.7) + 0.3 * math.log(0.2) + 0.1 * math.log(0.1)) + 0.5 * weights_of_own[0]
    second = 0.5 * math.log(2) + 0.5 * weights_of_own[1]
    assert logconf(LOGITS, TARGETS, WEIGHTS, 0.5).item() == pytest.approx(mean(first, second))
    assert logconf(LOGITS, TARGETS, WEIGHTS, 0.0).item() == pytest.approx(xent(LOGITS, TARGETS, WEIGHTS).item())


def test_hardening_two_classes_is_the_published_quantile_threshold():
    generator = torch.Generator().manual_seed(1)
    for rows in (5, 32):
        probability = torch.rand(rows, generator=generator)
        logits = torch.stack([1 - probability, probability], -1).log()
        for share in (0.2, 0.5, 0.8):
            count = quotas(torch.tensor([1 - share, share]), rows)[1]
            expected = torch.zeros(rows, dtype=torch.long)
            expected[probability.argsort(descending=True)[:count]] = 1
            assert harden(logits, torch.tensor([1 - share, share])).tolist() == expected.tolist()


def test_hardening_keeps_the_prior_where_an_argmax_would_collapse():
    logits = torch.tensor([[5.0, 1.0, 0.0], [5.0, 2.0, 0.0], [5.0, 0.0, 3.0], [5.0, 0.0, 0.0]])
    assert logits.argmax(-1).tolist() == [0, 0, 0, 0]
    assert sorted(harden(logits, torch.tensor([0.5, 0.25, 0.25])).tolist()) == [0, 0, 1, 2]
    assert harden(logits, torch.tensor([0.5, 0.25, 0.25]))[3] == 0


def test_quotas_are_whole_and_sum_to_the_rows():
    assert quotas(torch.tensor([0.5, 0.3, 0.2]), 7) == [4, 2, 1]
    assert quotas(torch.tensor([1.0, 1.0, 1.0]), 4) == [2, 1, 1]
    assert quotas(torch.tensor([1.0, 0.0]), 3) == [3, 0]


def test_the_confidence_warms_up_linearly():
    assert [warmed(0.6, step, 10) for step in (0, 1, 5, 10, 99)] == pytest.approx([0, 0.06, 0.3, 0.6, 0.6])
    assert warmed(0.6, 0, 0) == 0.6
    settings = LossSettings("logconf", strength=0.5, warmup=0.5)
    start, halfway, end = (settings.at(step, 8)(LOGITS, TARGETS, WEIGHTS).item() for step in (0, 2, 4))
    assert start == pytest.approx(xent(LOGITS, TARGETS, WEIGHTS).item())
    assert halfway == pytest.approx(logconf(LOGITS, TARGETS, WEIGHTS, 0.25).item())
    assert end == pytest.approx(logconf(LOGITS, TARGETS, WEIGHTS, 0.5).item())


@pytest.mark.parametrize("name", ["xent", "kd", "logconf", "reverse_kl", "gce"])
def test_gradients(name):
    loss = LossSettings(name).at(5, 10)
    logits = LOGITS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda value: loss(value, TARGETS, WEIGHTS), (logits,))
    loss(logits, TARGETS, WEIGHTS).backward()
    assert logits.grad.abs().max() > 1e-3


@pytest.mark.parametrize("name", ["xent", "kd", "logconf", "reverse_kl", "gce"])
def test_a_row_of_weight_zero_teaches_nothing(name):
    logits = LOGITS.clone().requires_grad_()
    LossSettings(name).at(5, 10)(logits, TARGETS, torch.tensor([0.0, 2.0], dtype=torch.float64)).backward()
    assert logits.grad[0].abs().max() == 0
    assert logits.grad[1].abs().max() > 0


@pytest.mark.parametrize("name", ["xent", "kd", "reverse_kl", "gce", "logconf"])
def test_extreme_logits_stay_finite(name):
    logits = torch.tensor([[500.0, -500.0], [-500.0, 500.0]], requires_grad=True)
    targets = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    value = LossSettings(name).at(1, 2)(logits, targets, torch.ones(2))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    "wrong", [{"name": "hinge"}, {"temperature": 0}, {"q": 0}, {"q": 1.5}, {"strength": 2}, {"warmup": -1}]
)
def test_settings_out_of_range(wrong):
    with pytest.raises(ConfigError):
        LossSettings(**wrong)
