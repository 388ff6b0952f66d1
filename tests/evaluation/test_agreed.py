"""curator/evaluation/agreed.py: what was kept, voted and paired, against gold."""

from __future__ import annotations

import numpy as np
import pytest

from curator.evaluation.agreed import accuracy_of, after_audits, grade_kept, grade_pairs, grade_votes
from curator.methods.agreed_rows import Kept
from curator.methods.contrast import Ballots
from curator.preferences import Preference
from curator.types import Document, Message
from curator.votes import vote

GOLD = {name: ("How many?", answer) for name, answer in {"a": "$1,000", "b": "2", "c": "3", "d": "4"}.items()}


def test_accuracy_is_by_value_and_a_missing_answer_is_wrong():
    found = accuracy_of({"a": "1000", "b": "2 eggs", "c": "5", "d": None, "unknown": "1"}, GOLD)
    assert found == {"documents": 4, "answered": 3, "right": 2, "accuracy": 0.5}


def test_precision_recall_and_lift_of_what_was_kept():
    kept = Kept({"a": ("1000", "1000"), "b": ("2", "9"), "c": ("7", "7"), "d": (None, "4")}, documents=4)
    assert grade_kept(kept, GOLD) == {
        "weak_accuracy": 0.5,
        "strong_accuracy": 0.5,
        "kept": 2,
        "precision": 0.5,
        "recall_of_right_weak": 0.5,
        "lift": 0.0,
    }
    assert grade_kept(Kept(), GOLD)["precision"] == 0.0


def pair(name: str, chosen: str, rejected: str, rule: str) -> Preference:
    details = {"rule": rule, "chosen": {"answer": chosen}, "rejected": {"answer": rejected}}
    return Preference(Document(name, "How many?"), (Message("user", "How many?"),), "x", "y", 0.7, details)


def test_pairs_by_the_rule_that_made_them():
    pairs = [
        pair("a", "1000", "5", "up"),
        pair("b", "7", "2", "up"),
        pair("c", "3", "4", "over"),
        pair("z", "1", "2", ""),
    ]
    found = grade_pairs(pairs, GOLD)
    assert (found["pairs"], found["chosen_right"], found["rejected_wrong"]) == (
        3,
        pytest.approx(2 / 3),
        pytest.approx(2 / 3),
    )
    assert found["rules"] == {
        "over": {"pairs": 1, "chosen_right": 1.0, "rejected_wrong": 1.0},
        "up": {"pairs": 2, "chosen_right": 0.5, "rejected_wrong": 0.5},
    }


def test_votes_are_scored_by_share_and_by_the_discounted_share():
    cast = (("1000",) * 4, ("2", "2", "9", None), ("5",) * 4, (None,) * 4)
    found = grade_votes(Ballots(("a", "b", "c", "unknown"), (None,) * 4, cast, vote(cast)), GOLD)
    assert (found["questions"], found["accuracy"]) == (3, pytest.approx(2 / 3))
    # An empty answer takes its share of the votes with it.
    assert found["mean_share"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert found["mean_discounted"] < found["mean_share"]
    assert 0 <= found["ece_of_discounted"] <= 1
    assert found["ece_of_share"] == pytest.approx((0.5 + 1) / 3)


def test_audits_calibrate_votes_that_say_too_little():
    share = np.linspace(0.1, 1, 200)
    right = np.random.default_rng(0).random(200) < 0.5 + share / 2
    found = after_audits(share, right, draws=20)
    assert found["audits"] == 100
    assert found["before"] > 0.15
    assert found["after"] < 0.6 * found["before"]
    assert found["after"] == pytest.approx(found["chance"], abs=0.03)
    assert after_audits(share[:3], right[:3]) == {}
