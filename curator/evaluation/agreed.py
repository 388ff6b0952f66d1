"""What progressive learning kept, against gold. Gold is read here, after everything is kept.

Answers are the same by value (`curator.equivalence`); an answer that is missing is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

from curator.equivalence import equal
from curator.methods.agreed_rows import Kept
from curator.types import JsonObject

Gold = Mapping[str, tuple[str, str]]
"""Document -> (its question, the right answer)."""


def accuracy_of(forms: Mapping[str, str | None], gold: Gold) -> JsonObject:
    """How many documents have an answer, and the share of right answers among all that have gold."""
    said = {name: form for name, form in forms.items() if name in gold and form is not None}
    right = sum(equal(form, gold[name][1], gold[name][0]) for name, form in said.items())
    return {"documents": len(gold), "answered": len(said), "right": right, "accuracy": right / max(len(gold), 1)}


def grade_kept(kept: Kept, gold: Gold) -> JsonObject:
    """Both models' accuracy, the precision of what was kept, the recall of the weak model's right answers, and by how
    many points the precision is above the weak accuracy."""
    weak, strong = ({name: pair[side] for name, pair in kept.forms.items()} for side in (0, 1))
    right = {name for name, form in weak.items() if name in gold and equal(form, gold[name][1], gold[name][0])}
    ids = [name for name in kept.ids if name in gold]
    weak_accuracy = len(right) / max(len(gold), 1)
    precision = len(right.intersection(ids)) / max(len(ids), 1)
    return {
        "weak_accuracy": weak_accuracy,
        "strong_accuracy": accuracy_of(strong, gold)["accuracy"],
        "kept": len(ids),
        "precision": precision,
        "recall_of_right_weak": len(right.intersection(ids)) / max(len(right), 1),
        "lift": precision - weak_accuracy,
    }
