"""`train_head`: learns what is linear, the same every time, and refuses what nothing can be learnt from."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from curator.errors import ConfigError, InputError, TrainingError  # noqa: E402
from curator.training.head_settings import HeadSettings, TuneSettings  # noqa: E402
from curator.training.heads import Stopper, finite, train_head  # noqa: E402
from curator.training.losses import LossSettings  # noqa: E402


def blobs(rows: int = 300, width: int = 6, noise: float = 0.0, seed: int = 0):
    """Three classes around their own centres, far from the origin and on odd scales; the labels, and noisy ones."""
    generator = np.random.default_rng(seed)
    truth = np.arange(rows) % 3
    centres = np.random.default_rng(9).normal(size=(3, width)) * 2
    features = (centres[truth] + generator.normal(size=(rows, width))) * np.logspace(-3, 2, width) + 50
    weak = np.where(generator.random(rows) < noise, generator.integers(0, 3, rows), truth)
    return features.astype(np.float32), truth, np.eye(3)[weak]


@pytest.mark.parametrize("loss", ["xent", "kd", "logconf", "reverse_kl", "gce"])
def test_every_loss_learns_through_label_noise(loss):
    features, truth, targets = blobs(noise=0.3)
    head = train_head(features, targets, np.ones(300), HeadSettings(LossSettings(loss))).linear
    test, answers, _ = blobs(seed=5)
    assert (head.logprobs(test).argmax(1) == answers).mean() > 0.9
    assert (head.logprobs(features).argmax(1) == truth).mean() > 0.9


def test_the_same_seed_gives_the_same_head_and_the_caller_keeps_his_random_state():
    features, _, targets = blobs(noise=0.3)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second = (train_head(features, targets, np.ones(300)) for _ in range(2))
    assert (torch.get_rng_state() == before).all()
    assert (first.linear.weight == second.linear.weight).all()
    assert (first.linear.bias == second.linear.bias).all()
    assert first.metrics == second.metrics
    other = train_head(features, targets, np.ones(300), HeadSettings(seed=1))
    assert (other.linear.weight != first.linear.weight).any()


def test_weights_say_whom_to_believe():
    features, truth, targets = blobs()
    lies = np.arange(300) % 2 == 1
    targets[lies] = np.roll(targets[lies], 1, axis=1)
    trusted = train_head(features, targets, np.where(lies, 0.02, 1.0)).linear
    assert (trusted.logprobs(features).argmax(1) == truth).mean() > 0.9
    misled = train_head(features, targets, np.where(lies, 1.0, 0.02)).linear
    assert (misled.logprobs(features).argmax(1) == truth).mean() < 0.2


def test_soft_targets_give_soft_answers():
    features, truth, targets = blobs(rows=900)
    head = train_head(features, 0.7 * targets + 0.1, np.ones(900)).linear
    top = np.exp(head.logprobs(features)).max(axis=1)
    assert (head.logprobs(features).argmax(1) == truth).mean() > 0.9
    assert top.mean() == pytest.approx(0.75, abs=0.08)


def test_it_stops_early_and_says_so():
    features, _, targets = blobs(noise=0.6)
    found = train_head(features, targets, np.ones(300), HeadSettings(epochs=200, learning_rate=0.05, patience=3))
    assert found.metrics["epochs"] == found.metrics["best_epoch"] + 3 < 200
    assert found.metrics["validation_rows"] == pytest.approx(30, abs=2)
    assert 0.2 < found.metrics["validation_agreement"] < 0.8


def test_without_validation_all_rows_are_trained_on():
    features, _, targets = blobs(rows=30)
    found = train_head(features, targets, np.ones(30), HeadSettings(validation=0, epochs=3))
    assert (found.metrics["rows"], found.metrics["validation_rows"], found.metrics["epochs"]) == (30, 0, 3)
    assert "validation_loss" not in found.metrics


def test_what_cannot_be_trained_on():
    features, _, targets = blobs()
    with pytest.raises(InputError, match="5 labelled rows are too few"):
        train_head(features[:5], targets[:5], np.ones(5))
    with pytest.raises(InputError, match="every row is labelled '0'"):
        train_head(features, np.tile([1.0, 0, 0], (300, 1)), np.ones(300))
    features[7, 2] = np.nan
    with pytest.raises(InputError, match="features must be finite"):
        train_head(features, targets, np.ones(300))


def test_a_loss_that_explodes_is_named():
    features, _, targets = blobs()
    with pytest.raises(TrainingError, match="the loss is nan at step") as raised:
        train_head(features, targets, np.ones(300), HeadSettings(learning_rate=3e37))
    assert "lower the learning rate" in raised.value.hint
    with pytest.raises(TrainingError, match="inf"):
        finite(float("inf"), 3)


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"batch_size": 0}, {"patience": 0}, {"learning_rate": 0}, {"validation": 1.0}]
)
def test_settings_out_of_range(wrong):
    with pytest.raises(ConfigError):
        HeadSettings(**wrong)
    with pytest.raises(ConfigError):
        TuneSettings(**wrong)


def test_a_method_that_does_not_exist():
    with pytest.raises(ConfigError, match="method 'half' is unknown"):
        TuneSettings(method="half")


def test_the_stopper_counts_epochs_without_a_better_loss():
    stopper = Stopper(2)
    assert [stopper.better(epoch, loss) for epoch, loss in enumerate([3.0, 2.0, 2.0, 2.5])] == [
        True,
        True,
        False,
        False,
    ]
    assert (stopper.best_epoch, stopper.stop(2), stopper.stop(3)) == (1, False, True)


def test_training_goes_on_from_a_head_with_a_handful_of_rows_of_some_classes():
    features, truth, targets = blobs()
    weak = train_head(features, np.roll(targets, 1, axis=1), np.ones(300))
    assert (weak.linear.logprobs(features).argmax(1) == truth).mean() < 0.2
    few = np.flatnonzero(truth < 2)[:8]
    settings = HeadSettings(epochs=200, learning_rate=0.02, validation=0, weight_decay=0)
    mended = train_head(features[few], targets[few], np.ones(8), settings, start=weak)
    assert (mended.linear.logprobs(features[few]).argmax(1) == truth[few]).all()
    assert mended.scaling is weak.scaling
    # Strong weight decay holds the head where it was.
    held = train_head(features[few], targets[few], np.ones(8), HeadSettings(validation=0, weight_decay=500), start=weak)
    moved, kept = (np.abs(one.linear.weight - weak.linear.weight).sum() for one in (mended, held))
    assert kept < moved / 5


def test_a_head_that_is_right_already_hardly_moves():
    features, truth, targets = blobs()
    first = train_head(features, targets, np.ones(300))
    again = train_head(features, first.probabilities(features), np.ones(300), HeadSettings(epochs=5), start=first)
    assert np.abs(again.probabilities(features) - first.probabilities(features)).max() < 0.05
    assert (again.probabilities(features).argmax(1) == truth).mean() > 0.9


def test_what_a_training_cannot_go_on_with():
    features, _, targets = blobs()
    first = train_head(features, targets, np.ones(300))
    with pytest.raises(InputError, match="the head to go on from reads 6 features, these are 5"):
        train_head(features[:, :5], targets, np.ones(300), start=first)
    with pytest.raises(InputError, match="no row has a label to go on with"):
        train_head(features, targets, np.zeros(300), start=first)
    with pytest.raises(InputError, match="is no distribution"):
        train_head(features, targets * 2, np.ones(300), start=first)
    with pytest.raises(InputError, match="300 rows x 3 options"):
        train_head(features, targets[:, :2], np.ones(300), start=first)
