"""What progressive learning trains, on gsm8k (METHODS.md s.4): does fine-tuning on the kept set spare the strong model
where fine-tuning on all weak answers harms it, and what does DPO on the pairs do to both log-probabilities?

    python -m benchmarks.progressive --folder runs --parts weak stage1 stage2 --json progressive.json
    python -m benchmarks.preference_training --folder runs --arms base naive kept dpo --json out.json

Trains on what the first command left in its store, which is only read. Arms: `base`, the strong model as it is;
`naive`, fine-tuned on weak answers, right or wrong; `kept`, on as many rationales of the kept set; `dpo`, `kept` gone
on with on the pairs. All answer the same held-out questions greedily through vLLM. Each arm can be run by itself; one
that was stopped or killed goes on where it was, and a finished one is only read. Gold scores, and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import sys
from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa

from benchmarks.progressive import INSTRUCTION, PLAN, connect_to, in_flight
from curator.annotate import Progress
from curator.confidence import Bools
from curator.datasets import read_rows
from curator.engines import connect
from curator.equivalence import equal
from curator.evaluation.scores import accuracy, paired_difference
from curator.methods.replies import forms, greedy, replies, row_of
from curator.pipeline import answers_of, ask, prepare
from curator.preferences import freeze_preferences, read_preferences
from curator.sources import open_source
from curator.store import DATASET_INPUT, DatasetVersion, Store, VersionKind
from curator.task import Solution, Task, solve
from curator.training.examples import TrainingSet
from curator.training.pairs import PreferenceSet
from curator.training.preference import plan_preferences, prefer
from curator.training.preference_settings import DPOSettings
from curator.training.settings import SFTSettings, TrainingProgress
from curator.training.sft import fine_tune, plan
from curator.types import Document, JsonObject

ARMS = ("base", "naive", "kept", "dpo")
Row = tuple[Document, Solution[int]]
Numbers = Task[Solution[int]]


class World:
    """The store of `benchmarks.progressive`, the store that arms train from, and the folder of all that is made."""

    def __init__(self, options: argparse.Namespace) -> None:
        task: Numbers = solve(int, options.instruction)
        self.task = replace(task, sampling=replace(task.sampling, max_tokens=options.max_tokens))
        self.options = options
        self.source = Store(options.folder / "progressive.duckdb", create=False)
        self.folder: Path = options.folder / f"trained-{Path(options.strong.rpartition(':')[2]).name}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store = Store(self.folder / "training.duckdb")

    def weak_rows(self) -> list[Row]:
        """Every weak answer that is one, right or wrong, with its rationale."""
        texts = {item.id: item for page in self.source.documents() for item in page}
        weak = answers_of(greedy(self.task), self.source, connect_to(self.options, self.options.weak), PLAN)
        found: list[Row] = []
        for name, reply in replies(weak):
            (form,) = forms(self.task, [reply.finals[0]], texts[name].text)
            row = row_of(self.task, reply.texts[0], form) if form is not None else None
            found += [(texts[name], row)] if row else []
        return found

    def made(self, kind: VersionKind) -> DatasetVersion:
        """The last version of a kind that the source has. Raises: SystemExit if there is none yet."""
        wanted = (self.task.id, kind)
        found = [item for item in self.source.datasets() if (item.task_id, item.kind) == wanted]
        if not found:
            raise SystemExit(f"the store has no {kind} of this task yet: run benchmarks.progressive first")
        return found[-1]

    def kept_rows(self) -> list[Row]:
        """Both rationales of what the models agree on, after the last round."""
        version = self.made("labels").version
        return [(row.document, row.output) for row in read_rows(self.source, self.task, version)]

    def rows(self, arm: str) -> TrainingSet[Solution[int]]:
        """As many rows for either arm, of documents in a random order, frozen in the store of the arms."""
        given = self.weak_rows() if arm == "naive" else self.kept_rows()
        ids = sorted({document.id for document, _ in given})
        random.Random(self.options.seed).shuffle(ids)
        place = {name: number for number, name in enumerate(ids)}
        chosen = sorted(given, key=lambda row: place[row[0].id])[: self.options.train_rows]
        self.ingest(document for document, _ in chosen)
        page = [
            {
                "document_id": document.id,
                "output": row.model_dump_json(),
                "confidence": 1.0,
                "weight": 1.0,
                "fields": "{}",
            }
            for document, row in chosen
        ]
        with self.store.run("freeze", {"arm": arm}) as run:
            table = pa.Table.from_pylist(page, DATASET_INPUT)
            version = self.store.create_dataset(self.task.id, {"arm": arm}, [table], {}, run.id)
        return TrainingSet(self.store, self.task, version.version)

    def pairs(self) -> PreferenceSet[Solution[int]]:
        """The first pairs of Stage II."""
        pairs = list(read_preferences(self.source, self.made("preferences").version))[: self.options.pairs]
        self.ingest(pair.document for pair in pairs)
        with self.store.run("freeze", {"arm": "dpo"}) as run:
            version = freeze_preferences(self.task, self.store, run, pairs, {}, {})
        return PreferenceSet(self.store, self.task, version.version)

    def ingest(self, documents: Iterable[Document]) -> None:
        distinct = {document.id: document for document in documents}
        self.store.add_documents([list(distinct.values())], source="progressive", run_id="benchmark")


def train(world: World, arm: str) -> JsonObject:
    """Train an arm, unless it is done; returns what its record says."""
    options, folder = world.options, world.folder / arm
    if arm == "dpo":
        pairs, chosen = world.pairs(), preferring(world)
        sys.stderr.write(f"dpo: {plan_preferences(pairs, options.strong, chosen)}\n")
        return prefer(pairs, options.strong, folder, chosen, progress=tell).report
    settings = SFTSettings(
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        batch_size=8,
        micro_batch=options.micro_batch,
        max_length=options.max_length,
        evaluations=2,
        seed=options.seed,
    )
    data = world.rows(arm)
    sys.stderr.write(f"{arm}: {plan(data, options.strong, settings)}\n")
    return fine_tune(data, options.strong, folder, settings, progress=tell).report


def preferring(world: World) -> DPOSettings:
    """How the arm `dpo` is trained: from where `kept` ended."""
    options = world.options
    return DPOSettings(
        adapter=str(world.folder / "kept"),
        learning_rate=options.dpo_rate,
        nll_weight=options.nll_weight,
        batch_size=4,
        micro_batch=1,
        max_length=options.max_length,
        evaluations=4,
        seed=options.seed,
    )


def tell(progress: TrainingProgress) -> None:
    sys.stderr.write(f"{progress}\n")


async def answered(world: World, arm: str) -> tuple[list[str], Bools, Bools]:
    """(ids, whether answered, whether right) of the held-out questions, in their order."""
    options = world.options
    lines = (options.data / "gsm8k" / "test.jsonl").read_bytes().splitlines()[: options.questions]
    gold = {row["id"]: (row["question"], row["answer"]) for row in map(orjson.loads, lines)}
    corpus = world.folder / "held-out.jsonl"
    corpus.write_bytes(b"\n".join(orjson.dumps({"id": name, "text": text}) for name, (text, _) in gold.items()))
    store, task = Store(world.folder / f"answers-{options.questions}.duckdb"), greedy(world.task)
    tuned = {} if arm == "base" else {"adapter": str(world.folder / arm)}
    settings = json.loads(options.settings) | in_flight(options) | tuned
    engine = connect(f"{options.engine}:{options.strong}", **settings)
    answers = answers_of(task, store, engine, PLAN)
    with store.run("answer", {"arm": arm}) as run:
        await prepare(task, store, run, open_source(str(corpus)), PLAN)
        async with aclosing(engine):
            await ask(answers, engine, run, PLAN, Progress())
    said = {name: forms(task, [reply.finals[0]], gold[name][0])[0] for name, reply in replies(answers)}
    right = [said.get(name) is not None and equal(said[name], answer, text) for name, (text, answer) in gold.items()]
    return list(gold), np.array([said.get(name) is not None for name in gold]), np.array(right)


async def main(options: argparse.Namespace) -> None:
    world = World(options)
    found: JsonObject = json.loads(options.json.read_text())["arms"] if options.json.exists() else {}
    for arm in options.arms:
        report = {} if arm == "base" else train(world, arm)
        gc.collect()  # the trainer and its model; the next one is vLLM's
        if options.train_only:
            continue
        ids, said, right = await answered(world, arm)
        found[arm] = {
            "answered": float(said.mean()),
            "accuracy": float(right.mean()),
            "right": [name for name, good in zip(ids, right, strict=True) if good],
            "training": report,
        }
        save(options, found, ids)
        sys.stderr.write(f"{arm}: {right.mean():.3f} of {len(ids)}\n")


def save(options: argparse.Namespace, found: JsonObject, ids: list[str]) -> None:
    """Every arm, and by how much each differs from those before it, on the same questions."""
    right = {arm: np.array([name in set(one["right"]) for name in ids]).astype(np.int64) for arm, one in found.items()}
    gold = np.ones(len(ids), dtype=np.int64)
    differences = {
        f"{ours} - {theirs}": asdict(paired_difference(accuracy, right[ours], right[theirs], gold))
        for theirs, ours in combinations([arm for arm in ARMS if arm in right], 2)
    }
    sizes = {"questions": len(ids), "train_rows": options.train_rows, "pairs": options.pairs, "epochs": options.epochs}
    told = {**sizes, "micro_batch": options.micro_batch, "max_tokens": options.max_tokens, "batch": options.batch}
    flags = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in told.items())
    command = f"python -m benchmarks.preference_training --folder runs {flags} --json preference.json"
    result = {"command": command, "strong": options.strong, **sizes, "differences": differences, "arms": found}
    options.json.write_text(json.dumps(result, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--train-only", action="store_true", help="train now, answer later")
    parser.add_argument("--train-rows", type=int, default=64, help="for `naive` and for `kept`")
    parser.add_argument("--pairs", type=int, default=40, help="for `dpo`")
    parser.add_argument("--questions", type=int, default=100, help="held out, of the test split")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--dpo-rate", type=float, default=2e-5)
    parser.add_argument("--nll-weight", type=float, default=1.0)
    parser.add_argument("--micro-batch", type=int, default=2)
    parser.add_argument("--max-length", type=int, default=640, help="tokens of an example")
    parser.add_argument("--instruction", default=INSTRUCTION, help="as benchmarks.progressive was run with")
    parser.add_argument("--max-tokens", type=int, default=400, help="as benchmarks.progressive was run with")
    parser.add_argument("--weak", default="wheel:qwen2.5-coder-0.5b")
    parser.add_argument("--strong", default="wheel:qwen2.5-coder-1.5b")
    parser.add_argument("--engine", default="vllm", help="vllm or transformers")
    parser.add_argument("--settings", default='{"max_model_len": 2048}', help="engine settings as JSON")
    parser.add_argument("--batch", type=int, default=64, help="texts that grow at the same time, of vLLM")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("GOLDLESS_DATA", "../shared/data")))
    parser.add_argument("--folder", type=Path, required=True, help="where benchmarks.progressive's store lies")
    parser.add_argument("--json", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
