"""Progressive weak-to-strong learning on gsm8k (METHODS.md s.4): both stages, scored with gold that they never see.

    python -m benchmarks.progressive --folder runs --parts weak zero_shot stage1 stage2 --json out.json

Runs the product (`agree`, `contrast`) on one store, so that every part can be run by itself, and again, and asks only
what has not been answered. `weak` and `zero_shot` are the two models' greedy answers without examples. One model is
loaded at a time. Gold is read to score, after everything is answered, and never enters the store.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from curator.annotate import Progress
from curator.engines import connect
from curator.engines.base import Engine
from curator.evaluation.agreed import accuracy_of, grade_kept, grade_pairs, grade_votes
from curator.methods.agreement import Agreed, Agreement, Setup, agree
from curator.methods.contrast import Contrast, contrast
from curator.methods.replies import forms, greedy, replies
from curator.pipeline import Plan, answers_of, ask, describe, prepare
from curator.preferences import read_preferences
from curator.screening import Screening
from curator.sources import open_source
from curator.store import Store
from curator.task import Solution, Task, solve
from curator.types import JsonObject

INSTRUCTION = "Solve the problem step by step. The answer is a whole number."
PLAN = Plan(screening=Screening(exact=False, near=None))
PARTS = ("weak", "zero_shot", "stage1", "stage2")


@dataclass(frozen=True, slots=True)
class Job:
    """The questions, and `gold`: question id -> (question, answer)."""

    task: Task[Solution[int]]
    corpus: Path
    store: Store
    gold: Mapping[str, tuple[str, str]]


def job_of(options: argparse.Namespace) -> Job:
    rows = [orjson.loads(line) for line in (options.data / "gsm8k" / "train.jsonl").read_bytes().splitlines()]
    random.Random(0).shuffle(rows)
    rows = rows[: options.rows]
    options.folder.mkdir(parents=True, exist_ok=True)
    corpus = options.folder / "questions.jsonl"
    corpus.write_bytes(b"\n".join(orjson.dumps({"id": row["id"], "text": row["question"]}) for row in rows))
    task = solve(int, INSTRUCTION)
    task = replace(task, sampling=replace(task.sampling, max_tokens=options.max_tokens))
    gold = {row["id"]: (row["question"], row["answer"]) for row in rows}
    return Job(task, corpus, Store(options.folder / "progressive.duckdb"), gold)


async def one_model(job: Job, engine: Engine, plan: Plan) -> JsonObject:
    """Greedy answers without examples to the first questions, and how many of them are right."""
    counts, task = Progress(), greedy(job.task)
    answers = answers_of(task, job.store, engine, plan)
    with job.store.run("answer", {}) as run:
        await prepare(task, job.store, run, open_source(str(job.corpus)), plan)
        async with aclosing(engine):
            await ask(answers, engine, run, plan, counts)
    said = {name: reply.finals[0] for name, reply in replies(answers)}
    asked = dict(list(job.gold.items())[: plan.limit])
    found = {name: forms(task, [said.get(name)], question)[0] for name, (question, _) in asked.items()}
    return {**accuracy_of(found, asked), "taken": describe(counts)}


async def kept(job: Job, options: argparse.Namespace, strong: Engine) -> Agreed[Solution[int]]:
    """Stage I, as the product does it."""
    setup = Setup(connect_to(options, options.weak), strong, agreement=Agreement(rounds=options.rounds))
    return await agree(job.task, setup, job.store, source=open_source(str(job.corpus)), plan=PLAN)


async def stage_one(job: Job, options: argparse.Namespace) -> JsonObject:
    """Both rounds: what is kept, and how much of it is right."""
    async with aclosing(connect_to(options, options.strong)) as strong:
        found = await kept(job, options, strong)
    rounds = [{**one.report, "gold": grade_kept(one.kept, job.gold)} for one in found.rounds]
    return {"rounds": rounds, "versions": [one.version.version for one in found.rounds]}


async def stage_two(job: Job, options: argparse.Namespace) -> JsonObject:
    """The votes and the pairs, on the first questions; all of Stage I is in the store by then."""
    plan = replace(PLAN, limit=options.contrasted)
    async with aclosing(connect_to(options, options.strong, options.samples)) as strong:
        found = await kept(job, options, strong)
        result = await contrast(found, strong, plan=plan, settings=Contrast(options.samples))
    asked = {name: job.gold[name] for name in result.ballots.ids}
    pairs = grade_pairs(read_preferences(job.store, result.version.version), asked)
    return {**result.report, "version": result.version.version, "votes": grade_votes(result.ballots, asked), **pairs}


def connect_to(options: argparse.Namespace, weights: str, samples: int = 1) -> Engine:
    """The engine that the options describe."""
    return connect(f"{options.engine}:{weights}", **json.loads(options.settings), **in_flight(options, samples))


def in_flight(options: argparse.Namespace, samples: int = 1) -> dict[str, int]:
    """As many requests at once as keep `--batch` texts growing."""
    return {"concurrency": max(1, options.batch // samples)} if options.engine == "vllm" else {}


async def main(options: argparse.Namespace) -> None:
    job = job_of(options)
    found: JsonObject = json.loads(options.json.read_text())["results"] if options.json.exists() else {}
    for part in options.parts:
        if part in ("weak", "zero_shot"):
            weights, limit = (options.weak, None) if part == "weak" else (options.strong, options.zero_shot)
            found[part] = await one_model(job, connect_to(options, weights), replace(PLAN, limit=limit))
        else:
            found[part] = await (stage_one if part == "stage1" else stage_two)(job, options)
        save(options, {"questions": len(job.gold), **found})
        sys.stderr.write(f"{part} {json.dumps(found[part])}\n")


def save(options: argparse.Namespace, found: JsonObject) -> None:
    parts = " ".join(part for part in PARTS if part in found)
    sizes = (
        f"--rows {options.rows} --rounds {options.rounds} --contrasted {options.contrasted} --samples {options.samples}"
    )
    texts = f"--max-tokens {options.max_tokens} --batch {options.batch}"
    command = f"python -m benchmarks.progressive {sizes} {texts} --folder runs --parts {parts}"
    models = {"weak": options.weak, "strong": options.strong}
    options.json.write_text(json.dumps({"command": command, "models": models, "results": found}, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rows", type=int, default=300, help="questions, of the training split")
    parser.add_argument("--zero-shot", type=int, help="the strong model alone answers so many")
    parser.add_argument("--rounds", type=int, default=2, help="of Stage I")
    parser.add_argument("--contrasted", type=int, default=100, help="Stage II samples the first so many")
    parser.add_argument("--samples", type=int, default=10, help="of each question in Stage II")
    parser.add_argument("--max-tokens", type=int, default=400)
    parser.add_argument("--engine", default="vllm", help="vllm or transformers")
    parser.add_argument("--weak", default="wheel:qwen2.5-coder-0.5b")
    parser.add_argument("--strong", default="wheel:qwen2.5-coder-1.5b")
    parser.add_argument("--settings", default='{"max_model_len": 4096}', help="engine settings as JSON")
    parser.add_argument("--batch", type=int, default=128, help="texts that grow at the same time, of vLLM")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("GOLDLESS_DATA", "../shared/data")))
    parser.add_argument("--folder", type=Path, required=True, help="where the store lies")
    parser.add_argument("--json", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
