"""Weak labels: what cannot be learnt from is refused with a way out, and what is held out leaves every class."""

from __future__ import annotations

import numpy as np
import pytest

from curator.errors import InputError
from curator.training.supervision import Supervision, check_supervision, split, strata
from curator.types import Option, Question

LABELS = ("a", "b", "c")
QUESTION = Question("q", "choice", "?", tuple(map(Option, LABELS)))


def table(labels: str) -> np.ndarray:
    return np.eye(3)[[LABELS.index(label) for label in labels]]


def test_hard_labels_become_distributions_and_a_missing_one_has_no_weight():
    found = Supervision.of_labels(QUESTION, ["c", None, "a"], [0.5, 0.9, 1.0])
    assert found.targets[[0, 2]].tolist() == [[0, 0, 1], [1, 0, 0]]
    assert found.weights.tolist() == [0.5, 0, 1]
    with pytest.raises(InputError, match="'z' is no option of 'q'"):
        Supervision.of_labels(QUESTION, ["a", "z"])


def test_the_digest_follows_the_labels():
    first = Supervision.of_labels(QUESTION, ["a", "b"])
    assert first.digest == Supervision.of_labels(QUESTION, ["a", "b"], [1.0, 1.0]).digest
    assert first.digest != Supervision.of_labels(QUESTION, ["a", "c"]).digest
    assert first.digest != Supervision.of_labels(QUESTION, ["a", "b"], [1.0, 0.5]).digest


@pytest.mark.parametrize(
    ("labels", "message", "hint"),
    [
        ("abc" * 1 + "ab", "5 labelled rows are too few", "annotate more documents"),
        ("a" * 20, "every row is labelled 'a'", "class-balanced quotas"),
        ("ab" * 10, "no row is labelled 'c'", "take these options out"),
    ],
)
def test_labels_that_cannot_be_learnt_from(labels, message, hint):
    with pytest.raises(InputError, match=message) as raised:
        check_supervision(len(labels), table(labels), np.ones(len(labels)), LABELS)
    assert hint in raised.value.hint


def test_rows_without_weight_do_not_count():
    labels = "abc" * 5
    weights = np.array([0.0 if label == "c" else 1.0 for label in labels])
    with pytest.raises(InputError, match="no row is labelled 'c'"):
        check_supervision(15, table(labels), weights, LABELS)
    broken = table(labels)
    broken[2] = np.nan
    check_supervision(15, broken, np.array([1.0, 1.0, 0.0] + [1.0] * 12), LABELS)


@pytest.mark.parametrize("row", [[0.5, 0.2, 0.2], [1.5, -0.5, 0.0], [np.nan, 0.5, 0.5], [np.inf, 0.0, 0.0]])
def test_a_row_that_is_no_distribution(row):
    targets = table("abc" * 5)
    targets[4] = row
    with pytest.raises(InputError, match="row 4 of the targets is no distribution"):
        check_supervision(15, targets, np.ones(15), LABELS)


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_a_weight_that_is_none(weight):
    weights = np.ones(15)
    weights[3] = weight
    with pytest.raises(InputError, match="a weight is negative, infinite or NaN"):
        check_supervision(15, table("abc" * 5), weights, LABELS)


def test_shapes_that_do_not_fit():
    with pytest.raises(InputError, match="targets must be 16 rows x 3 options"):
        check_supervision(16, table("abc" * 5), np.ones(15), LABELS)
    with pytest.raises(InputError, match=r"weights must be one per row \(15\)"):
        check_supervision(15, table("abc" * 5), np.ones(14), LABELS)


def test_the_split_is_stratified_seeded_and_leaves_every_class_a_row():
    targets = table("a" * 40 + "b" * 20 + "c")
    weights = np.ones(61)
    weights[0] = 0
    groups = strata([targets], [weights])
    train, held = split(groups, 0.25, seed=1)
    assert sorted([*train, *held]) == list(range(1, 61))
    assert targets[held].sum(axis=0).tolist() == [10, 5, 0]
    again = split(groups, 0.25, seed=1)
    assert (train == again[0]).all()
    assert (held == again[1]).all()
    assert (held != split(groups, 0.25, seed=2)[1]).any()
    assert len(split(groups, 0.0, seed=1)[1]) == 0


def test_strata_are_combinations_of_fields():
    one, two = table("aabbc"), table("abbbc")
    groups = strata([one, two], [np.ones(5), np.array([1, 1, 1, 1, 0.0])])
    assert len(set(groups.tolist())) == 4
    assert groups[2] == groups[3]
    assert strata([one], [np.array([0, 1, 1, 1, 1.0])])[0] == -1
