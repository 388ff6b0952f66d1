"""An experiment as a whole: the chosen teacher's arms, an exam that changes nothing, and what has no ceiling."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from curator.errors import InputError
from curator.methods.experiment import examine, run
from curator.methods.experiment_report import findings, tables, to_json, to_markdown
from curator.methods.students import Teacher
from curator.methods.weak_to_strong import Recipe
from curator.training.head_settings import HeadSettings
from tests.methods.weak_builders import noisy, world

POOL, GOLD = world(600)
ONE = Recipe(seeds=(0,))
TEACHERS = [noisy(GOLD, wrong, seed=number, name=f"t{number}") for number, wrong in enumerate((0.1, 0.3, 0.5))]
FOUND = run(POOL, TEACHERS, ONE)


def test_it_chooses_a_teacher_and_trains_its_arms():
    assert FOUND.trained
    assert FOUND.teacher.name in {"t0", "t1", "t2"}
    assert [one.arm for one in FOUND.arms] == ["naive", "filtered", "random"]
    chosen = next(one for one in FOUND.standings if one.teacher == FOUND.teacher.name)
    assert chosen.student_error == min(one.student_error for one in FOUND.standings)
    assert FOUND.arms[0].agreement == pytest.approx(chosen.agreement)
    with pytest.raises(InputError, match="there is no teacher"):
        run(POOL, [])


def test_an_exam_reads_gold_and_changes_nothing():
    before = to_json(FOUND)
    exam = examine(FOUND, GOLD)
    assert to_json(FOUND) == before
    assert exam.rows == int(POOL.held.sum())
    assert [one.arm for one in exam.grades] == ["weak", "naive", "filtered", "random", "ceiling"]
    weak = [pair[0].accuracy.value for pair in exam.teachers.values()]
    assert weak[0] > weak[1] > weak[2]
    assert exam.laws["squared gain by squared misfit"].slope > 0
    assert exam.no_ceiling == ""


def test_gold_on_a_few_rows_gives_grades_without_a_ceiling():
    gold = np.where(POOL.held, GOLD, -1)
    exam = examine(FOUND, gold)
    assert "the ceiling arm" in exam.no_ceiling
    assert all(one.recovery is None for one in exam.grades)
    assert "There is no ceiling, and so no PGR" in to_markdown(FOUND, exam)
    with pytest.raises(InputError, match="no held-out row has gold"):
        examine(FOUND, np.where(POOL.held, -1, GOLD))


def test_rows_that_the_teacher_was_trained_on_are_no_test_of_it():
    seen = frozenset(np.array(POOL.ids)[POOL.test][:50].tolist())
    old = Teacher("old", TEACHERS[1].probabilities, seen=seen)
    exam = examine(run(POOL, [old], ONE), GOLD)
    assert exam.rows == int(POOL.held.sum()) - 50
    assert exam.laws == {}


def test_the_page_says_what_the_figures_carry():
    exam = examine(FOUND, GOLD)
    page = to_markdown(FOUND, exam)
    for part in ("# Weak to strong", "## Teachers", "## Misfit against real gain", "| ceiling | xent |"):
        assert part in page
    blind = to_markdown(FOUND)
    assert "accuracy (95%)" not in blind
    assert "only gold can tell" in blind
    assert [title for title, _ in tables(FOUND)] == ["Teachers", f"Students of {FOUND.teacher.name}"]
    assert to_json(FOUND, exam)["gold"]["rows"] == exam.rows
    assert all(len(row) == len(head) for _, (head, rows) in tables(FOUND, exam) for row in rows)


def test_undertrained_students_are_said_to_be():
    lazy = Recipe(seeds=(0,), settings=HeadSettings(epochs=1, learning_rate=1e-5))
    found = run(POOL, TEACHERS[:1], lazy)
    assert not found.trained
    assert next(findings(found)).startswith("No teacher's students are trained to the end")
    assert "undertrained" in to_markdown(found)
