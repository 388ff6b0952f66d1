"""Zero-to-strong on real data sets and a real model (BENCHMARKS.md s.5): every round, and gold examples beside it.

    python -m benchmarks.zero_to_strong trec sms_spam --rows 1000 --seeds 3 --folder runs --json out.json

Runs the product: `improve` with 0, 1, 2, ... rounds on the same store, so that a longer run asks only what a
shorter one has not. `denoised` are a round's labels corrected by those of texts like them; with --denoise this is
done in every round, so that it chooses the examples too. `gold` is one round whose examples are as many rows with
their gold labels, from the other shards too: what examples are worth at best. Gold is used by that arm and to
score, and never enters a store.

A label set that is large enough for a shortlist (banking77) has more arms, and nothing random: --fresh gives it other
documents under every seed. `retrieval` holds, per round, the labels and
what the encoder alone said before the model was asked; `encoder` is the rounds of an encoder without a model, the
product asked with an engine that prefers nothing, and takes no model (`--encoder-only`). gsm8k is
`benchmarks._sampled_rounds`.
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

from benchmarks._sampled_rounds import SOLVED, solved
from benchmarks.label_runs import rows_of, task_of
from curator.aggregate import Aggregated
from curator.annotate import Progress
from curator.confidence import log_normalise
from curator.denoising import Denoising, embedder, fit_corpus
from curator.engines import connect
from curator.engines.base import Engine, EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.evaluation import evaluate
from curator.labeling import Labeler, fit
from curator.learning import Answers, learn, probe_priors
from curator.methods.demonstrations import Chooser
from curator.methods.guesses import Guesses, found_in
from curator.methods.lookup import Retrieval, Space
from curator.methods.retrieval import Guide, suited
from curator.methods.zero_to_strong import Rounds, improve
from curator.pipeline import Plan, answers_of, ask, curate, prepare, teach
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


async def retrieval_of(job: Job, engine: Engine, most: int) -> list[Json]:
    """Per round, with the shortlist: scores of the labels, and of the encoder's ranking before the question.

    Walks through what `improve` has asked; gold is only scored with."""
    (item,) = job.task.closed
    settings = Retrieval()
    guide, found = Guide(settings, Space.of(settings.encoder)), None
    answers, history = Answers(job.task, job.store, engine.identity, PLAN.screening.key), list[Json]()
    for number in range(most + 1):
        priors = guide.look_up(answers, found)
        pages = answers.store.documents(kept_by=answers.kept_by)
        known = {
            document.id: np.exp(aid.shortlists[item.name].prior).tolist()
            for page in pages
            for document, aid in zip(page, priors.look_up(page), strict=True)
        }
        retriever = guide.look_up(answers, found)
        prompting = Prompting(number, retriever=retriever)
        answers = answers.then(prompting) if number else replace(answers, prompting=prompting)
        with job.store.run("retrieval", {}) as run:
            await ask(answers, engine, run, PLAN, counts := Progress())
        labeler = teach(answers, PLAN)
        found = found_in(answers, labeler)
        scores = {"labels": job.score(_labelled(answers, labeler)), "encoder": job.score(known)}
        history.append({"round": number, **scores, "looked_up": retriever.report(), "sent": counts.sent})
        sys.stderr.write(f"{job.dataset} {job.seed} {json.dumps(history[-1])}\n")
    return history


async def encoder_of(job: Job, most: int) -> list[Json]:
    """The same without a model: an engine that prefers nothing leaves what the encoder says."""
    indifferent = ScriptedEngine(
        decide=lambda request: [1.0] * len(request.questions[0].options),
        identity=EngineIdentity("scripted", "indifferent"),
    )
    with job.store.run("ingest", {}) as run:
        await prepare(job.task, job.store, run, open_source(str(job.corpus)), PLAN)
    return await retrieval_of(job, indifferent, most)


def _labelled(answers: Answers[Classification], labeler: Labeler) -> dict[str, list[float]]:
    """Document -> probabilities."""
    (item,) = answers.task.closed
    found: dict[str, list[float]] = {}
    for page in answers.pages():
        probabilities = labeler.aggregate(page, item.name).probabilities
        found |= {name: row.tolist() for name, row in zip(page.ids, probabilities, strict=True)}
    return found


async def raw_of(job: Job, engine: Engine) -> JsonObject:
    """The model's own distribution, nothing removed."""
    (item,) = job.task.closed
    answers = Answers(job.task, job.store, engine.identity, PLAN.screening.key)
    pages = [(page.ids, np.exp(log_normalise(page.logprobs[item.name][:, 0]))) for page in answers.pages()]
    return job.score({name: row.tolist() for ids, rows in pages for name, row in zip(ids, rows, strict=True)})


