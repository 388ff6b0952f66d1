"""Classify reviews with a real model: texts in, a versioned training set out.

    python examples/classify_reviews.py --engine transformers:wheel:smollm2-135m

Run it twice: the second time nothing is sent, because every answer is in the store.
"""

from __future__ import annotations

import argparse
from contextlib import aclosing
from pathlib import Path

import anyio

from curator import Engine, Plan, Screening, SelectionPolicy, Store, classify, connect, curate, open_source

REVIEWS = Path(__file__).with_name("reviews.jsonl")
LABELS = {"negative": "the reviewer did not like the film", "positive": "the reviewer liked the film"}


async def main(engine: Engine, source: Path, store: Path) -> None:
    """Label every review and print the most and the least certain ones."""
    task = classify(LABELS, "Did the reviewer like the film?")
    plan = Plan(
        screening=Screening(near=None, filters={"length": {"min_words": 3}}),
        selection=SelectionPolicy(coverage=0.8),  # the surest 80%
    )
    async with aclosing(engine):
        result = await curate(task, engine, Store(store), source=open_source(source), plan=plan)
    print(f"{result.progress.sent} answers asked for, {result.progress.reused} from before")
    print(f"dataset version {result.version.version} has {result.version.rows} rows")
    rows = sorted(result.rows(), key=lambda row: -row.confidence)
    for row in [*rows[:3], *rows[-3:]]:
        print(f"{row.confidence:.2f}  {row.output.label:8}  {row.document.text[:60]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", default="transformers:wheel:smollm2-135m")
    parser.add_argument("--source", type=Path, default=REVIEWS)
    parser.add_argument("--store", type=Path, default=Path("classify_reviews.duckdb"))
    given = parser.parse_args()
    anyio.run(main, connect(given.engine), given.source, given.store)
