"""What the confidences rest on: the corpus itself, a stronger model on a sample, or audited rows.

Without a reference or audits, label bias and class prior come from the corpus alone and the basis is
`batch`: corrected, not calibrated. With them, a monotone calibrator per field maps the confidence to
the chance of agreeing with the reference, or of being right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from curator.calibration import Calibrator, calibrate_with_audits, calibrate_with_reference
from curator.labeling import Labeler, Page, fit, pages
from curator.store import Audit, Store
from curator.task import Output, Task
from curator.types import Json

MIN_CHECKED = 20
"""Rows that a reference or people have answered, below which a calibrator would be noise."""


def learn(task: Task[Output], store: Store, *, kept_by: str | None = None, reference: str | None = None) -> Labeler:
    """Fit the closed fields on the corpus (the documents that `kept_by` keeps); then calibrate with
    audits where there are enough, else with the reference's answers where there are."""
    if not task.closed:
        return Labeler({})
    labeler = fit(task, pages(task, store.decisions(task.id, kept_by=kept_by)), store.count(kept_by))
    checked = _by_field(store.audits(task.id))
    calibrators = _calibrators(task, store, labeler, checked, None)
    if reference is not None:
        answers = reference_answers(task, store)
        calibrators = {**_calibrators(task, store, labeler, answers, reference), **calibrators}
    return replace(labeler, calibrators=calibrators)


def reference_task(task: Task[Output]) -> str:
    """The id under which a reference engine's annotations are kept."""
    return f"{task.id}@reference"


def reference_answers(task: Task[Output], store: Store) -> dict[str, dict[str, Json]]:
    """Field -> document -> the reference engine's answer (bias-corrected like any other engine's)."""
    found = list(pages(task, store.decisions(reference_task(task))))
    answers: dict[str, dict[str, Json]] = defaultdict(dict)
    if not found:
        return answers
    labeler = fit(task, found, sum(len(page.ids) for page in found))
    for page in found:
        for item in task.closed:
            for name, top in zip(page.ids, labeler.aggregate(page, item.name).top, strict=True):
                if top is not None:
                    answers[item.name][name] = item.values[top]
    return answers


def _by_field(audits: Sequence[Audit]) -> dict[str, dict[str, Json]]:
    """The last word counts where a document was audited twice."""
    found: dict[str, dict[str, Json]] = defaultdict(dict)
    for audit in audits:
        found[audit.field][audit.document_id] = audit.value
    return found


def _calibrators(
    task: Task[Output],
    store: Store,
    labeler: Labeler,
    checked: Mapping[str, Mapping[str, Json]],
    reference: str | None,
) -> dict[str, Calibrator]:
    """One calibrator per field with enough checked rows; audits where `reference` is None."""
    wanted = {name for name, rows in checked.items() if len(rows) >= MIN_CHECKED}
    if not wanted:
        return {}
    ids = {document for name in wanted for document in checked[name]}
    scores = _scores(task, labeler, pages(task, store.decisions(task.id)), checked, ids)
    calibrators = {}
    for name in wanted & scores.keys():
        confidence, right = (np.asarray(part) for part in zip(*scores[name], strict=True))
        if len(confidence) < MIN_CHECKED:
            continue
        if reference is None:
            calibrators[name] = calibrate_with_audits(confidence, right)
        else:
            calibrators[name] = calibrate_with_reference(confidence, right, reference)
    return calibrators


def _scores(
    task: Task[Output],
    labeler: Labeler,
    found: Iterable[Page],
    checked: Mapping[str, Mapping[str, Json]],
    ids: set[str],
) -> dict[str, list[tuple[float, bool]]]:
    """Field -> (confidence, whether the label is the checked one) for the checked documents."""
    scores: dict[str, list[tuple[float, bool]]] = defaultdict(list)
    for page in found:
        if ids.isdisjoint(page.ids):
            continue
        for item in task.closed:
            aggregated = labeler.aggregate(page, item.name)
            for i, (name, top) in enumerate(zip(page.ids, aggregated.top, strict=True)):
                if top is not None and name in checked.get(item.name, {}):
                    right = item.values[top] == checked[item.name][name]
                    scores[item.name].append((float(aggregated.confidence[i]), right))
    return scores
