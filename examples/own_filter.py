"""A filter of your own, and what every rejected document is told.

    python examples/own_filter.py --engine transformers:wheel:smollm2-135m

A filter takes a document and returns a verdict with a machine-readable reason. What it raises rejects
that one document, with the reason `filter.error:<Type>`.
"""

from __future__ import annotations

import argparse
import re
from contextlib import aclosing
from pathlib import Path

import anyio

from curator import Document, Engine, Plan, Screening, Store, Verdict, classify, connect, curate, open_source

REVIEWS = Path(__file__).with_name("reviews.jsonl")
ADVERTISEMENT = re.compile(r"https?://|www\.|click here|\bsale\b", re.IGNORECASE)


def no_advertisements(document: Document) -> Verdict:
    """Reject texts that want to sell something."""
    if found := ADVERTISEMENT.search(document.text):
        return Verdict(False, "own.advertisement", f"it says {found[0]!r}")
    return Verdict(True)


async def main(engine: Engine, source: Path, store_path: Path) -> None:
    """Screen, label what is left, and say why the others were left out."""
    store = Store(store_path)
    screening = Screening(
        near=None,
        filters={"length": {"min_words": 3}, "repetition": True},
        own=(("no_advertisements", no_advertisements),),
    )
    task = classify(["negative", "positive"], "Did the reviewer like the film?")
    async with aclosing(engine):
        plan = Plan(screening=screening, limit=20)
        result = await curate(task, engine, store, source=open_source(source), plan=plan)
    print(result.report["screening"])
    for document_id in ("review-61", "review-62", "review-63"):
        verdicts = store.why(document_id)["verdicts"]
        for verdict in verdicts if isinstance(verdicts, list) else ():
            if isinstance(verdict, dict):
                print(f"{document_id}: {verdict['reason']} ({verdict['detail']})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", default="transformers:wheel:smollm2-135m")
    parser.add_argument("--source", type=Path, default=REVIEWS)
    parser.add_argument("--store", type=Path, default=Path("own_filter.duckdb"))
    given = parser.parse_args()
    anyio.run(main, connect(given.engine), given.source, given.store)
