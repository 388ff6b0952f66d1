"""Misfit over teachers of known quality: it grows with the gain, undertrained students are gated, the rule chooses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from curator.errors import InputError
from curator.evaluation.grades import grade
from curator.methods.misfit import MIN_FIT, choose, law, standings
from curator.methods.students import Teacher
from curator.methods.weak_to_strong import Recipe, naive, sittings
from curator.training.head_settings import HeadSettings
from tests.methods.weak_builders import noisy, world

POOL, GOLD = world()
ONE = Recipe(seeds=(0,))
TEACHERS = [noisy(GOLD, wrong, seed=number, name=f"{wrong}") for number, wrong in enumerate((0.1, 0.25, 0.4, 0.5))]
TAUGHT = [(teacher, naive(POOL, teacher, ONE)) for teacher in TEACHERS]


def gains() -> dict[str, float]:
    found = {}
    for teacher, students in TAUGHT:
        _, student = grade(teacher.probabilities[POOL.test], sittings(students), GOLD[POOL.test])
        found[teacher.name] = student.squared_gain
    return found


def test_misfit_foretells_the_gain_of_students_that_average_errors_out():
    found = standings(POOL, TAUGHT)
    measured = law({one.teacher: one.misfit.squared.value for one in found}, gains())
    assert measured.teachers == 4
    assert measured.slope > 0.5
    assert measured.r2 > 0.8
    assert measured.rank.value > 0.7
    assert all(one.fit > 0.9 and one.agreement > 0.4 for one in found)


def test_the_chosen_teacher_has_about_the_best_student():
    right = {
        teacher.name: float((students[0].probabilities.argmax(1) == GOLD[POOL.test]).mean())
        for teacher, students in TAUGHT
    }
    for estimate in ("claimed", "consensus"):
        assert right[choose(standings(POOL, TAUGHT, estimate)).teacher] > max(right.values()) - 0.03
    (claimed, *_) = standings(POOL, TAUGHT)
    assert "which nobody vouches for" in claimed.rests_on
    vouched = Teacher("v", TEACHERS[0].probabilities, "audited(80)")
    assert standings(POOL, [(vouched, TAUGHT[0][1])])[0].rests_on == "audited(80)"


def test_a_teacher_that_is_too_sure_fools_its_claims_but_not_the_consensus():
    sure = noisy(GOLD, 0.6, honest=False, seed=9, name="sure")
    sure = Teacher("sure", np.eye(3)[sure.classes()] * 0.98 + 0.02 / 3)
    taught = [*TAUGHT, (sure, naive(POOL, sure, ONE))]
    errors = {one.teacher: one.error for one in standings(POOL, taught)}
    assert min(errors, key=errors.get) == "sure"
    assert choose(standings(POOL, taught, "consensus")).teacher != "sure"


def test_an_undertrained_student_is_gated():
    lazy = Recipe(seeds=(0,), settings=HeadSettings(epochs=1, learning_rate=1e-5))
    (found,) = standings(POOL, [(TEACHERS[0], naive(POOL, TEACHERS[0], lazy))])
    assert found.misfit.kl.value > 0.1
    assert found.fit < MIN_FIT
    assert choose([found]) is None


def test_what_cannot_be_compared():
    with pytest.raises(InputError, match="2 teachers have no consensus"):
        standings(POOL, TAUGHT[:2], "consensus")
    silent = Teacher("silent", np.where(POOL.held[:, None], np.nan, TEACHERS[0].probabilities))
    with pytest.raises(InputError, match="silent labels none of the"):
        standings(POOL, [(silent, TAUGHT[0][1])])
    with pytest.raises(InputError, match="2 teachers make no line"):
        law({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0})
    with pytest.raises(InputError, match="the same misfit"):
        law(dict.fromkeys("abc", 1.0), {"a": 1.0, "b": 2.0, "c": 3.0})


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-5, 5), min_size=4, max_size=12, unique=True),
    st.floats(0.1, 3),
    st.floats(-1, 1),
)
def test_a_line_is_found_exactly(values, slope, intercept):
    x = np.round(np.array(values), 3)
    if len(set(x.tolist())) < len(x):
        return
    names = [str(number) for number in range(len(x))]
    found = law(dict(zip(names, x, strict=True)), dict(zip(names, slope * x + intercept, strict=True)))
    assert found.slope == pytest.approx(slope, rel=1e-6)
    assert found.intercept == pytest.approx(intercept, abs=1e-6)
    assert found.r2 == pytest.approx(1)
    assert found.rank.value == pytest.approx(1)
