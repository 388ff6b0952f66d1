"""Zero-to-strong where answers are sampled (BENCHMARKS.md s.5): gsm8k, part of `benchmarks.zero_to_strong`.

`raw` is one sample per question, `rounds` the vote without examples and after each round, `gold` one round whose
examples are gold rationales. Gold is used by that arm and to score, and never enters a store.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import orjson

from curator.annotate import Progress
from curator.engines.base import Engine
from curator.evaluation.scores import COVERAGES, ece
from curator.learning import Answers
from curator.methods.demonstrations import Chooser
from curator.methods.guesses import Guesses, found_in
from curator.methods.zero_to_strong import Rounds, improve
from curator.parsing import MISSING, normalise_number
from curator.pipeline import Curation, Plan, ask, curate, teach
from curator.requests import Prompting, shard_of
from curator.screening import Screening
from curator.sources import open_source
from curator.store import Store
from curator.task import Solution, Task, solve
from curator.types import Json, JsonObject, Solved

SOLVED = {"gsm8k": "Solve the problem. The answer is a whole number."}
"""Data set -> instruction."""
PLAN = Plan(screening=Screening(exact=False, near=None))


@dataclass(frozen=True, slots=True)
class Job:
    """One data set under one seed; `gold` holds the answers, `worked` the gold rationales."""

    dataset: str
    task: Task[Solution[int]]
    gold: Mapping[str, str]
    worked: Mapping[str, Solved]
    corpus: Path
    store: Store
    chooser: Chooser
    rounds: int

    def score(self, found: Guesses[str]) -> JsonObject:
        """Accuracy (no answer is wrong), calibration error of the vote share, and precision at coverage."""
        sure = dict(zip(found.ids, found.confidence, strict=True))
        said = {name: normalise_number(str(orjson.loads(value))) for name, value in found.labels().items()}
        right = np.array([said.get(name) == normalise_number(answer) for name, answer in self.gold.items()])
        confidence = np.array([sure.get(name, 0.0) for name in self.gold])
        order = np.argsort(-confidence, kind="stable")
        precision: dict[str, Json] = {
            f"{share:g}": float(right[order[: max(1, round(share * len(order)))]].mean()) for share in COVERAGES
        }
        scores: JsonObject = {"accuracy": float(right.mean()), "ece": ece(confidence, right)}
        return {**scores, "answered": len(said), "precision": precision}


async def solved(options: argparse.Namespace, dataset: str, seed: int, engine: Engine) -> JsonObject:
    """All arms of a data set whose answers are sampled."""
    job = job_of(options, dataset, seed)
    rounds: list[Json] = []
    arms: JsonObject = {"rounds": rounds}
    for number in range(job.rounds + 1):
        counts = Progress()
        if number:
            taught = Rounds(number, churn=0.0, solved=job.chooser)
            result = await improve(job.task, engine, job.store, plan=PLAN, rounds=taught, progress=counts)
        else:
            source = open_source(str(job.corpus))
            result = await curate(job.task, engine, job.store, source=source, plan=PLAN, progress=counts)
            arms["raw"] = one_sample(job, engine)
        taken = {"sent": counts.sent, "input_tokens": counts.usage.input_tokens, "cached": counts.usage.cached_tokens}
        rounds.append({"round": number, **job.score(guesses_of(result)), **taken})
        sys.stderr.write(f"{dataset} {seed} {json.dumps(rounds[-1])}\n")
    if not options.no_gold:
        arms["gold"] = await gold_of(job, engine)
    return {"dataset": dataset, "seed": seed, "rows": len(job.gold), "samples": job.task.samples, **arms}


def guesses_of(result: Curation[Solution[int]]) -> Guesses[str]:
    """The voted answers of a training set that keeps every row."""
    found: Guesses[str] = Guesses()
    for row in result.rows():
        found.add(row.document.id, orjson.dumps(row.output.answer).decode(), row.confidence)
    return found


def one_sample(job: Job, engine: Engine) -> JsonObject:
    """The first sample of every question: no vote, and so no confidence."""
    found: Guesses[str] = Guesses()
    for table in Answers(job.task, job.store, engine.identity, PLAN.screening.key).samples():
        for name, samples in zip(table["document_id"].to_pylist(), table["samples"].to_pylist(), strict=True):
            value = job.task.parse(samples[0])["answer"] if samples and samples[0] is not None else MISSING
            if value != MISSING:
                found.add(name, orjson.dumps(value).decode(), 1.0)
    return job.score(found)


async def gold_of(job: Job, engine: Engine) -> JsonObject:
    """One round with gold rationales from the other shard."""
    names = sorted(job.worked)
    random.Random(job.chooser.seed).shuffle(names)
    elsewhere = [[name for name in names if shard_of(name, 2) != at][: job.chooser.count] for at in range(2)]
    shown = tuple(tuple(job.worked[name] for name in shard) for shard in elsewhere)
    answers = Answers(job.task, job.store, engine.identity, PLAN.screening.key, Prompting(1, solved=shown))
    with job.store.run("gold", {}) as run:
        await ask(answers, engine, run, PLAN, Progress())
    return job.score(found_in(answers, teach(answers, PLAN)).voted["answer"])


def job_of(options: argparse.Namespace, dataset: str, seed: int) -> Job:
    rows = rows_of(options.data / dataset, options.rows)
    options.folder.mkdir(parents=True, exist_ok=True)
    corpus = options.folder / f"{dataset}.jsonl"
    corpus.write_bytes(b"\n".join(orjson.dumps({"id": row["id"], "text": row["question"]}) for row in rows))
    task = solve(int, SOLVED[dataset], samples=options.samples)
    # A model samples once more under another seed; examples are drawn by it too.
    task = replace(task, sampling=replace(task.sampling, seed=seed))
    return Job(
        dataset,
        task,
        {row["id"]: row["answer"] for row in rows},
        {row["id"]: Solved(row["question"], f"{row['rationale']}\nAnswer: {row['answer']}") for row in rows},
        corpus,
        Store(options.folder / f"{dataset}.duckdb"),
        replace(Rounds().solved, seed=seed),
        options.rounds,
    )


def rows_of(folder: Path, count: int) -> Sequence[dict[str, str]]:
    """Up to `count` rows of the test split, the same ones every time."""
    rows = [orjson.loads(line) for line in (folder / "test.jsonl").read_bytes().splitlines()]
    random.Random(0).shuffle(rows)
    return [{**row, "id": f"{folder.name}-{index}"} for index, row in enumerate(rows[:count])]
