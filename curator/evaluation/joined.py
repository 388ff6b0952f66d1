"""Gold and several arms' answers, put together row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from curator.confidence import Ints
from curator.errors import InputError
from curator.evaluation.answers import Answer, Answers, Gold, Voted, no_overlap
from curator.evaluation.comparison import Comparison, compare
from curator.evaluation.gains import Recovery, pgr
from curator.evaluation.scores import Arm
from curator.fields import ClosedField
from curator.parsing import MISSING
from curator.types import Json

WEAK, STUDENT, CEILING = "weak", "student", "ceiling"
"""What arms are called between which a PGR is computed."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows were scored and which were not: gold rows that the first arm does not have
    (`unlabelled`), rows of the gold file without a value (`blank`), and scored rows that people
    audited, from which a calibration may have learned (`audited`)."""

    unlabelled: int = 0
    blank: int = 0
    audited: int = 0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that a report says about one field. The first of `arms` is the subject, the others
    are compared with it.

    `names` are the classes, `gold` (n,) indices of them; for an open field (`closed` is false) they are
    the values that gold has, and figures per class mean little. `roles` are the arms of `recovery`.
    """

    field: str
    subject: str
    names: tuple[str, ...]
    closed: bool
    gold: Ints
    arms: dict[str, Arm]
    comparison: Comparison
    scope: Scope
    roles: tuple[str, str, str] | None = None
    recovery: Recovery | None = None


def join(
    field: Voted, gold: Gold, arms: Mapping[str, Answers], *, audited: frozenset[str] = frozenset(), seed: int = 0
) -> Evaluation:
    """Score arms on the gold rows that the first of them has. An answer that another arm lacks there
    counts as wrong. Arms called `weak`, `student` and `ceiling` give a PGR; the first arm stands in for
    `weak` or `student` where no other is called so.

    Raises: InputError if there is no arm, or one of them has no gold row.
    """
    if not arms:
        raise InputError("there is no arm to score")
    subject, first = next(iter(arms.items()))
    ids = sorted(set(gold.values) & set(first))
    for name, answers in arms.items():
        if answers and not set(answers) & (set(ids) if ids else set(gold.values)):
            raise no_overlap(gold.path, min(gold.values), name, min(answers))
    if not ids:
        raise InputError(f"{subject} has no answer to a row of {gold.path}")
    classes, names = _classes(field, [gold.values[name] for name in ids])
    truth = np.asarray([classes[_key(gold.values[name])] for name in ids], dtype=np.int64)
    found = {name: _arm(field, classes, ids, answers) for name, answers in arms.items()}
    roles = _roles(list(arms))
    right = [found[name].predicted == truth for name in roles] if roles else []
    return Evaluation(
        field.name,
        subject,
        names,
        isinstance(field, ClosedField),
        truth,
        found,
        compare(found, truth, seed=seed),
        Scope(len(gold.values) - len(ids), gold.blank, len(audited & set(ids))),
        roles,
        pgr(right[0], right[1], right[2], seed=seed) if right else None,
    )


def _roles(arms: Sequence[str]) -> tuple[str, str, str] | None:
    """The arms of a PGR (weak, student, ceiling), None where two of the three are not there."""
    weak = WEAK if WEAK in arms else arms[0]
    student = STUDENT if STUDENT in arms else arms[0]
    return (weak, student, CEILING) if CEILING in arms[1:] and weak != student else None


def _classes(field: Voted, values: Sequence[Json]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Class per value's JSON text, and the classes' names: a closed field's options, or the values that
    gold has."""
    if isinstance(field, ClosedField):
        return {_key(value): index for index, value in enumerate(field.values)}, field.question.labels
    known = sorted({_key(value) for value in values})
    return {key: index for index, key in enumerate(known)}, tuple(known)


def _arm(field: Voted, classes: Mapping[str, int], ids: Sequence[str], answers: Answers) -> Arm:
    """An arm's answers in the order of `ids`, -1 where it has none; a value outside `classes` is one
    more class."""
    found = [answers.get(name, Answer(MISSING)) for name in ids]
    predicted = [-1 if answer.value == MISSING else classes.get(_key(answer.value), len(classes)) for answer in found]
    confidence = np.asarray([np.nan if answer.confidence is None else answer.confidence for answer in found])
    given = [answer for answer in found if answer.value != MISSING]
    size = len(field.values) if isinstance(field, ClosedField) else 0
    table = None
    if size and given and all(len(answer.probabilities) == size for answer in given):
        blank = (np.nan,) * size
        table = np.asarray([blank if answer.value == MISSING else answer.probabilities for answer in found])
    known = None if np.isnan(confidence).all() else confidence
    return Arm(np.asarray(predicted, dtype=np.int64), table, known, _basis(given))


def _basis(given: Sequence[Answer]) -> str:
    """What the answers' confidences rest on. A mixture is called one, and so never calibrated."""
    found = sorted({answer.basis for answer in given})
    return found[0] if len(found) == 1 else f"mixed: {', '.join(name or 'unknown' for name in found)}" if found else ""


def _key(value: Json) -> str:
    """A value's JSON text: 1 and true are the same number, but not the same answer."""
    return orjson.dumps(value).decode()
