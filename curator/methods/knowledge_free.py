"""Knowledge-free weak supervision (Hsu and Roberts, arXiv 2406.06723): a language model's labels teach a small encoder,
which then goes on with the handful of gold rows that there are.

`Few` holds those rows, given on purpose; no other gold is read here. The student is a classification head, which
`head:<folder>` serves: the cheapest model that answers the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from curator.confidence import Floats, Ints
from curator.engines.encoder import Features
from curator.errors import InputError
from curator.methods.students import Pool, Student, Teacher, train
from curator.methods.weak_to_strong import lesson
from curator.training.head_settings import HeadSettings
from curator.training.heads import TrainedHead, train_head

GOLD_ONLY, WEAK_ONLY, WEAK_THEN_GOLD = "gold only", "weak only", "weak then gold"
BUDGETS = (0, 10, 50)


@dataclass(frozen=True, slots=True)
class Few:
    """The gold rows that may be learnt from: numbers `rows` (m,) of the pool, and their right options (m,).

    Raises: InputError for rows and options that do not match.
    """

    rows: Ints
    options: Ints

    def __post_init__(self) -> None:
        if len(self.rows) != len(self.options) or len(set(self.rows.tolist())) < len(self.rows):
            raise InputError(f"{len(self.rows)} gold rows and {len(self.options)} options, or a row twice")

    def draw(self, count: int, seed: int) -> Few:
        """`count` of them, the classes in turn, so that a small draw holds as many classes as it can."""
        if count > len(self.rows):
            raise InputError(f"{count} gold rows are wanted, {len(self.rows)} were given", hint="lower the budget")
        order = np.random.default_rng(seed).permutation(len(self.rows))
        shuffled, ranks = self.options[order], np.zeros(len(order), dtype=np.int64)
        for option in np.unique(shuffled):
            ranks[shuffled == option] = np.arange((shuffled == option).sum())
        chosen = order[np.argsort(ranks, kind="stable")][:count]
        return Few(self.rows[chosen], self.options[chosen])


@dataclass(frozen=True, slots=True)
class Trial:
    """The students of one budget of gold rows. `gold_only` is None where so few rows teach nothing, `why` says why;
    with no gold row at all the other two are the same student."""

    budget: int
    weak_only: Student
    weak_then_gold: Student
    gold_only: Student | None
    why: str = ""


def knowledge_free(
    pool: Pool, teacher: Teacher, few: Few, budgets: Sequence[int] = BUDGETS, settings: HeadSettings | None = None
) -> list[Trial]:
    """Weak only, weak then gold, and gold only, for every budget that the given rows allow.

    Raises: InputError for weak labels that cannot be learnt from, or a gold row that is held out; TrainingError.
    """
    settings = settings or HeadSettings()
    if pool.held[few.rows].any():
        raise InputError("a gold row is held out for testing", hint="give gold rows of the training part")
    targets, known = lesson(pool, teacher)
    weak = train(pool, targets, known.astype(np.float64), (WEAK_ONLY, settings))
    return [_trial(pool, weak, few.draw(count, settings.seed), settings) for count in budgets if count <= len(few.rows)]


def _trial(pool: Pool, weak: Student, few: Few, settings: HeadSettings) -> Trial:
    if not len(few.rows):
        return Trial(0, weak, replace(weak, arm=WEAK_THEN_GOLD), None, "there is no gold")
    weights = np.zeros(len(pool.ids))
    weights[few.rows] = 1.0
    targets = np.full((len(pool.ids), len(pool.options)), 1.0 / len(pool.options))
    targets[few.rows] = np.eye(len(pool.options))[few.options]
    alone, why = None, ""
    try:
        alone = train(pool, targets, weights, (GOLD_ONLY, settings))
    except InputError as error:
        why = error.message
    further = refine(weak.head, pool.features[few.rows], targets[few.rows], settings)
    answers = further.probabilities(pool.features[pool.test])
    after = Student(WEAK_THEN_GOLD, settings.loss.name, settings.seed, len(few.rows), further, answers)
    return Trial(len(few.rows), weak, after, alone, why)


def refine(head: TrainedHead, features: Features, targets: Floats, settings: HeadSettings) -> TrainedHead:
    """Go on with gold rows, all of them: a share held out of ten rows would tell nothing, so training ends with its
    epochs, and weight decay keeps the head near what the weak labels taught.

    Raises: InputError, TrainingError.
    """
    return train_head(features, targets, np.ones(len(features)), replace(settings, validation=0.0), head)
