"""Knowledge-free weak supervision (Hsu and Roberts 2024, arXiv 2406.06723): weak labels first, then a few gold rows.

    python examples/methods/knowledge_free.py --rows 300

A small encoder learns from a language model's labels and goes on with 0, 10 and 50 checked reviews; beside it stands
the encoder that has nothing but those.
"""

from __future__ import annotations

import argparse

import anyio
import numpy as np
from film_reviews import ENCODER, TASK, WEAK, film_reviews, weak_teacher

from curator.engines.encoder import Encoder
from curator.methods.knowledge_free import Few, knowledge_free
from curator.methods.students import Pool, Student, encode


async def main(engine: str, rows: int) -> None:
    """Train all three students for every budget of checked reviews, and score them on held-out ones."""
    reviews = film_reviews(rows)
    weak = await weak_teacher(engine, reviews)
    (question,) = TASK.questions
    pool = Pool.split(reviews.ids, encode(reviews.texts, Encoder(ENCODER), question), question.labels)
    checked = np.flatnonzero(~pool.held)[:50]

    def score(student: Student | None) -> str:
        return (
            "  - "
            if student is None
            else f"{(student.probabilities.argmax(axis=1) == reviews.gold[pool.test]).mean():.2f}"
        )

    print("gold rows  gold only  weak only  weak then gold")
    for one in knowledge_free(pool, weak, Few(checked, reviews.gold[checked])):
        arms = score(one.gold_only), score(one.weak_only), score(one.weak_then_gold)
        print(f"{one.budget:9}  {arms[0]:>9}  {arms[1]:>9}  {arms[2]:>14}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", default=WEAK)
    parser.add_argument("--rows", type=int, default=300)
    given = parser.parse_args()
    anyio.run(main, given.engine, given.rows)
