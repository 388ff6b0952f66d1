"""Label quality without gold (BENCHMARKS.md s.5): the half that asks the model.

Curates the first rows (shuffled by seed 0) of each dataset with the product itself and writes, for
`benchmarks.label_quality`, the log-probabilities beside gold. Gold never enters the store. The store
keeps every answer, so that a killed run goes on and a second one costs nothing.

    python -m benchmarks.label_runs trec sms_spam --rows 2000 --views 2 --folder runs
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import orjson

from curator.annotate import Progress
from curator.engines import connect
from curator.engines.base import Engine
from curator.learning import Answers
from curator.pipeline import Plan, curate
from curator.screening import Screening
from curator.sources import open_source
from curator.store import Store
from curator.task import Classification, Task, classify
from curator.types import TurnOrder

INSTRUCTIONS: Mapping[str, str] = {
    "trec": "What kind of answer does the question ask for?",
    "tweet_emotion": "Which emotion does the tweet express?",
    "scicite": "What is the citation in this sentence used for?",
    "sms_spam": "Is this SMS message spam or ham?",
    "banking77": "What does the customer want from the bank?",
}
SPLITS = ("train", "validation", "test")


def rows_of(data: Path, dataset: str, count: int) -> list[dict[str, str]]:
    """Up to `count` rows with id, text and label; the same ones every time."""
    files = [data / dataset / f"{split}.jsonl" for split in SPLITS]
    rows = [orjson.loads(line) for file in files if file.exists() for line in file.read_bytes().splitlines()]
    random.Random(0).shuffle(rows)
    return [{**row, "id": f"{dataset}-{index}"} for index, row in enumerate(rows[:count])]


def task_of(dataset: str, rows: Sequence[Mapping[str, str]], views: int) -> Task[Classification]:
    """The dataset's label names, in alphabetical order, as one choice: nothing tuned per dataset."""
    return classify(sorted({row["label"] for row in rows}), INSTRUCTIONS[dataset]).with_views(views)


def ordered(task: Task[Classification], order: TurnOrder) -> Task[Classification]:
    """The same task with what stands first in the prompt set."""
    views = tuple(replace(view, template=replace(view.template, order=order)) for view in task.views)
    return replace(task, views=views)


async def run(engine: Engine, data: Path, dataset: str, options: argparse.Namespace) -> dict[str, object]:
    """Curate one dataset and write its cache; returns what it took."""
    rows = rows_of(data, dataset, options.rows)
    task = ordered(task_of(dataset, rows, options.views), options.order)
    options.folder.mkdir(parents=True, exist_ok=True)
    corpus = options.folder / f"{dataset}.jsonl"
    corpus.write_bytes(b"\n".join(orjson.dumps({"id": row["id"], "text": row["text"]}) for row in rows))
    store, counts = Store(options.folder / f"{dataset}.duckdb"), Progress()
    # Every row is scored, so nothing is screened out.
    plan = Plan(screening=Screening(exact=False, near=None))
    result = await curate(task, engine, store, source=open_source(str(corpus)), plan=plan, progress=counts)
    gold = {row["id"]: row["label"] for row in rows}
    name = task.closed[0].name
    found = list(Answers(task, store, engine.identity).pages())
    ids = [document for page in found for document in page.ids]
    labels = list(task.questions[0].labels)
    np.savez_compressed(
        options.folder / f"{dataset}_{options.views}.npz",
        L=np.concatenate([page.logprobs[name] for page in found]),
        gold=np.array([labels.index(gold[document]) for document in ids]),
        labels=labels,
    )
    annotation = result.report["annotation"]
    return {"dataset": dataset, "engine": str(engine.identity), "views": options.views, "annotation": annotation}


async def main(options: argparse.Namespace) -> None:
    settings = json.loads(options.settings)
    async with aclosing(connect(options.engine, **settings)) as engine:
        for dataset in options.datasets:
            taken = await run(engine, options.data, dataset, options)
            sys.stdout.write(json.dumps(taken) + "\n")
            sys.stdout.flush()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", choices=sorted(INSTRUCTIONS))
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--order", choices=get_args(TurnOrder), default="auto", help="what stands first in the prompt")
    parser.add_argument("--engine", default="vllm:wheel:qwen2.5-coder-0.5b")
    parser.add_argument("--settings", default='{"max_model_len": 2048}', help="engine settings as JSON")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--folder", type=Path, required=True, help="where stores and caches lie")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
