"""From `uncalibrated` to `audited`: people check a few rows, and the confidence becomes a probability.

    python examples/audits.py                       # labels, and writes to_check.csv
    python examples/audits.py --checked checked.csv # reads what people wrote, calibrates, selects again

The second run asks the model nothing. `examples/checked.csv` holds the answers of a person for the
reviews that come with the examples, so that you can try it at once.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import anyio
import numpy as np

from curator import (
    Audit,
    Classification,
    Curation,
    Engine,
    Plan,
    Screening,
    SelectionPolicy,
    Store,
    classify,
    connect,
    curate,
    open_source,
)

REVIEWS = Path(__file__).with_name("reviews.jsonl")
AUDITS = 30
"""Rows for people to check. 50 to 200 are usual; fewer than 20 are not used."""
FIELD = "label"


async def main(engine: Engine, source: Path, store_path: Path, checked: Path | None) -> None:
    """Label everything; take in what was checked, or say what to check."""
    store = Store(store_path)
    task = classify(["negative", "positive"], "Did the reviewer like the film?")
    if checked is not None:
        store.add_audits(task.id, read_checked(checked))
    plan = Plan(screening=Screening(near=None), selection=SelectionPolicy(min_confidence=0.0))
    async with aclosing(engine):
        result = await curate(task, engine, store, source=open_source(source), plan=plan)
    fields = result.report["fields"]
    found = fields[FIELD] if isinstance(fields, dict) else None
    assert isinstance(found, dict)
    print(f"{result.progress.sent} answers asked for; the confidence rests on {found['basis']}:", end=" ")
    print("calibrated" if found["calibrated"] else "uncalibrated")
    confidence = np.array([row.confidence for row in result.rows()])
    print(f"mean confidence {confidence.mean():.2f}, from {confidence.min():.2f} to {confidence.max():.2f}")
    if checked is None:
        write_to_check(result, store_path.with_name("to_check.csv"))


def write_to_check(result: Curation[Classification], path: Path) -> None:
    """A uniform sample of the rows, which is what a run takes audits for. People fill in the label."""
    rows = list(result.rows())
    chosen = random.Random(0).sample(rows, min(AUDITS, len(rows)))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", FIELD, "text"])
        writer.writerows([row.document.id, "", row.document.text] for row in chosen)
    print(f"wrote {path}: fill in the column {FIELD!r}, then run again with --checked {path}")


def read_checked(path: Path) -> Sequence[Audit]:
    """What people wrote; a row without an answer was not checked."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row[FIELD].strip()]
    return [Audit(row["id"], FIELD, row[FIELD].strip(), auditor="example") for row in rows]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", default="transformers:wheel:smollm2-135m")
    parser.add_argument("--source", type=Path, default=REVIEWS)
    parser.add_argument("--store", type=Path, default=Path("audits.duckdb"))
    parser.add_argument("--checked", type=Path, help="the CSV file with people's answers: id,label")
    given = parser.parse_args()
    anyio.run(main, connect(given.engine), given.source, given.store, given.checked)
