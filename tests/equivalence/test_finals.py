"""curator/equivalence/finals.py: where the answer stands in what a model wrote."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel

from curator.equivalence.finals import final_answer
from curator.fields import Reasoning
from curator.task import Task, solve

NUMBER = solve(int, "How many?")
TEXT = solve(str, "Where?")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("3 * 4 = 12\nAnswer: $12", "$12"),
        ("**Answer:** 12 eggs", "12 eggs"),
        ("Answer: 20 - 5 = 15", "15"),
        ("The answer is 18. So she has 3 left", "18"),
        ("Answer: about 18 eggs, or so", "18"),
        ("Answer: 3\nNo. Answer: 4", "4"),
        (r"So \(\boxed{43}\).", "43"),
        (r"The final answer is: $\boxed{\frac{1}{2}}$", r"\frac{1}{2}"),
        ("She has 5 and then 7 eggs.", "7"),
        ("Answer: 10^{10}", None),
        ("Answer: none", None),
        ("Answer: <answer>", None),
        ("I cannot say.", None),
        ("Answer: " + "9" * 400, None),
    ],
)
def test_numbers_in_free_text(text, wanted):
    assert final_answer(NUMBER, text) == wanted


def test_a_text_that_was_cut_off_has_an_answer_only_where_it_says_so():
    assert final_answer(NUMBER, "First she buys 3", "length") is None
    assert final_answer(NUMBER, "First she buys 3", "stop") == "3"
    assert final_answer(NUMBER, "Answer: 3\nThen she", "length") == "3"
    assert final_answer(NUMBER, None) is None


def test_short_texts_need_the_marker():
    assert final_answer(TEXT, "It is far.\nAnswer: North Cape") == "North Cape"
    assert final_answer(TEXT, "It is the North Cape.") is None


class City(BaseModel):
    why: Annotated[str, Reasoning()]
    city: Literal["Paris", "Rome"]


class Count(BaseModel):
    why: Annotated[str, Reasoning()]
    eggs: int


def test_options_are_read_as_their_values_with_or_without_a_letter():
    task = Task(City, "Which city?", answer_format="text")
    assert final_answer(task, "It has a tower.\nAnswer: paris") == '"Paris"'
    assert final_answer(task, "It has a tower.\nAnswer: (A) Paris") == '"Paris"'
    assert final_answer(task, "Answer: London") is None


def test_json_answers():
    task = Task(Count, "How many eggs?")
    assert final_answer(task, '{"why": "3 + 4", "eggs": 7}') == "7"
    assert final_answer(task, '{"why": "3 + 4", "eggs": null}') is None
    assert final_answer(task, '{"why": "3 + 4"') is None
