"""What tiers answered, as outcomes: how good an answer is where people checked it."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel

from cli.sheets import Checked
from cli.tier_answers import TierAnswers, outcomes_of
from curator.fields import Ordered
from curator.task import Task
from curator.types import Decision, Document


class Review(BaseModel):
    stars: Annotated[Literal[1, 2, 3, 4], Ordered()]
    fun: bool


TASK = Task(Review, "How is it?")


def answered(name: str, **levels: tuple[int, int] | None) -> TierAnswers:
    """Document -> the options that are answered to both questions."""
    decisions = {
        document: [Decision(tuple(0.0 if n == top else -9.0 for n in range(size)), 1.0, "labels") for top, size in pair]
        for document, given in levels.items()
        if given is not None
        for pair in [tuple(zip(given, (4, 2), strict=True))]
    }
    return TierAnswers(name, name, decisions, dict.fromkeys(decisions, 0.5), {}, {}, {})


def test_a_checked_score_may_be_as_far_off_as_is_tolerated_and_no_answer_is_wrong() -> None:
    tiers = [answered("small", a=(1, 0), b=(3, 0), c=None), answered("large", a=(0, 0), b=(2, 1), c=(0, 1))]
    checked = Checked(
        {"stars": {"a": 2, "b": 2, "c": 1}, "fun": {"a": True, "b": True}}, missed={"fun": frozenset("c")}
    )
    documents = [Document(name, name) for name in "abcd"]

    def quality(field: str, tolerance: int) -> list[list[float]]:
        return outcomes_of(TASK, documents, tiers, checked, tolerance)[field].quality[:3].tolist()

    assert quality("stars", 0) == [[1, 0], [0, 0], [0, 1]]
    assert quality("stars", 1) == [[1, 1], [0, 1], [0, 1]]
    assert quality("fun", 1) == [[1, 1], [1, 0], [0, 0]], "a predicate has no levels; what was passed over is wrong"
    found = outcomes_of(TASK, documents, tiers, checked)["stars"]
    assert np.isnan(found.quality[3]).all()
    assert found.cost[0].tolist() == [0.25, 0.25], "a request's money is shared among its questions"
    assert math.isnan(found.cost[2, 0])
