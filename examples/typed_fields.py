"""Several typed fields about one text, each with its own confidence.

    python examples/typed_fields.py --engine transformers:wheel:smollm2-135m

A closed field (bool, Literal, Enum, a bounded int) is answered with a probability per option; the
questions are asked in two ways, and the views' answers are averaged.
"""

from __future__ import annotations

import argparse
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Literal

import anyio
from pydantic import BaseModel, Field

from curator import Engine, Labels, Ordered, Plan, Screening, Store, Task, connect, curate, open_source

REVIEWS = Path(__file__).with_name("reviews.jsonl")


class Review(BaseModel):
    """What a review says."""

    sentiment: Literal["negative", "positive"]
    recommends: bool = Field(description="Would the reviewer tell a friend to see the film?")
    strength: Annotated[Literal["mild", "clear", "strong"], Ordered()] = Field(
        description="How strong is the reviewer's opinion?"
    )
    praised: Annotated[
        Literal["story", "acting", "pictures", "humor"] | None,
        Labels(descriptions={"pictures": "camera, animation, effects"}, none="nothing"),
    ] = Field(description="What does the reviewer praise most?")


async def main(engine: Engine, source: Path, store: Path) -> None:
    """Label every review; print a few, and what each field's confidence rests on."""
    task = Task(Review, "This is a review of a film.").with_views(2)
    plan = Plan(screening=Screening(near=None), limit=12)
    async with aclosing(engine):
        result = await curate(task, engine, Store(store), source=open_source(source), plan=plan)
    for row in list(result.rows())[:4]:
        review = row.output  # a Review: type checkers know its fields
        print(f"{row.document.text[:60]!r}")
        for name, details in row.fields.items():
            if isinstance(details, dict):
                print(f"    {name:10} {getattr(review, name)!s:10} {details['confidence']:.2f}  {details['flags']}")
    fields = result.report["fields"]
    for name, found in fields.items() if isinstance(fields, dict) else ():
        if isinstance(found, dict):
            calibrated = "calibrated" if found["calibrated"] else "uncalibrated"
            print(f"{name:10} basis {found['basis']}, {calibrated}; views differ on {found['order_flip_rate']:.0%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", default="transformers:wheel:smollm2-135m")
    parser.add_argument("--source", type=Path, default=REVIEWS)
    parser.add_argument("--store", type=Path, default=Path("typed_fields.duckdb"))
    given = parser.parse_args()
    anyio.run(main, connect(given.engine), given.source, given.store)
