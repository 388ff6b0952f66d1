"""Students of labels made without gold (BENCHMARKS.md s.5), against their own ceilings.

    python -m benchmarks.students trec sms_spam --rows 1000 --seeds 3 --folder runs --json out.json

Labels the corpus with the product (`improve`, denoised; `--folder` may be that of `benchmarks.zero_to_strong`, whose
answers are then used) and trains students on it: a head on MiniLM, and with --lora SmolLM2-135M. Arms, all tested on
the same unseen rows: the surest half of each class, a random subset of the same size, all labels, gold labels for
all rows (the ceiling) and for the random subset. Gold is used by those arms and to score, and never enters a store.
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
from curator.annotate import Progress
from curator.confidence import Floats, Ints
from curator.datasets import Row
from curator.denoising import Denoising
from curator.engines import connect
from curator.engines.base import Engine
from curator.engines.encoder import Encoder
from curator.engines.features import FeatureCache
from curator.engines.known import DEFAULT_ENCODER
from curator.evaluation import evaluate
from curator.methods.demonstrations import Chooser
from curator.methods.zero_to_strong import Rounds, improve
from curator.pipeline import Curation, curate
from curator.sources import open_source
from curator.store import Store
from curator.task import Classification, Task
from curator.training.examples import TrainingSet
from curator.training.head_settings import HeadSettings
from curator.training.heads import train_head
from curator.training.settings import SFTSettings
from curator.training.sft import fine_tune
from curator.types import DecideRequest, Json, JsonObject

SMALL = "wheel:smollm2-135m"
Rows = list[Row[Classification]]


@dataclass(frozen=True, slots=True)
class Lesson:
    """What an arm learns from: places of training rows, and a distribution for each."""

    places: Ints
    targets: Floats


@dataclass(frozen=True)
class Course:
    """One data set under one seed: labelled rows, their gold, and rows that are only tested on."""

    dataset: str
    task: Task[Classification]
    store: Store
    rows: Rows
    labels: Floats
    gold: Ints
    test: Sequence[Mapping[str, str]]
    test_gold: Ints
    seed: int

    def lessons(self, share: float) -> dict[str, Lesson]:
        """Arm -> its lesson. The random subset is as large as the surest one."""
        everyone = np.arange(len(self.rows))
        tops, sure = self.labels.argmax(axis=1), self.labels.max(axis=1)
        surest = [np.flatnonzero(tops == option) for option in np.unique(tops)]
        surest = [rows[np.argsort(-sure[rows], kind="stable")][: max(5, round(share * len(rows)))] for rows in surest]
        chosen = np.sort(np.concatenate(surest))
        drawn = np.sort(np.random.default_rng(self.seed).choice(everyone, len(chosen), replace=False))
        given, right = np.eye(self.labels.shape[1]), np.eye(self.labels.shape[1])[self.gold]
        return {
            "surest": Lesson(chosen, given[tops[chosen]]),
            "random": Lesson(drawn, given[tops[drawn]]),
            "all": Lesson(everyone, self.labels),
            "gold": Lesson(everyone, right),
            "gold_random": Lesson(drawn, right[drawn]),
        }

    def score(self, probabilities: Floats) -> JsonObject:
        scores = evaluate(probabilities, self.test_gold)
        return {"accuracy": scores.accuracy.value, "macro_f1": scores.macro_f1.value, "ece": scores.ece}


async def labelled(options: argparse.Namespace, engine: Engine, dataset: str, seed: int) -> Course:
    """The corpus, labelled by the product."""
    rows = rows_of(options.data, dataset, options.rows + options.test)
    train, test = rows[: options.rows], rows[options.rows :]
    options.folder.mkdir(parents=True, exist_ok=True)
    corpus = options.folder / f"{dataset}.jsonl"
    corpus.write_bytes(b"\n".join(orjson.dumps({"id": row["id"], "text": row["text"]}) for row in train))
    task, store = task_of(dataset, train, 1), Store(options.folder / f"{dataset}.duckdb")
    counts, plan = Progress(), replace(PLAN, probes=options.probes, denoising=Denoising())
    await curate(task, engine, store, source=open_source(str(corpus)), plan=plan, progress=counts)
    rounds = Rounds(options.rounds, Chooser(options.examples, seed=seed), churn=0.0)
    result = await improve(task, engine, store, plan=plan, rounds=rounds, progress=counts)
    found, table = _rows(result)
    names, truth = list(task.questions[0].labels), {row["id"]: row["label"] for row in rows}
    gold, test_gold = (
        np.asarray([names.index(truth[name]) for name in ids])
        for ids in ([row.document.id for row in found], [row["id"] for row in test])
    )
    return Course(dataset, task, store, found, table, gold, test, test_gold, seed)


def _rows(result: Curation[Classification]) -> tuple[Rows, Floats]:
    rows = list(result.rows())
    details = [row.fields["label"] for row in rows]
    table = [one["probabilities"] for one in details if isinstance(one, dict)]
    return rows, np.asarray(table, dtype=np.float64)


def heads(course: Course, lessons: Mapping[str, Lesson]) -> JsonObject:
    """A linear head on MiniLM's features, per arm."""
    encoder = Encoder(DEFAULT_ENCODER)
    cache = FeatureCache(encoder, encoder.identity.key)
    features = cache.encode([row.document.text for row in course.rows])
    unseen = cache.encode([row["text"] for row in course.test])
    found: JsonObject = {}
    for arm, lesson in lessons.items():
        settings = HeadSettings(seed=course.seed)
        trained = train_head(features[lesson.places], lesson.targets, np.ones(len(lesson.places)), settings)
        found[arm] = {"rows": len(lesson.places), **course.score(np.exp(trained.linear.logprobs(unseen)))}
    return found


