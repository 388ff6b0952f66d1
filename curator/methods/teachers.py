"""Teachers out of what there is: the store's labels, a dataset version, an engine's answers in the store, a file.

All of them give document ids with answers; `teacher` puts those in the order of a pool's rows. No gold is read here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from curator.confidence import Floats, Ints
from curator.engines.base import EngineIdentity
from curator.errors import InputError
from curator.evaluation.answers import Answer, Answers
from curator.fields import ClosedField
from curator.learning import Answers as Asked
from curator.learning import learn
from curator.methods.students import Teacher
from curator.parsing import MISSING
from curator.store import Store
from curator.task import Output, Task
from curator.types import Json


def engine_answers(store: Store, task: Task[Output], identity: EngineIdentity, field: ClosedField) -> dict[str, Answer]:
    """What an engine answered to the task, without examples, as the store has it: freed of its label bias, and
    calibrated where people have audited enough.

    Raises: InputError if it answered nothing, naming the engines that have.
    """
    asked = Asked(task, store, identity)
    labeler = learn(asked)
    found: dict[str, Answer] = {}
    for page in asked.pages():
        aggregated = labeler.aggregate(page, field.name)
        confidence, basis = labeler.confidence(field.name, aggregated)
        for i, top in enumerate(aggregated.top):
            if top is not None:
                shares = tuple(map(float, aggregated.probabilities[i]))
                found[page.ids[i]] = Answer(field.values[top], float(confidence[i]), basis, shares)
    if not found:
        names = ", ".join(use.engine for use in store.status().engines) or "none yet: run goldless curate"
        raise InputError(
            f"{identity} has answered nothing of this task", hint=f"engines with answers in the store: {names}"
        )
    return found


def trained_on(store: Store, version: int) -> frozenset[str]:
    """The ids of a dataset version's rows: what a model that was trained on it has seen.

    Raises: InputError if there is no such version.
    """
    return store.version_documents(version)


def teacher(
    name: str, answers: Answers, ids: Sequence[str], field: ClosedField, seen: frozenset[str] = frozenset()
) -> Teacher:
    """A teacher of the rows `ids`; rows without an answer have none.

    An answer without probabilities gets its confidence on the label and the rest on the other options alike, and all of
    it on the label where it has no confidence either. Raises: InputError if it answers none of the rows.
    """
    places = {_key(value): place for place, value in enumerate(field.values)}
    table = np.full((len(ids), len(places)), np.nan)
    for row, key in enumerate(ids):
        answer = answers.get(key)
        if answer is not None and answer.value != MISSING:
            table[row] = _distribution(answer, places)
    if np.isnan(table).all():
        raise InputError(
            f"{name} answers none of the documents",
            hint=f"its ids are like {min(answers, default='')!r}, the documents' like {min(ids, default='')!r}",
        )
    bases = sorted({answer.basis for answer in answers.values() if answer.value != MISSING})
    return Teacher(name, table, bases[0] if len(bases) == 1 and bases[0] else "unknown", seen)


def right_options(values: Mapping[str, Json], ids: Sequence[str], field: ClosedField) -> Ints:
    """Values per id as option numbers (n,), -1 where there is none."""
    places = {_key(value): place for place, value in enumerate(field.values)}
    return np.array([places[_key(values[name])] if name in values else -1 for name in ids], dtype=np.int64)


def _distribution(answer: Answer, places: Mapping[tuple[str, Json], int]) -> Floats:
    label, size = places[_key(answer.value)], len(places)
    known = np.array(answer.probabilities, dtype=np.float64)
    # An audited label may differ from what the models said: the label counts then.
    if len(known) == size and known.sum() > 0 and known.argmax() == label:
        shares: Floats = known / known.sum()
        return shares
    top = 1.0 if answer.confidence is None else min(1.0, max(answer.confidence, 1.0 / size))
    found = np.full(size, (1.0 - top) / (size - 1))
    found[label] = top
    return found


def _key(value: Json) -> tuple[str, Json]:
    """1 and true are the same number, but not the same answer."""
    return type(value).__name__, value
