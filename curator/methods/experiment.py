"""A weak-to-strong experiment from end to end: compare teachers, choose one, train its students; then, and only if
there is gold, grade them.

`run` takes no gold. `examine` takes what `run` found, with gold, and changes nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from curator.confidence import Ints
from curator.errors import InputError
from curator.evaluation.gains import Misfit
from curator.evaluation.gains import misfit as distance
from curator.evaluation.grades import Grade, Sitting, grade
from curator.methods.knowledge_free import BUDGETS, Few, knowledge_free
from curator.methods.misfit import Estimate, Law, Standing, choose, law, standings
from curator.methods.small_selection import Score, confidence
from curator.methods.students import Pool, Student, Teacher
from curator.methods.weak_to_strong import Recipe, ceiling, naive, sittings, teach

Scorer = Callable[[Teacher], Score]
"""What rows are selected by, once the teacher is known."""


@dataclass(frozen=True, slots=True)
class ArmSummary:
    """One arm without gold: how far it is from its teacher on the held-out rows."""

    arm: str
    loss: str
    rows: int
    seeds: int
    agreement: float
    misfit: Misfit


@dataclass(frozen=True, slots=True)
class Found:
    """What an experiment comes to without gold. `naive` holds every teacher's students of all its labels;
    `students` the arms of the one that was chosen, which is the first where no teacher's students are `trained`;
    `remarks` say why an arm is missing."""

    pool: Pool
    recipe: Recipe
    naive: tuple[tuple[Teacher, tuple[Student, ...]], ...]
    standings: tuple[Standing, ...]
    trained: bool
    teacher: Teacher
    score: str
    students: tuple[Student, ...]
    arms: tuple[ArmSummary, ...]
    remarks: tuple[str, ...] = ()


def run(
    pool: Pool,
    teachers: Sequence[Teacher],
    recipe: Recipe | None = None,
    scorer: Scorer = confidence,
    estimate: Estimate = "claimed",
) -> Found:
    """Compare the teachers by their misfit, choose one, and train all arms of its students.

    Teachers are compared by the students of the first loss. Raises: InputError for no teacher, labels that cannot be
    learnt from; TrainingError.
    """
    if not teachers:
        raise InputError("there is no teacher", hint="label the documents first: goldless curate")
    recipe = recipe or Recipe()
    first = replace(recipe, losses=recipe.losses[:1])
    taught = tuple((one, tuple(naive(pool, one, first))) for one in teachers)
    found = standings(pool, taught, estimate)
    best = choose(found)
    chosen = next((one for one in teachers if best and one.name == best.teacher), teachers[0])
    score = scorer(chosen)
    students = tuple(teach(pool, chosen, recipe, score))
    arms = tuple(_summary(pool, chosen, item) for item in sittings(students))
    return Found(pool, recipe, taught, tuple(found), best is not None, chosen, score.name, students, arms)


def further(found: Found, few: Few) -> Found:
    """`found` and, per budget of the gold rows that may be learnt from, students of these rows alone and students that
    go on from the chosen teacher's labels (`curator.methods.knowledge_free`). The last budget is all rows.

    Raises: InputError as `knowledge_free`, or for no row.
    """
    if not len(few.rows):
        raise InputError("there is no gold row to learn from", hint="give ten or more, or leave --few out")
    budgets = sorted({*(one for one in BUDGETS if 0 < one < len(few.rows)), len(few.rows)})
    students: list[Student] = []
    remarks: dict[str, None] = {}
    for settings in replace(found.recipe, losses=found.recipe.losses[:1]).runs():
        for trial in knowledge_free(found.pool, found.teacher, few, budgets, settings):
            made = [trial.gold_only, trial.weak_then_gold]
            students += [replace(one, arm=f"{one.arm} ({trial.budget})") for one in made if one is not None]
            if trial.why:
                remarks[f"{trial.budget} gold rows alone teach nothing: {trial.why}."] = None
    arms = tuple(_summary(found.pool, found.teacher, item) for item in sittings(students))
    return replace(found, students=(*found.students, *students), arms=(*found.arms, *arms), remarks=tuple(remarks))


def _summary(pool: Pool, teacher: Teacher, item: Sitting) -> ArmSummary:
    known = teacher.labelled(pool)[pool.test]
    weak, answers = teacher.probabilities[pool.test][known], item.probabilities[:, known]
    same = float((answers.argmax(axis=2) == weak.argmax(axis=1)).mean())
    return ArmSummary(item.arm, item.loss, item.rows, len(answers), same, distance(answers.mean(axis=0), weak))


@dataclass(frozen=True, slots=True)
class Exam:
    """An experiment against gold, on `rows` held-out rows: the grades of the chosen teacher's arms, the weak and the
    student's grade of every teacher, and how well misfit foretold their gains (None for fewer than three). `no_ceiling`
    says why there is no ceiling."""

    rows: int
    grades: tuple[Grade, ...]
    teachers: dict[str, tuple[Grade, Grade]]
    laws: dict[str, Law] = field(default_factory=dict)
    no_ceiling: str = ""


def examine(found: Found, gold: Ints) -> Exam:
    """Grade the students on gold (n,), an option per row of the pool, -1 where there is none. For evaluation only: what
    was chosen and trained stays as it is.

    Raises: InputError where no held-out row has gold.
    """
    pool, top, why = found.pool, None, ""
    try:
        (top,) = sittings(ceiling(pool, gold, found.recipe))
    except InputError as error:
        why = error.message
    grades = _grades(pool, found.teacher, found.students, gold, top)
    teachers = {}
    for teacher, students in found.naive:
        weak, student = _grades(pool, teacher, students, gold, None)
        teachers[teacher.name] = (weak, student)
    rows = int(((gold >= 0) & found.teacher.fresh(pool))[pool.test].sum())
    return Exam(rows, tuple(grades), teachers, _laws(found.standings, teachers), why)


def _grades(pool: Pool, teacher: Teacher, students: Sequence[Student], gold: Ints, top: Sitting | None) -> list[Grade]:
    """Rows that the teacher was trained on are no test of it."""
    fair = np.where(teacher.fresh(pool), gold, -1)[pool.test]
    return grade(teacher.probabilities[pool.test], sittings(students), fair, ceiling=top)


def _laws(found: Sequence[Standing], teachers: dict[str, tuple[Grade, Grade]]) -> dict[str, Law]:
    squared = {one.teacher: one.misfit.squared.value for one in found if one.trained}
    kl = {one.teacher: one.misfit.kl.value for one in found if one.trained}
    if len(set(squared.values())) < 3:
        return {}
    return {
        "squared gain by squared misfit": law(squared, {name: one.squared_gain for name, (_, one) in teachers.items()}),
        "accuracy gain by KL": law(kl, {name: one.gain.value for name, (_, one) in teachers.items()}),
    }
