"""Zero-to-strong (Liu et al. 2024, arXiv 2409.12425): a model teaches itself in rounds, without any label.

    python examples/methods/zero_to_strong.py --rows 160

Round 0 asks about every review without examples; of each class the surest ones become the examples of the next round.
"""

from __future__ import annotations

import argparse
from contextlib import aclosing

import anyio
from film_reviews import PLAN, TASK, WEAK, film_reviews

from curator import connect
from curator.methods.demonstrations import Chooser
from curator.methods.zero_to_strong import Rounds, improve


async def main(engine: str, rows: int, rounds: int) -> None:
    """Improve the labels in rounds; print what each one changed, and how right the last one is."""
    reviews, plan = film_reviews(rows), Rounds(rounds, Chooser(count=8, longest=200))
    async with aclosing(connect(engine)) as model:
        result = await improve(TASK, model, reviews.store, source=reviews.source, plan=PLAN, rounds=plan)
    for found in result.report["rounds"]:
        print(f"round {found['round']}: {found['fields']['label']['labelled']} labelled, changed: {found.get('churn')}")
    right = dict(zip(reviews.ids, reviews.gold.tolist(), strict=True))
    labels = [(row.document.id, row.output.label, row.confidence) for row in result.rows()]
    hits = [(label == "positive") == bool(right[key]) for key, label, _ in labels]
    print(f"{len(labels)} labels, {sum(hits) / len(hits):.2f} of them right; confidence is uncalibrated")
    for key, label, confidence in sorted(labels, key=lambda one: -one[2])[:3]:
        print(f"{confidence:.2f}  {label:8}  {key}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", default=WEAK)
    parser.add_argument("--rows", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    anyio.run(main, given.engine, given.rows, given.rounds)
