"""Cascades of real models that no gold label taught (BENCHMARKS.md s.7 and s.8).

    python -m benchmarks.cascade_models trec sms_spam --folder runs --json out.json

A corpus is labelled with the product (`improve`; `--folder` may be that of `benchmarks.zero_to_strong`, whose answers
are then used). What that taught about the language model is its lesson: with it, it is the strong tier. A head on
MiniLM that is trained on the labels is the small one. Both answer other texts, without labels, and `certify` sets the
threshold there; further texts then go through the cascade. Gold is used on those only, to score.

Costs are at the prices given, in money per million tokens of each tier; latencies are as measured, one tier after the
other, with as many requests in flight as the engine takes.
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
from benchmarks.zero_to_strong import PLAN
from cascade.certify import Asked, CertifySettings, certify
from cascade.outcomes import Outcomes, serve, served, spent
from cascade.policy import QuestionPolicy
from cascade.record import record
from cascade.route import Tier
from cascade.scoring import score_table
from curator.confidence import Floats, Ints
from curator.engines import connect
from curator.engines.base import Engine
from curator.methods.demonstrations import Chooser
from curator.methods.zero_to_strong import Rounds, improve
from curator.pipeline import Curation
from curator.selection import SelectionPolicy
from curator.sources import open_source
from curator.store import Store
from curator.task import Classification, Task
from curator.taught import TaughtEngine, lesson_of
from curator.training.examples import TrainingSet
from curator.training.stored import train_heads
from curator.types import DecideRequest, Json, JsonObject, Price

SMALL, STRONG = "head on MiniLM", "Qwen2.5-Coder-0.5B"


@dataclass(frozen=True, slots=True)
class Course:
    """One data set: the task, and texts that calibrate and texts that test the cascade, with the latter's gold."""

    dataset: str
    task: Task[Classification]
    corpus: Sequence[Mapping[str, str]]
    traffic: Sequence[Mapping[str, str]]
    test: Sequence[Mapping[str, str]]
    folder: Path

    @property
    def gold(self) -> Ints:
        labels = list(self.task.questions[0].labels)
        return np.asarray([labels.index(row["label"]) for row in self.test])

    def requests(self, rows: Sequence[Mapping[str, str]]) -> list[DecideRequest]:
        return [DecideRequest(row["text"], self.task.questions, self.task.views[0].template) for row in rows]


def course_of(options: argparse.Namespace, dataset: str) -> Course:
    everything = rows_of(options.data, dataset, sys.maxsize)
    ends = np.cumsum([options.rows, options.traffic, options.test])
    parts = (everything[: ends[0]], everything[ends[0] : ends[1]], everything[ends[1] : ends[2]])
    return Course(dataset, task_of(dataset, everything, 1), *parts, options.folder)


async def labelled(course: Course, engine: Engine, options: argparse.Namespace) -> Curation[Classification]:
    """The corpus' labels after the rounds, the surest half of each class frozen as a dataset version."""
    course.folder.mkdir(parents=True, exist_ok=True)
    path = course.folder / f"{course.dataset}.jsonl"
    path.write_bytes(b"\n".join(orjson.dumps({"id": row["id"], "text": row["text"]}) for row in course.corpus))
    half = SelectionPolicy(coverage=0.5, coverage_of="class")
    plan = replace(PLAN, probes=options.probes, selection=half)
    rounds = Rounds(options.rounds, Chooser(options.examples), churn=0.0, retrieval=None)
    store = Store(course.folder / f"{course.dataset}.duckdb")
    return await improve(course.task, engine, store, source=open_source(str(path)), plan=plan, rounds=rounds)


async def answered(course: Course, tiers: Sequence[Tier]) -> tuple[Outcomes, Outcomes]:
    """What all tiers say to the traffic and to the test rows."""
    rows = [*course.traffic, *course.test]
    recording = await record(tiers, course.requests(rows), ids=[row["id"] for row in rows])
    outcomes = recording.outcomes[course.task.questions[0].name]
    place = np.arange(len(rows)) < len(course.traffic)
    return outcomes.take(place), outcomes.take(~place)


