"""Misfit: how much a student may gain over its teacher, and which of several teachers to learn from, without gold.

Charikar et al. (arXiv 2405.15116): the student's gain is at least its distance to the teacher on held-out rows, under
squared loss and a convex class of heads; for classification with KL(student || teacher), arXiv 2501.19105.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from curator.confidence import Bools, Floats
from curator.errors import InputError
from curator.evaluation.gains import TINY, Misfit, spearman
from curator.evaluation.gains import misfit as distance
from curator.evaluation.scores import Interval

if TYPE_CHECKING:
    from curator.methods.students import Pool, Student, Teacher

MIN_FIT = 0.5
"""Students below this are undertrained: they are far from their teacher because they know nothing, not because they
know better."""
SCALES = np.geomspace(1, 1000, 31)
"""By which a student's logits are multiplied to see what it might have learnt."""
Estimate = Literal["claimed", "consensus"]


@dataclass(frozen=True, slots=True)
class Standing:
    """One teacher, seen through its students, without gold.

    `rows` are the held-out rows that it labelled; `agreement` how often the students say the same there; `error` (0..2)
    the estimate of the teacher's Brier score, and `rests_on` what that stands on. `fit` says how far training has come:
    the cross-entropy that the students save on their training rows against a constant answer, as a share of what they
    would save with louder logits. It is near 1 when training is done, however noisy the teacher, and near 0 when
    the students have only begun to move away from where they started.
    """

    teacher: str
    rows: int
    agreement: float
    fit: float
    misfit: Misfit
    error: float
    rests_on: str

    @property
    def trained(self) -> bool:
        """Whether the misfit may be believed."""
        return self.fit >= MIN_FIT

    @property
    def student_error(self) -> float:
        """What the rule minimises: the teacher's estimated squared error less the squared misfit."""
        return self.error - self.misfit.squared.value


def standings(
    pool: Pool, taught: Sequence[tuple[Teacher, Sequence[Student]]], estimate: Estimate = "claimed"
) -> list[Standing]:
    """Every teacher with its naive students (which differ in their seed only), as `choose` needs them.

    Without gold a teacher's error can only be estimated. `claimed` believes its probabilities: the expected Brier
    score of a distribution p that is calibrated is 1 - sum p^2. That rests on the teacher alone, unless a reference or
    audited rows vouch for its confidence; a teacher that is too sure looks too good. `consensus` takes the squared
    distance to the mean answer of the other teachers, which rests on their erring independently.

    Raises: InputError for a teacher without labels on held-out rows, or a consensus of fewer than three.
    """
    if estimate == "consensus" and len(taught) < 3:
        raise InputError(f"{len(taught)} teachers have no consensus", hint="three or more, or estimate='claimed'")
    teachers = [teacher for teacher, _ in taught]
    errors = [_claimed(pool, one) if estimate == "claimed" else _consensus(pool, one, teachers) for one in teachers]
    return [_standing(pool, *pair, *error) for pair, error in zip(taught, errors, strict=True)]


def choose(found: Sequence[Standing]) -> Standing | None:
    """The teacher with the smallest estimated error less misfit, among those whose students are trained; None where
    there is no such teacher."""
    return min((one for one in found if one.trained), key=lambda one: one.student_error, default=None)


def _standing(pool: Pool, teacher: Teacher, students: Sequence[Student], error: float, rests_on: str) -> Standing:
    rows, known = pool.test, _labelled(pool, teacher)
    weak = teacher.probabilities[rows][known]
    answers = np.mean([student.probabilities[known] for student in students], axis=0)
    return Standing(
        teacher.name,
        int(known.sum()),
        float((answers.argmax(axis=1) == weak.argmax(axis=1)).mean()),
        float(np.mean([_fit(pool, teacher, student) for student in students])),
        distance(answers, weak),
        error,
        rests_on,
    )


def _labelled(pool: Pool, teacher: Teacher) -> Bools:
    known = teacher.labelled(pool)[pool.test]
    if not known.any():
        raise InputError(f"{teacher.name} labels none of the {len(known)} held-out rows", hint="have it label them too")
    return known


def _fit(pool: Pool, teacher: Teacher, student: Student) -> float:
    """See `Standing`; 0 where no scale beats the teacher's mean answer."""
    known = teacher.labelled(pool) & ~pool.held
    weak, logits = teacher.probabilities[known], student.head.linear.logprobs(pool.features[known])
    constant = _xent(weak, np.log(np.maximum(weak.mean(axis=0, keepdims=True), TINY)))
    saved = [constant - _xent(weak, scale * logits) for scale in SCALES]
    return saved[0] / max(saved) if max(saved) > TINY else 0.0


def _xent(targets: Floats, logits: Floats) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    logprobs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-(targets * logprobs).sum(axis=1).mean())


def _claimed(pool: Pool, teacher: Teacher) -> tuple[float, str]:
    weak = teacher.probabilities[pool.test][_labelled(pool, teacher)]
    vouched = teacher.basis.startswith(("reference:", "audited("))
    rests_on = teacher.basis if vouched else f"its own probabilities ({teacher.basis}), which nobody vouches for"
    return float((1 - (weak**2).sum(axis=1)).mean()), rests_on


def _consensus(pool: Pool, teacher: Teacher, teachers: Sequence[Teacher]) -> tuple[float, str]:
    others = [one.probabilities[pool.test] for one in teachers if one is not teacher]
    known = _labelled(pool, teacher) & ~np.isnan(others).any(axis=(0, 2))
    if not known.any():
        raise InputError("no held-out row is labelled by all teachers", hint="estimate='claimed'")
    apart = (teacher.probabilities[pool.test][known] - np.mean(others, axis=0)[known]) ** 2
    return float(apart.sum(axis=1).mean()), f"the mean of {len(others)} other teachers, if they err independently"


@dataclass(frozen=True, slots=True)
class Law:
    """A least-squares line of gain against misfit over several teachers, and their rank correlation, None where either
    is constant or there are fewer than four."""

    teachers: int
    slope: float
    intercept: float
    r2: float
    rank: Interval | None


def law(misfits: Mapping[str, float], gains: Mapping[str, float]) -> Law:
    """For evaluation only: how well misfit foretells the gain that gold shows, teacher by teacher.

    Raises: InputError for fewer than three teachers that have both.
    """
    names = [name for name in misfits if name in gains]
    if len(names) < 3:
        raise InputError(f"{len(names)} teachers make no line", hint="three teachers or more")
    x, y = (np.array([values[name] for name in names]) for values in (misfits, gains))
    if not x.std():
        raise InputError("all teachers have the same misfit")
    slope, intercept = np.polyfit(x, y, 1)
    spread = float(((y - y.mean()) ** 2).sum())
    rest = float(((y - slope * x - intercept) ** 2).sum())
    rank = spearman(x, y) if len(names) >= 4 and y.std() else None
    return Law(len(names), float(slope), float(intercept), 1 - rest / spread if spread else 0.0, rank)
