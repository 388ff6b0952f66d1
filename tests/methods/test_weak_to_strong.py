"""Weak-to-strong on synthetic features: students average out random errors, selection beats chance where confidence
knows something, and gold changes no student."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from curator.errors import ConfigError, InputError
from curator.evaluation.grades import Sitting, grade
from curator.methods.small_selection import Choice
from curator.methods.students import Teacher
from curator.methods.weak_to_strong import Recipe, ceiling, naive, sittings, teach
from curator.training.losses import LossSettings
from tests.methods.weak_builders import noisy, world

POOL, GOLD = world()
SHORT = Recipe(seeds=(0, 1))


def graded(teacher: Teacher, recipe: Recipe = SHORT):
    students = teach(POOL, teacher, recipe)
    (top,) = sittings(ceiling(POOL, GOLD, recipe))
    found = grade(teacher.probabilities[POOL.test], sittings(students), GOLD[POOL.test], ceiling=top)
    return {one.arm: one for one in found}


def test_a_student_is_better_than_its_noisy_teacher_and_the_gap_is_closed():
    found = graded(noisy(GOLD, 0.3))
    assert list(found) == ["weak", "naive", "filtered", "random", "ceiling"]
    assert 0.62 < found["weak"].accuracy.value < 0.78
    assert found["naive"].gain.low > 0.1
    assert found["naive"].squared_gain > 0
    assert found["ceiling"].accuracy.value > 0.9
    assert found["naive"].recovery.value.value > 0.7
    assert found["ceiling"].recovery is None
    assert (found["naive"].seeds, found["filtered"].rows) == (2, found["random"].rows)
    assert found["filtered"].rows == pytest.approx(found["naive"].rows / 2, abs=3)


def test_confidence_that_knows_beats_a_random_subset_and_confidence_that_does_not_cannot():
    recipe = Recipe(seeds=(0, 1), choice=Choice(0.2))
    knows = graded(noisy(GOLD, 0.55, stubborn=True), recipe)
    assert knows["naive"].accuracy.value + 0.1 < knows["filtered"].accuracy.value
    assert knows["filtered"].over_random.low > 0.05
    ignorant = graded(noisy(GOLD, 0.55, stubborn=True, honest=False), recipe)
    assert ignorant["filtered"].over_random.low < 0.1


def test_a_perfect_teacher_leaves_no_gap_and_pgr_says_so():
    found = graded(noisy(GOLD, 0.0))
    assert found["naive"].recovery.value is None
    assert "it must exceed 5 points" in found["naive"].recovery.reason


@pytest.mark.parametrize("shuffled", [0, 1])
def test_gold_changes_no_student(shuffled):
    """Right or permuted gold: the students are the same, byte for byte; only the ceiling moves."""
    gold = GOLD if not shuffled else np.random.default_rng(shuffled).permutation(GOLD)
    teacher = noisy(GOLD, 0.3)
    before = teach(POOL, teacher, SHORT)
    tops = ceiling(POOL, gold, SHORT)
    grade(teacher.probabilities[POOL.test], sittings(before), gold[POOL.test], ceiling=sittings(tops)[0])
    after = teach(POOL, teacher, SHORT)
    weights = [
        [one.head.linear.weight.tobytes() + one.head.linear.bias.tobytes() for one in side] for side in (before, after)
    ]
    assert weights[0] == weights[1]
    right = (tops[0].probabilities.argmax(1) == GOLD[POOL.test]).mean()
    assert right > 0.9 if not shuffled else right < 0.6


def test_every_loss_and_seed_is_trained():
    losses = tuple(LossSettings(name) for name in ("xent", "kd", "logconf", "reverse_kl", "gce"))
    found = naive(POOL, noisy(GOLD, 0.3), Recipe(losses, (0, 1)))
    assert [(one.loss, one.seed) for one in found] == [(loss.name, seed) for loss in losses for seed in (0, 1)]
    assert len({one.head.linear.weight.tobytes() for one in found}) == 10
    assert all((one.probabilities.argmax(1) == GOLD[POOL.test]).mean() > 0.85 for one in found)
    with pytest.raises(ConfigError, match="a loss and a seed"):
        Recipe(losses=())


def test_a_teacher_that_has_seen_every_row_cannot_teach():
    weak = noisy(GOLD, 0.3)
    with pytest.raises(InputError, match="labels no row that it was not trained on") as raised:
        naive(POOL, Teacher("old", weak.probabilities, seen=frozenset(POOL.ids)))
    assert "other documents" in raised.value.hint


def test_sittings_put_the_seeds_of_an_arm_together():
    students = teach(POOL, noisy(GOLD, 0.3), SHORT)
    found = sittings(students)
    assert [(one.arm, one.probabilities.shape[0]) for one in found] == [("naive", 2), ("filtered", 2), ("random", 2)]
    assert isinstance(found[0], Sitting)
    assert (
        found[0].probabilities[1] == next(s for s in students if s.arm == "naive" and s.seed == 1).probabilities
    ).all()
