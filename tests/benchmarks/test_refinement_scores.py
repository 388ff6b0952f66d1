"""benchmarks/refinement.py: the rules that answers are scored by."""

from __future__ import annotations

import pytest

from benchmarks.refinement import Item, choice, scored, style, table

ITEM = Item("Which?", {"A": "the sun", "B": "a rock", "C": "cold air", "D": "warm air"}, "B")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B) a rock", "B"),
        ("(C) cold air.", "C"),
        ("The correct answer is D) warm air.", "D"),
        ("Arr, matey! The right choice is B, for it be hard.", "B"),
        ("It could be A) or so. The answer is: C", "C"),
        ("Arr, matey! A rock, of course.", "B"),
        ("The sun or a rock?", ""),
        ("A compass points north.", ""),
        ("", ""),
    ],
)
def test_the_choice_of_an_answer(text: str, letter: str) -> None:
    assert choice(text, ITEM) == letter


def test_the_style_is_the_greeting() -> None:
    assert [style(text) for text in ("Arr, matey! B", '"Arr!" B', "Array B", "B, arr", "")] == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_arms_are_compared_question_by_question_and_no_answer_scores_nothing() -> None:
    asked = {f"q{number}": ITEM for number in range(4)}
    base = scored(dict.fromkeys(asked, "B) a rock"), asked)
    naive = scored({"q0": "Arr! B) a rock", "q1": "Arr! C) cold air"}, asked)
    rows = {row["arm"]: row for row in table({"base": base, "naive": naive})}
    assert rows["naive"]["answered"] == 2
    assert rows["naive"]["content"]["value"] == 0.25
    assert rows["naive"]["content_over_base"]["value"] == -0.75
    assert rows["naive"]["style_over_base"]["value"] == 0.5
    assert rows["base"]["content_over_base"] == {"value": 0.0, "low": 0.0, "high": 0.0}
