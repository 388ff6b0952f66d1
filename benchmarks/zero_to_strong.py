"""Zero-to-strong on real data sets and a real model (BENCHMARKS.md s.5): every round, and gold examples beside it.

    python -m benchmarks.zero_to_strong trec sms_spam --rows 1000 --seeds 3 --folder runs --json out.json

Runs the product: `improve` with 0, 1, 2, ... rounds on the same store, so that a longer run asks only what a
shorter one has not. `denoised` are a round's labels corrected by those of texts like them; with --denoise this is
done in every round, so that it chooses the examples too. `gold` is one round whose examples are as many rows with
their gold labels, from the other shards too: what examples are worth at best. Gold is used by that arm and to
score, and never enters a store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import orjson

from benchmarks.label_runs import rows_of, task_of
from curator.aggregate import Aggregated
from curator.annotate import Progress
from curator.confidence import log_normalise
from curator.denoising import Denoising, embedder, fit_corpus
from curator.engines import connect
from curator.engines.base import Engine
from curator.evaluation import evaluate
from curator.learning import Answers
from curator.methods.demonstrations import Chooser, Guesses
from curator.methods.zero_to_strong import Rounds, improve
from curator.pipeline import Plan, ask, curate, teach
from curator.requests import Prompting, shard_of
from curator.screening import Screening
from curator.sources import open_source
from curator.store import Store
from curator.task import Classification, Task
from curator.types import Json, JsonObject

PLAN = Plan(screening=Screening(exact=False, near=None))


@dataclass(frozen=True, slots=True)
class Job:
    """One data set under one seed."""

    dataset: str
    task: Task[Classification]
    gold: Mapping[str, str]
    corpus: Path
    store: Store
    seed: int
    examples: int

    @property
    def chooser(self) -> Chooser:
        return Chooser(self.examples, seed=self.seed)

    def score(self, probabilities: Mapping[str, Sequence[float]]) -> JsonObject:
        """Accuracy, macro-F1, calibration error and precision at coverage, against gold."""
        labels = list(self.task.questions[0].labels)
        names = sorted(self.gold)
        missing = [np.nan] * len(labels)
        table = np.asarray([probabilities.get(name, missing) for name in names], dtype=np.float64)
        scores = evaluate(table, np.asarray([labels.index(self.gold[name]) for name in names]))
        return {
            "accuracy": scores.accuracy.value,
            "macro_f1": scores.macro_f1.value,
            "ece": scores.ece,
            "precision": {f"{share:g}": value for share, value in scores.precision.items()},
        }


def denoised(job: Job, table: Mapping[str, Sequence[float]]) -> JsonObject:
    """Scores of the labels after denoising, which is what `Plan(denoising=...)` does with the last round's."""
    names = list(table)
    found = np.asarray([table[name] for name in names], dtype=np.float64)
    settings = Denoising()
    labels = {"label": job.task.questions[0].labels}
    corpus = fit_corpus([(names, {"label": found})], labels, embedder(job.store, settings.encoder), settings)
    own = Aggregated(found, found.max(axis=1), np.ones(len(names)), np.zeros(len(names)))
    mixed = corpus.combine("label", names, own).probabilities
    return job.score(dict(zip(names, mixed.tolist(), strict=True))) | {"denoising": corpus.report("label")}


async def rounds_of(job: Job, engine: Engine, most: int, plan: Plan) -> list[Json]:
    """Scores without examples, and after each round."""
    found: list[JsonObject] = []
    for number in range(most + 1):
        counts = Progress()
        if number:
            rounds = Rounds(number, job.chooser, churn=0.0)
            result = await improve(job.task, engine, job.store, plan=plan, rounds=rounds, progress=counts)
        else:
            source = open_source(str(job.corpus))
            result = await curate(job.task, engine, job.store, source=source, plan=plan, progress=counts)
        rows = {row.document.id: row.fields["label"] for row in result.rows()}
        table = {name: details["probabilities"] for name, details in rows.items() if isinstance(details, dict)}
        taken = {"sent": counts.sent, "input_tokens": counts.usage.input_tokens, "cached": counts.usage.cached_tokens}
        found.append({"round": number, **job.score(table), **taken})
        if plan.denoising is None:
            found[-1]["denoised"] = denoised(job, table)
        sys.stderr.write(f"{job.dataset} {job.seed} {json.dumps(found[-1])}\n")
    return list(found)


