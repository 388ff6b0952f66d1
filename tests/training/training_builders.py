"""A store with a dataset version, for the tests of training. Run as a program it trains, so that it can be killed:

python training_builders.py STORE BASE FOLDER MARKS

writes the number of every step to MARKS.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import orjson
import pyarrow as pa
from pydantic import BaseModel

from curator.store import DATASET_INPUT, Store
from curator.task import Task, classify
from curator.training.examples import TrainingSet
from curator.training.settings import SFTSettings, TrainingProgress
from curator.types import Document

TASK = classify(["positive", "negative"], "Tone?")
FAST = SFTSettings(epochs=2, batch_size=8, learning_rate=5e-3, dtype="float32", evaluations=4)


def rows(count: int, **extra: float) -> list[dict]:
    """Rows whose label can be told from the text."""
    return [
        {
            "id": f"d{i}",
            "text": f"film {i} is {'good' if i % 2 else 'dull'}",
            "output": {"label": "positive" if i % 2 else "negative"},
            "weight": 0.5 + (i % 5) / 10,
            **extra,
        }
        for i in range(count)
    ]


def training_set(path: Path, given: Sequence[dict], task: Task[BaseModel] = TASK) -> TrainingSet[BaseModel]:
    """A store at `path` with these rows as its next version."""
    store = Store(path, wait=20)
    documents = {row["id"]: Document(row["id"], row["text"], row.get("meta", {})) for row in given}
    store.add_documents([list(documents.values())], source="s", run_id="r")
    page = [
        {
            "document_id": row["id"],
            "output": orjson.dumps(row["output"]).decode(),
            "confidence": 0.9,
            "weight": row["weight"],
            "fields": "{}",
        }
        for row in given
    ]
    version = store.create_dataset(task.id, {}, [pa.Table.from_pylist(page, DATASET_INPUT)], {}, "r")
    return TrainingSet(store, task, version.version)


def main(store: str, base: str, folder: str, marks: str) -> None:
    from curator.training.sft import fine_tune

    def mark(progress: TrainingProgress) -> None:
        with Path(marks).open("a") as file:
            file.write(f"{progress.step}\n")
        time.sleep(0.2)

    fine_tune(TrainingSet(Store(store, wait=20), TASK), base, folder, FAST, progress=mark)


if __name__ == "__main__":
    main(*sys.argv[1:])
