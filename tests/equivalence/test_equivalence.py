"""curator/equivalence: which answers are the same, and the one form that stands for all of them."""

from __future__ import annotations

import random

import pytest

from curator.equivalence import asks_percentage, classes, equal

SHARE = "What percentage of the eggs is broken?"


def never(left: str, right: str) -> bool:
    raise AssertionError(f"{left!r} and {right!r} are no expressions")


@pytest.mark.parametrize(
    ("left", "right", "question"),
    [
        ("1/2", "0.5", ""),
        ("50%", "0.5", "Which part is left?"),
        ("50%", "1/2", ""),
        ("50%", "50", SHARE),
        ("$1,200", "1200", ""),
        ("12 apples", "12", "How many apples?"),
        ("90 minutes", "1.5 hours", "How long?"),
        ("90", "90 minutes", "How many minutes?"),
        ("50 cents", "$0.50", ""),
        ("(B)", "B", ""),
        ("Option b", "B) 12 apples", ""),
        ("3:30", "3:30", ""),
        ("3:30 PM", "3:30 pm.", ""),
        ("Paris", "paris.", ""),
        ("1,000,000", "1e6", ""),
    ],
)
def test_equal_answers(left, right, question):
    assert equal(left, right, question)
    assert equal(right, left, question)


@pytest.mark.parametrize(
    ("left", "right", "question"),
    [
        ("50%", "0.5", SHARE),
        ("50%", "50", "How many are left?"),
        ("1/3", "0.333", ""),
        ("3:30", "3.5", "When?"),
        ("3:30", "330", "When?"),
        ("2:1", "2", ""),
        ("A", "B", ""),
        ("5 m", "5 cm", ""),
        ("90 minutes", "90 hours", ""),
        ("12", "-12", ""),
        ("1200", "1.2", ""),
        ("Paris", "London", ""),
        (None, None, ""),
        ("5", None, ""),
    ],
)
def test_unequal_answers(left, right, question):
    assert not equal(left, right, question)
    assert not equal(right, left, question)


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        (SHARE, True),
        ("He ate 3. By how many percent did it grow?", True),
        ("Express it as a %.", True),
        ("What is 20% of 50?", False),
        ("It fell by 20 percent. What does it cost now?", False),
        ("The percentage grew. How many are there?", False),
    ],
)
def test_a_question_that_asks_for_a_percentage(question, wanted):
    assert asks_percentage(question) is wanted


def test_a_class_has_the_form_of_its_most_frequent_member_whatever_the_order():
    answers = ["1.5 hours", "90 minutes", "90 minutes", "90", "95", None, "$95"]
    wanted = ["90", "90", "90", "90", "95", None, "95"]
    assert classes(answers, same=never) == wanted
    for seed in range(5):
        order = random.Random(seed).sample(range(len(answers)), len(answers))
        found = classes([answers[i] for i in order], same=never)
        assert found == [wanted[i] for i in order]


def test_expressions_join_the_class_of_the_number_that_they_are():
    asked = []

    def same(left: str, right: str) -> bool:
        asked.append((left, right))
        return {left, right} in ({r"2\sqrt{4}", "4"}, {r"2\sqrt{4}", r"\sqrt{16}"})

    assert classes(["4", r"2\sqrt{4}", r"\sqrt{16}", "x+y"], same=same) == ["4", "4", "4", "x+y"]
    assert all(left != right for left, right in asked)
