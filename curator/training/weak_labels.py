"""A dataset version as texts and weak labels: what classification heads are trained on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import orjson

from curator.datasets import Row, read_rows
from curator.errors import InputError
from curator.fields import ClosedField
from curator.store import Store
from curator.task import Output, Task
from curator.training.supervision import Floats, Supervision
from curator.types import JsonObject, Template


def read_supervision(
    store: Store, task: Task[Output], version: int, *, soft: bool = True, template: Template | None = None
) -> tuple[list[str], list[Supervision]]:
    """The texts of a version, and the weak labels of each of the task's closed fields.

    With `soft` a target is the label's probabilities, where they are known and agree with the label; otherwise all
    of its mass lies on the label. Weights are the rows'. With a `template` the heads read the whole prompt.

    Raises: InputError if there is no such version, it was made with another task, or the task has no closed field.
    """
    if not task.closed:
        raise InputError("the task has no closed field to train a head for", hint="bool, Literal or Enum is closed")
    made = store.dataset(version)
    if made.task_id != task.id:
        raise InputError(
            f"version {version} was made with task {made.task_id}, this is task {task.id}",
            hint="pass the task that it was made with",
        )
    rows = list(read_rows(store, task, version))
    weights = np.array([row.weight for row in rows], dtype=np.float64)
    labels: list[JsonObject] = [orjson.loads(row.output.model_dump_json()) for row in rows]
    fields = []
    for item in task.closed:
        chosen = np.array([item.values.index(label[item.name]) for label in labels], dtype=np.int64)
        targets = np.eye(len(item.values))[chosen]
        if soft:
            targets = _softened(targets, rows, item)
        fields.append(Supervision(item.question, targets, weights, template, made.hash))
    return [row.document.text for row in rows], fields


def _softened(hard: Floats, rows: Sequence[Row[Output]], item: ClosedField) -> Floats:
    """The labels' probabilities in place of hard targets. An audited label may differ from what the models said:
    the label counts then."""
    targets = hard.copy()
    for place, row in enumerate(rows):
        details = row.fields.get(item.name)
        known = details.get("probabilities") if isinstance(details, dict) else None
        if isinstance(known, list) and len(known) == targets.shape[1]:
            values = np.array(known, dtype=np.float64)
            if np.isfinite(values).all() and values.sum() > 0 and values.argmax() == hard[place].argmax():
                targets[place] = values / values.sum()
    return targets