async def raw_of(job: Job, engine: Engine) -> JsonObject:
    """The model's own distribution, nothing removed."""
    (item,) = job.task.closed
    answers = Answers(job.task, job.store, engine.identity, PLAN.screening.key)
    pages = [(page.ids, np.exp(log_normalise(page.logprobs[item.name][:, 0]))) for page in answers.pages()]
    return job.score({name: row.tolist() for ids, rows in pages for name, row in zip(ids, rows, strict=True)})


async def gold_of(job: Job, engine: Engine, plan: Plan) -> JsonObject:
    """One round with gold examples."""
    (item,) = job.task.closed
    known = Guesses()
    chance = np.random.default_rng(job.seed)
    for name, label in job.gold.items():
        known.add(name, item.question.labels.index(label), float(chance.random()))
    shots = tuple(
        job.chooser.choose(
            job.task, job.store, {item.name: known}, {name: shard_of(name, 2) != at for name in job.gold}
        )
        for at in range(2)
    )
    prompting = Prompting(1, shots)
    answers = Answers(job.task, job.store, engine.identity, PLAN.screening.key, prompting, probes=plan.probes)
    with job.store.run("gold", {}) as run:
        await ask(answers, engine, run, plan, Progress())
    labeler = teach(answers, plan)
    found: dict[str, list[float]] = {}
    for page in answers.pages():
        probabilities = labeler.aggregate(page, item.name).probabilities
        found |= {name: row.tolist() for name, row in zip(page.ids, probabilities, strict=True)}
    return job.score(found)


def job_of(options: argparse.Namespace, dataset: str, seed: int) -> Job:
    rows = rows_of(options.data, dataset, options.rows)
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    corpus = folder / f"{dataset}.jsonl"
    corpus.write_bytes(b"\n".join(orjson.dumps({"id": row["id"], "text": row["text"]}) for row in rows))
    gold = {row["id"]: row["label"] for row in rows}
    task = task_of(dataset, rows, 1)
    return Job(dataset, task, gold, corpus, Store(folder / f"{dataset}.duckdb"), seed, options.examples)


async def main(options: argparse.Namespace) -> list[JsonObject]:
    found: list[JsonObject] = []
    plan = replace(PLAN, probes=options.probes, denoising=Denoising() if options.denoise else None)
    async with aclosing(connect(options.engine, **json.loads(options.settings))) as engine:
        for dataset in options.datasets:
            for seed in range(options.seeds):
                job = job_of(options, dataset, seed)
                rounds = await rounds_of(job, engine, options.rounds, plan)
                arms = {"raw": await raw_of(job, engine), "rounds": rounds, "gold": await gold_of(job, engine, plan)}
                found.append({"dataset": dataset, "seed": seed, "rows": len(job.gold), **arms})
                show(found[-1])
                save(options, found)
    return found


def show(row: JsonObject) -> None:
    raw, gold, rounds = row["raw"], row["gold"], row["rounds"]
    if isinstance(raw, dict) and isinstance(gold, dict) and isinstance(rounds, list):
        steps = " ".join(f"{one['accuracy']:.3f}/{one['ece']:.3f}" for one in rounds if isinstance(one, dict))
        print(f"{row['dataset']} {row['seed']}: raw {raw['accuracy']:.3f} rounds {steps} gold {gold['accuracy']:.3f}")


def save(options: argparse.Namespace, found: list[JsonObject]) -> None:
    if options.json:
        command = " ".join(["python -m benchmarks.zero_to_strong", *sys.argv[1:]])
        options.json.write_text(json.dumps({"command": command, "results": found}, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--engine", default="vllm:wheel:qwen2.5-coder-0.5b")
    parser.add_argument("--settings", default='{"max_model_len": 4096}', help="engine settings as JSON")
    parser.add_argument("--probes", type=int, default=0, help="texts without content, to estimate the class prior")
    parser.add_argument("--denoise", action="store_true", help="denoise the labels of every round")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--folder", type=Path, required=True, help="where stores lie")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
