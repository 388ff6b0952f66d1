"""Gold and answers, row by row."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from curator.errors import InputError
from curator.evaluation.answers import Answer, Gold
from curator.evaluation.joined import join
from curator.fields import read_fields
from curator.parsing import MISSING
from curator.task import classify

TOPIC = classify(["a", "b", "c"], "Which?").closed[0]


def answers(**values: str) -> dict[str, Answer]:
    return {name: Answer(value, 0.5, "batch") for name, value in values.items()}


def gold(**values: str) -> Gold:
    return Gold("gold.jsonl", values)


def test_rows_are_those_that_gold_and_the_first_arm_share():
    found = join(
        TOPIC,
        Gold("gold.jsonl", {"2": "b", "1": "a", "9": "c"}, blank=4),
        {"labels": answers(**{"1": "a", "2": "c", "3": "c"}), "other": answers(**{"2": "b"})},
        audited=frozenset({"1", "9"}),
    )
    assert found.gold.tolist() == [0, 1]
    assert found.arms["labels"].predicted.tolist() == [0, 2]
    assert found.arms["other"].predicted.tolist() == [-1, 1]
    assert (found.scope.unlabelled, found.scope.blank, found.scope.audited) == (1, 4, 1)
    assert (found.subject, found.comparison.baseline, found.names) == ("labels", "labels", ("a", "b", "c"))


@settings(deadline=None, max_examples=20)
@given(st.permutations(["1", "2", "3", "4", "5"]))
def test_the_order_of_the_files_never_matters(order):
    truth = dict(zip("12345", "abcab", strict=True))
    given_labels = dict(zip("12345", "abbac", strict=True))
    shuffled = join(
        TOPIC,
        gold(**{name: truth[name] for name in order}),
        {"labels": answers(**{name: given_labels[name] for name in reversed(order)})},
    )
    assert shuffled.comparison == join(TOPIC, gold(**truth), {"labels": answers(**given_labels)}).comparison


@pytest.mark.parametrize(
    ("names", "roles"),
    [
        (["labels", "student", "ceiling"], ("labels", "student", "ceiling")),
        (["labels", "weak", "ceiling"], ("weak", "labels", "ceiling")),
        (["labels", "ceiling", "weak", "student"], ("weak", "student", "ceiling")),
        (["labels", "ceiling"], None),
        (["labels", "weak", "student"], None),
    ],
)
def test_pgr_arms_are_found_by_their_names(names, roles):
    found = join(TOPIC, gold(x="a", y="b"), {name: answers(x="a", y="a") for name in names})
    assert found.roles == roles
    assert (found.recovery is None) is (roles is None)


def test_a_mixed_basis_is_never_calibrated():
    mixed = {"x": Answer("a", 0.5, "audited(60)"), "y": Answer("b", 0.5, "raw"), "z": Answer(MISSING, None, "odd")}
    arm = join(TOPIC, gold(x="a", y="b", z="c"), {"labels": mixed}).arms["labels"]
    assert arm.basis == "mixed: audited(60), raw"
    assert not arm.calibrated


def test_distributions_are_used_only_where_every_answer_has_one():
    whole = {"x": Answer("a", None, "", (0.8, 0.1, 0.1)), "y": Answer(MISSING)}
    arm = join(TOPIC, gold(x="a", y="b"), {"labels": whole}).arms["labels"]
    assert arm.probabilities is not None
    assert np.isnan(arm.probabilities[1]).all()
    assert arm.confidence is None
    assert arm.sure is not None
    assert arm.sure.tolist() == [0.8, 0.0]
    partly = {"x": Answer("a", None, "", (0.8, 0.1, 0.1)), "y": Answer("b")}
    assert join(TOPIC, gold(x="a", y="b"), {"labels": partly}).arms["labels"].probabilities is None


class Sum(BaseModel):
    total: Decimal


def test_an_open_field_is_right_where_the_values_are_equal():
    (total,) = read_fields(Sum, "How much?")
    given_values = {"x": Answer("2", 0.9), "y": Answer("17", 0.8), "z": Answer("5", 0.1)}
    found = join(total, gold(x="2", y="5", z="5"), {"labels": given_values})
    assert not found.closed
    assert found.comparison.scores["labels"].accuracy.value == pytest.approx(2 / 3)


def test_arms_that_share_no_row_are_refused():
    with pytest.raises(InputError, match=r"gold\.jsonl and other have no id in common"):
        join(TOPIC, gold(x="a", y="b"), {"labels": answers(x="a"), "other": answers(y="b")})
    with pytest.raises(InputError, match=r"gold\.jsonl and labels have no id in common"):
        join(TOPIC, gold(x="a"), {"labels": answers(z="a")})
    with pytest.raises(InputError, match="labels has no answer"):
        join(TOPIC, gold(x="a"), {"labels": {}})
    with pytest.raises(InputError, match="no arm"):
        join(TOPIC, gold(x="a"), {})
