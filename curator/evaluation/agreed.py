"""What progressive learning kept, against gold. Gold is read here, after everything is kept.

Answers are the same by value (`curator.equivalence`); an answer that is missing is wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from curator.calibration import calibrate_with_audits
from curator.confidence import Bools, Floats
from curator.equivalence import equal
from curator.evaluation.scores import ece
from curator.methods.agreed_rows import Kept
from curator.methods.contrast import Ballots
from curator.preferences import Preference
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


def grade_pairs(pairs: Iterable[Preference], gold: Gold) -> JsonObject:
    """How many pairs there are whose documents have gold, and the shares whose chosen side is right and whose rejected
    side is wrong, over all and by the rule that made them."""
    found: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for pair in (one for one in pairs if one.document.id in gold):
        question, answer = gold[pair.document.id]
        right = [equal(_answered(pair.details, side), answer, question) for side in ("chosen", "rejected")]
        found[str(pair.details["rule"])].append((right[0], not right[1]))
    everything = [row for rows in found.values() for row in rows]
    return {**_shares(everything), "rules": {rule: _shares(rows) for rule, rows in sorted(found.items())}}


def grade_votes(ballots: Ballots, gold: Gold) -> JsonObject:
    """The majority's accuracy, and the calibration error of the plain vote share and of the discounted one, over the
    documents with gold; a document without a majority counts as wrong with confidence 0. `audited` is what checking
    half of them would make of the share (`after_audits`)."""
    rows = [row for row, name in enumerate(ballots.ids) if name in gold]
    right = np.array(
        [equal(ballots.result.values[row], gold[ballots.ids[row]][1], gold[ballots.ids[row]][0]) for row in rows]
    )
    share, discounted = ballots.share[rows], np.nan_to_num(ballots.result.confidence)[rows]
    return {
        "questions": len(rows),
        "accuracy": float(right.mean()),
        "mean_share": float(share.mean()),
        "mean_discounted": float(discounted.mean()),
        "ece_of_share": ece(share, right),
        "ece_of_discounted": ece(discounted, right),
        "vote_correlation": ballots.result.correlation,
        "audited": after_audits(share, right),
    }


def after_audits(confidence: Floats, right: Bools, *, draws: int = 100) -> JsonObject:
    """The calibration error of `confidence` (n,) `before` and `after` each half of the rows is mapped to the chance of
    being right by what people say of the other half (`calibrate_with_audits`). `chance` is what the error of mapped
    rows would come to if they were calibrated exactly: so few are never right just as often as they should be. Means of
    `draws`; nothing for less than four rows."""
    rows, half = len(right), len(right) // 2
    if half < 2:
        return {}
    found = []
    for draw in range(draws):
        random = np.random.default_rng(draw)
        order, mapped = random.permutation(rows), np.empty(rows)
        for checked, others in ((order[:half], order[half:]), (order[half:], order[:half])):
            mapped[others] = calibrate_with_audits(confidence[checked], right[checked]).transform(confidence[others])
        found.append((ece(mapped, right), ece(mapped, random.random(rows) < mapped)))
    after, chance = np.mean(found, axis=0).tolist()
    return {"audits": half, "before": ece(confidence, right), "after": after, "chance": chance}


def _answered(details: JsonObject, side: str) -> str:
    found = details[side]
    return str(found["answer"]) if isinstance(found, dict) else ""


def _shares(rows: Sequence[tuple[bool, bool]]) -> JsonObject:
    count = len(rows)
    chosen, rejected = (sum(row[side] for row in rows) / max(count, 1) for side in (0, 1))
    return {"pairs": count, "chosen_right": chosen, "rejected_wrong": rejected}