@dataclass(frozen=True)
class Given(TrainingSet[Classification]):
    """Training rows that are no dataset version of the store."""

    given: tuple[Row[Classification], ...] = ()

    def rows(self) -> Rows:
        return list(self.given)


async def tuned(course: Course, lessons: Mapping[str, Lesson], folder: Path, rows: int) -> JsonObject:
    """SmolLM2-135M with LoRA, per arm, on at most so many rows; `before` is the model as it comes."""
    found: JsonObject = {"before": course.score(await asked(course, connect(f"transformers:{SMALL}")))}
    settings = SFTSettings(epochs=1, batch_size=8, max_length=384, evaluations=1, learning_rate=5e-4, seed=course.seed)
    for arm, lesson in lessons.items():
        if arm in ("surest", "random", "gold_random"):
            places = np.random.default_rng(course.seed).permutation(len(lesson.places))[:rows]
            given = tuple(_relabelled(course, lesson, place) for place in places)
            name = folder / f"{course.dataset}-{course.seed}-{arm}"
            await asyncio.to_thread(fine_tune, Given(course.store, course.task, None, given), SMALL, name, settings)
            answers = await asked(course, connect(f"transformers:{SMALL}", adapter=str(name)))
            found[arm] = {"rows": len(given), **course.score(answers)}
            sys.stderr.write(f"{course.dataset} {course.seed} lora {arm} {json.dumps(found[arm])}\n")
    return found


def _relabelled(course: Course, lesson: Lesson, place: int) -> Row[Classification]:
    label = course.task.questions[0].labels[int(lesson.targets[place].argmax())]
    row = course.rows[lesson.places[place]]
    return replace(row, output=course.task.output.model_validate({"label": label}), confidence=1.0, weight=1.0)


async def asked(course: Course, engine: Engine) -> Floats:
    """The engine's own distribution for every test row."""
    async with aclosing(engine):
        requests = [
            DecideRequest(row["text"], course.task.questions, course.task.views[0].template) for row in course.test
        ]
        limit = asyncio.Semaphore(max(1, engine.concurrency))

        async def ask(request: DecideRequest) -> Sequence[float]:
            async with limit:
                answer = (await engine.decide(request)).answers[0]
            return answer.probabilities if answer else [np.nan] * course.labels.shape[1]

        return np.asarray(await asyncio.gather(*map(ask, requests)), dtype=np.float64)


async def main(options: argparse.Namespace) -> None:
    found: list[Json] = []
    for dataset in options.datasets:
        for seed in range(options.seeds):
            async with aclosing(connect(options.engine, **json.loads(options.settings))) as engine:
                course = await labelled(options, engine, dataset, seed)
            lessons = course.lessons(options.share)
            accuracy = float((course.labels.argmax(axis=1) == course.gold).mean())
            row: JsonObject = {"dataset": dataset, "seed": seed, "labels": accuracy, "head": heads(course, lessons)}
            if options.lora:
                row["lora"] = await tuned(course, lessons, options.folder / "lora", options.lora)
            found.append(row)
            show(row)
            save(options, found)


def show(row: JsonObject) -> None:
    for student in ("head", "lora"):
        if isinstance(arms := row.get(student), dict):
            shown = " ".join(f"{arm} {one['accuracy']:.3f}" for arm, one in arms.items() if isinstance(one, dict))
            print(f"{row['dataset']} {row['seed']} labels {row['labels']:.3f}; {student}: {shown}", flush=True)


def save(options: argparse.Namespace, found: list[Json]) -> None:
    if options.json:
        command = " ".join(["python -m benchmarks.students", *sys.argv[1:]])
        options.json.write_text(json.dumps({"command": command, "results": found}, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--test", type=int, default=500, help="rows that are only tested on")
    parser.add_argument("--probes", type=int, default=64, help="texts without content, to estimate the class prior")
    parser.add_argument("--share", type=float, default=0.5, help="how much of each class the surest rows are")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--lora", type=int, default=0, help="fine-tune SmolLM2-135M on so many rows too")
    parser.add_argument("--engine", default="vllm:wheel:qwen2.5-coder-0.5b")
    parser.add_argument("--settings", default='{"max_model_len": 4096}', help="engine settings as JSON")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--folder", type=Path, required=True, help="where stores lie")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