def operated(found: QuestionPolicy, test: Outcomes, gold: Ints) -> JsonObject:
    """The policy on the test rows, beside the strong tier alone."""
    scores = score_table(test, [rule.scorer for rule in found.rules])
    tier = serve(scores, np.asarray([rule.limit for rule in found.rules]))
    right: Floats = (test.answers == gold[:, None]).astype(np.float64)
    strong, answers = test.answers[:, -1], test.answers[np.arange(len(test)), tier]
    money, seconds = spent(test.cost, tier).mean(), spent(test.latency, tier).mean()
    return {
        "served_small": float((tier == 0).mean()),
        "disagree": float((answers != strong).mean()),
        "accuracy": float(served(right, tier).mean()),
        "strong_accuracy": float(right[:, -1].mean()),
        "small_accuracy": float(right[:, 0].mean()),
        "cost_saved": float(1 - money / test.cost[:, -1].mean()),
        "latency_saved": float(1 - seconds / test.latency[:, -1].mean()),
        "certificate": json.loads(found.certificate.model_dump_json()),
    }


async def run(options: argparse.Namespace, dataset: str) -> JsonObject:
    course = course_of(options, dataset)
    small, strong = (_price(text) for text in (options.small_price, options.strong_price))
    async with aclosing(connect(options.engine, **json.loads(options.settings))) as model:
        result = await labelled(course, model, options)
        lesson = course.folder / f"{dataset}-lesson.json"
        lesson_of(result.learned).save(lesson, options.engine)
        head = course.folder / f"{dataset}-head"
        train_heads(TrainingSet(result.store, course.task, result.version.version), head)
        async with aclosing(connect(f"head:{head}")) as cheap:
            tiers = (Tier(SMALL, cheap, small), Tier(STRONG, TaughtEngine(str(lesson), engine=model), strong))
            traffic, test = await answered(course, tiers)
    asked = Asked("label", "", course.task.questions[0].labels)
    found: dict[str, Json] = {}
    for alpha in options.alpha:
        policy = certify(traffic, asked, CertifySettings(alpha=alpha, delta=options.delta))
        found[f"{alpha:g}"] = operated(policy, test, course.gold)
        sys.stderr.write(f"{dataset} {alpha} {json.dumps(found[f'{alpha:g}'])}\n")
    return {"dataset": dataset, "corpus": len(course.corpus), "traffic": len(traffic), "test": len(test), **found}


def _price(text: str) -> Price:
    given, answered = map(float, text.split("/"))
    return Price(given, answered)


def show(row: JsonObject) -> None:
    for alpha, one in row.items():
        if isinstance(one, dict):
            certificate = one["certificate"]
            verdict = certificate["verdict"] if isinstance(certificate, dict) else ""
            print(
                f"{row['dataset']} alpha {alpha} {verdict}: small serves {one['served_small']:.1%}, disagrees "
                f"{one['disagree']:.1%}; accuracy {one['accuracy']:.3f}, strong only {one['strong_accuracy']:.3f}, "
                f"small only {one['small_accuracy']:.3f}; saved {one['cost_saved']:.1%} cost, "
                f"{one['latency_saved']:.1%} seconds",
                flush=True,
            )


async def main(options: argparse.Namespace) -> None:
    found: list[JsonObject] = []
    for dataset in options.datasets:
        found.append(await run(options, dataset))
        show(found[-1])
        if options.json:
            command = " ".join(["python -m benchmarks.cascade_models", *sys.argv[1:]])
            options.json.write_text(json.dumps({"command": command, "results": found}, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--rows", type=int, default=1000, help="rows of the corpus")
    parser.add_argument("--traffic", type=int, default=600, help="unlabelled rows that the policy is certified on")
    parser.add_argument("--test", type=int, default=500, help="rows that are only tested on")
    parser.add_argument("--probes", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=16)
    parser.add_argument("--alpha", type=float, nargs="+", default=[0.02, 0.05, 0.1])
    parser.add_argument("--delta", type=float, default=0.1)
    parser.add_argument("--small-price", default="0.01/0.01", help="per million tokens, in and out")
    parser.add_argument("--strong-price", default="0.10/0.10", help="per million tokens, in and out")
    parser.add_argument("--engine", default="vllm:wheel:qwen2.5-coder-0.5b")
    parser.add_argument("--settings", default='{"max_model_len": 4096}', help="engine settings as JSON")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--folder", type=Path, required=True, help="where stores, lessons and heads lie")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
