"""Weak-to-strong generalisation (Burns et al. 2023, arXiv 2312.09390): a strong student learns from a weak teacher.

A teacher's soft labels on rows that it was not trained on teach a linear head on the strong model's frozen features.
`teach` trains every arm without gold; `ceiling` trains the same student on gold, for the evaluation alone
(`curator.evaluation.grades`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np

from curator.confidence import Bools, Floats, Ints
from curator.errors import ConfigError, InputError
from curator.evaluation.grades import FILTERED, RANDOM, Sitting
from curator.methods.small_selection import Choice, Score, confidence, control
from curator.methods.students import Pool, Student, Teacher, train
from curator.training.head_settings import HeadSettings
from curator.training.losses import LossSettings
from curator.training.supervision import FEWEST

NAIVE, CEILING = "naive", "ceiling"
"""The arm of all weak labels, and that of gold."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which students are trained: every loss with every seed. A seed decides on the order of rows, on the rows that
    early stopping looks at (their *weak* labels), and on the random subset. `settings`' own loss and seed do not count.

    Raises: ConfigError for no loss or no seed.
    """

    losses: tuple[LossSettings, ...] = (LossSettings(),)
    seeds: tuple[int, ...] = (0, 1, 2)
    choice: Choice = field(default_factory=Choice)
    settings: HeadSettings = field(default_factory=HeadSettings)

    def __post_init__(self) -> None:
        if not self.losses or not self.seeds:
            raise ConfigError("a recipe needs a loss and a seed or more")

    def runs(self) -> Iterator[HeadSettings]:
        """The settings of every training."""
        for loss, seed in product(self.losses, self.seeds):
            yield replace(self.settings, loss=loss, seed=seed)


def teach(pool: Pool, teacher: Teacher, recipe: Recipe | None = None, score: Score | None = None) -> list[Student]:
    """The naive, filtered and random students of one teacher, in this order per loss and seed. Rows are selected by
    `score`, by default the teacher's confidence.

    Raises: InputError for labels that cannot be learnt from; TrainingError.
    """
    recipe = recipe or Recipe()
    targets, known = lesson(pool, teacher)
    classes = np.where(known, teacher.classes(), -1)
    score = score or confidence(teacher)
    chosen = recipe.choice.weights(pool.ids, classes, score)
    if (left := int((chosen > 0).sum())) < FEWEST:
        raise InputError(
            f"selecting by {score.name} leaves {left} rows; {FEWEST} is the least",
            hint="keep a larger share, select by another score, or label more documents",
        )
    found = []
    for settings in recipe.runs():
        arms = {NAIVE: known.astype(np.float64), FILTERED: chosen, RANDOM: control(chosen, classes, settings.seed)}
        found += [train(pool, targets, weights, (arm, settings)) for arm, weights in arms.items()]
    return found


def naive(pool: Pool, teacher: Teacher, recipe: Recipe | None = None) -> list[Student]:
    """The students of all of the teacher's labels alone: what comparing teachers takes.

    Raises: as `teach`.
    """
    targets, known = lesson(pool, teacher)
    runs = (recipe or Recipe()).runs()
    return [train(pool, targets, known.astype(np.float64), (NAIVE, settings)) for settings in runs]


def lesson(pool: Pool, teacher: Teacher) -> tuple[Floats, Bools]:
    """What a teacher teaches: targets (n, k), uniform where it has no label, and which rows (n,) count.

    Raises: InputError if it labels no row that it was not trained on.
    """
    known = teacher.labelled(pool) & ~pool.held
    if not known.any():
        raise InputError(
            f"{teacher.name} labels no row that it was not trained on itself",
            hint="have it label other documents, or train it on a part of the corpus",
        )
    return np.where(known[:, None], teacher.probabilities, 1.0 / len(pool.options)), known


def ceiling(pool: Pool, gold: Ints, recipe: Recipe | None = None) -> list[Student]:
    """For evaluation only: the same student on gold (n,), -1 where there is none, of the rows that students train on.
    Cross-entropy, every seed.

    Raises: InputError for gold that cannot be learnt from.
    """
    recipe = replace(recipe or Recipe(), losses=(LossSettings(),))
    known = gold >= 0
    targets = np.full((len(gold), len(pool.options)), 1.0 / len(pool.options))
    targets[known] = np.eye(len(pool.options))[gold[known]]
    return [train(pool, targets, known.astype(np.float64), (CEILING, settings)) for settings in recipe.runs()]


def sittings(students: Sequence[Student]) -> list[Sitting]:
    """The students of one arm and loss, whatever their seed, as one arm to be graded."""
    groups: dict[tuple[str, str], list[Student]] = {}
    for student in students:
        groups.setdefault((student.arm, student.loss), []).append(student)
    return [
        Sitting(arm, loss, members[0].rows, np.stack([one.probabilities for one in members]))
        for (arm, loss), members in groups.items()
    ]