async def gold_of(job: Job, engine: Engine, plan: Plan) -> JsonObject:
    """One round with gold examples, under the class prior that the model's own rounds have."""
    (item,) = job.task.closed
    known: Guesses[int] = Guesses()
    chance = np.random.default_rng(job.seed)
    for name, label in job.gold.items():
        known.add(name, item.question.labels.index(label), float(chance.random()))
    shots = tuple(
        job.chooser.choose(
            job.task, job.store, {item.name: known}, {name: shard_of(name, 2) != at for name in job.gold}
        )
        for at in range(2)
    )
    plain = answers_of(job.task, job.store, engine, plan)
    answers = replace(plain, prompting=Prompting(1, shots))
    with job.store.run("gold", {}) as run:
        await ask(answers, engine, run, plan, Progress())
    priors = probe_priors(plain, learn(plain)) if plan.probes else None
    return job.score(_labelled(answers, fit(job.task, answers.pages(), answers.documents, priors)))


def job_of(options: argparse.Namespace, dataset: str, seed: int) -> Job:
    everything = rows_of(options.data, dataset, sys.maxsize)
    first = seed * options.rows if options.fresh else 0
    rows = everything[first : first + options.rows]
    folder = options.folder / str(seed) if options.fresh else options.folder
    folder.mkdir(parents=True, exist_ok=True)
    corpus = folder / f"{dataset}.jsonl"
    corpus.write_bytes(b"\n".join(orjson.dumps({"id": row["id"], "text": row["text"]}) for row in rows))
    gold = {row["id"]: row["label"] for row in rows}
    # A sample may lack some of many labels.
    task = task_of(dataset, everything, 1)
    return Job(dataset, task, gold, corpus, Store(folder / f"{dataset}.duckdb"), seed, options.examples)


async def main(options: argparse.Namespace) -> list[JsonObject]:
    found: list[JsonObject] = []
    async with aclosing(connect(options.engine, **json.loads(options.settings))) as engine:
        for dataset in options.datasets:
            for seed in range(options.seeds):
                if dataset in SOLVED:
                    row = await solved(options, dataset, seed, engine)
                else:
                    row = await decided(options, dataset, seed, engine)
                found.append(row)
                show(found[-1])
                save(options, found)
    return found


async def decided(options: argparse.Namespace, dataset: str, seed: int, engine: Engine) -> JsonObject:
    """All arms of a data set with one choice."""
    job = job_of(options, dataset, seed)
    plan = replace(PLAN, probes=options.probes, denoising=Denoising() if options.denoise else None)
    about: JsonObject = {"dataset": dataset, "seed": seed, "rows": len(job.gold)}
    if options.encoder_only:
        return {**about, "encoder": await encoder_of(job, options.rounds)}
    arms: JsonObject = {"rounds": await rounds_of(job, engine, options.rounds, plan), "raw": await raw_of(job, engine)}
    if suited("auto", job.task):
        arms["retrieval"] = await retrieval_of(job, engine, options.rounds)
        arms["encoder"] = await encoder_of(job, options.rounds)
    if not options.no_gold:
        arms["gold"] = await gold_of(job, engine, plan)
    return {**about, **arms}


def show(row: JsonObject) -> None:
    """One line: accuracy/ECE of every arm, round by round."""
    cells = []
    for name in ("raw", "rounds", "retrieval", "encoder", "gold"):
        steps = row.get(name, [])
        scores = [one.get("labels", one) for one in (steps if isinstance(steps, list) else [steps])]
        if scores:
            cells.append(" ".join([name, *(f"{one['accuracy']:.3f}/{one['ece']:.3f}" for one in scores)]))
    print(f"{row['dataset']} {row['seed']}: {' '.join(cells)}")


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
    parser.add_argument("--fresh", action="store_true", help="other documents under every seed")
    parser.add_argument("--engine", default="vllm:wheel:qwen2.5-coder-0.5b")
    parser.add_argument("--settings", default='{"max_model_len": 4096}', help="engine settings as JSON")
    parser.add_argument("--probes", type=int, default=0, help="texts without content, to estimate the class prior")
    parser.add_argument("--denoise", action="store_true", help="denoise the labels of every round")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--folder", type=Path, required=True, help="where stores lie")
    parser.add_argument("--samples", type=int, default=10, help="of each question whose answers are sampled")
    parser.add_argument("--no-gold", action="store_true", help="leave the arm with gold examples out")
    parser.add_argument("--encoder-only", action="store_true", help="only the encoder's rounds, of many labels")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main(arguments()))
