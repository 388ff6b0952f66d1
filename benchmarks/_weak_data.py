"""What `benchmarks.weak_to_strong` works on: texts, gold to score with, disjoint halves, and frozen features.

Rows are split by a hash of their id: a teacher's half, on which weak models are trained; a student's half, which they
label; and the test rows, from the data set's own test split.

    python -m benchmarks._weak_data arc_easy scicite --encoders wheel:smollm2-135m wheel:qwen2.5-coder-0.5b

only fills the feature cache.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel

from curator.datasets import wide
from curator.engines import connect
from curator.engines.encoder import Encoder
from curator.engines.features import FeatureCache
from curator.pipeline import Plan, curate
from curator.requests import shard_of
from curator.screening import Screening
from curator.sources import open_source
from curator.store import Store
from curator.task import Task, classify
from curator.types import Question

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Features = NDArray[np.float32]

CHUNK = 250
"""Texts that are encoded before they are saved: a job that is killed loses no more."""
MAX_LENGTH = 128
MOST = (1500, 1600, 1000)
"""Rows of the teacher's half, of the student's, and of the test."""
CUES = {"arc_easy": "\nIs this answer right?", "scicite": "\nThe purpose of the citation is:"}
"""Ends what a causal model reads: its last token's state is the feature, and it should have heard the question."""


class Judgement(BaseModel):
    """What is asked about a question with a candidate."""

    right: bool


@dataclass(frozen=True, slots=True)
class Rows:
    """Texts with gold (n,), an index of the question's options. `groups` (n,) numbers the rows that stand or fall
    together: the two candidates of a question."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    gold: Ints
    groups: Ints

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class DataSet:
    """The three parts, and what is asked about each text."""

    name: str
    task: Task[BaseModel]
    teacher: Rows
    student: Rows
    test: Rows

    @property
    def question(self) -> Question:
        return self.task.questions[0]

    def shown(self, texts: Sequence[str], encoder: Encoder) -> list[str]:
        """What an encoder reads."""
        cue = CUES[self.name] if encoder.pooling == "last" else ""
        return [text + cue for text in texts]


def read(data: Path, name: str, most: Sequence[int]) -> DataSet:
    """A data set with at most so many rows in the teacher's half, the student's half and the test; the same ones every
    time."""
    task = Task(Judgement, "Is the answer right?") if name == "arc_easy" else _scicite_task(data)
    parse = _pairs if name == "arc_easy" else _sentences
    train = [row for line in _lines(data / name / "train.jsonl") for row in parse(line, task.questions[0])]
    held = [row for line in _lines(data / name / "test.jsonl") for row in parse(line, task.questions[0])]
    halves = [[row for row in train if shard_of(row[0].split("/")[0], 2) == half] for half in (0, 1)]
    teacher, student, test = most
    return DataSet(name, task, _rows(halves[0][:teacher]), _rows(halves[1][:student]), _rows(held[:test]))


_Row = tuple[str, str, int]


def _lines(path: Path) -> list[dict[str, object]]:
    rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    random.Random(0).shuffle(rows)
    return rows


def _scicite_task(data: Path) -> Task[BaseModel]:
    labels = sorted({str(row["label"]) for row in _lines(data / "scicite" / "train.jsonl")})
    return classify(labels, "What is the citation in this sentence used for?")


def _sentences(row: dict[str, object], question: Question) -> list[_Row]:
    return [(f"s{row['id']}", str(row["text"]), question.labels.index(str(row["label"])))]


def _pairs(row: dict[str, object], question: Question) -> list[_Row]:
    """One right and one wrong candidate, the wrong one drawn by the row's id."""
    choices = [str(choice).partition(") ")[::2] for choice in row["choices"]]  # type: ignore[attr-defined]
    right = [text for letter, text in choices if letter == row["answer"]]
    wrong = [text for letter, text in choices if letter != row["answer"]]
    if len(right) != 1 or not wrong:
        return []
    candidates = ((right[0], 0), (random.Random(str(row["id"])).choice(wrong), 1))
    return [(f"a{row['id']}/{gold}", f"Q: {row['question']}\nA: {text}", gold) for text, gold in candidates]


def _rows(found: Sequence[_Row]) -> Rows:
    numbers = {name: number for number, name in enumerate(dict.fromkeys(row[0].split("/")[0] for row in found))}
    return Rows(
        tuple(row[0] for row in found),
        tuple(row[1] for row in found),
        np.array([row[2] for row in found], dtype=np.int64),
        np.array([numbers[row[0].split("/")[0]] for row in found], dtype=np.int64),
    )


def open_encoder(spec: str) -> Encoder:
    """The encoder as all of the benchmark uses it; language models in bfloat16."""
    return Encoder(spec, max_length=MAX_LENGTH, dtype="float32" if "minilm" in spec else "bfloat16")


def features(encoder: Encoder, data: DataSet, rows: Rows) -> Features:
    """Features (n, d) from the cache; what is not there is encoded first, a chunk at a time."""
    cache = FeatureCache(encoder, encoder.identity.key)
    shown = data.shown(rows.texts, encoder)
    for start in range(0, len(shown), CHUNK):
        began = time.monotonic()
        cache.encode(shown[start : start + CHUNK])
        if (taken := time.monotonic() - began) > 1:
            done = min(start + CHUNK, len(shown))
            sys.stderr.write(f"{data.name} {encoder.identity.weights}: {done} of {len(shown)} ({taken:.0f} s)\n")
    return cache.encode(shown)


def zero_shot(data: DataSet, rows: Rows, spec: str, folder: Path) -> Floats:
    """A model's own answers (n, k), asked and freed of its label bias by the product; NaN where it has none. The store
    in `folder` keeps them, for any other rows too. No gold enters it."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{data.name}-{spec.rpartition(':')[2]}"
    corpus = folder / f"{name}.jsonl"
    content = [orjson.dumps({"id": key, "text": text}) for key, text in zip(rows.ids, rows.texts, strict=True)]
    corpus.write_bytes(b"\n".join(content))
    store = Store(folder / f"{name}.duckdb")
    asyncio.run(_label(data, store, spec, corpus))
    found, field = dict(wide(store, data.task.id)), data.task.closed[0].name
    blank = [np.nan] * len(data.question.labels)
    return np.array([found.get(key, {}).get(field, {}).get("probabilities") or blank for key in rows.ids], dtype=float)


async def _label(data: DataSet, store: Store, spec: str, corpus: Path) -> None:
    plan = Plan(screening=Screening(exact=False, near=None))
    async with aclosing(connect(spec)) as engine:
        await curate(data.task, engine, store, source=open_source(str(corpus)), plan=plan)


def main(options: argparse.Namespace) -> None:
    for spec in options.encoders:
        encoder = open_encoder(spec)
        for name in options.datasets:
            data = read(options.data, name, options.most)
            # A strong student reads its own half only.
            parts = [data.student, data.test] if "0.5b" in spec else [data.student, data.test, data.teacher]
            for rows in parts:
                features(encoder, data, rows)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+", choices=sorted(CUES))
    parser.add_argument("--encoders", nargs="+", required=True)
    parser.add_argument(
        "--most", type=int, nargs=3, default=MOST, help="rows of the teacher's half, the student's, test"
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    return parser.parse_args()


if __name__ == "__main__":
    main(arguments())
