"""Not run: read by the type checker, which must see the user's own type all the way through."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal, assert_type

from pydantic import BaseModel

from curator.engines.base import Engine
from curator.pipeline import Curation, curate
from curator.store import Store
from curator.task import Classification, Solution, Task, classify, solve


class Review(BaseModel):
    sentiment: Literal["negative", "positive"]


async def check(engine: Engine, store: Store) -> None:
    task = Task(Review, "What does the reviewer think?")
    assert_type(task, Task[Review])
    result = await curate(task, engine, store)
    assert_type(result, Curation[Review])
    for row in result.rows():
        assert_type(row.output, Review)
        assert_type(row.output.sentiment, Literal["negative", "positive"])
    assert_type(classify(["a", "b"], "Which?"), Task[Classification])
    assert_type(solve(Decimal, "How many?"), Task[Solution[Decimal]])
