"""Weak-to-strong (Burns et al. 2023, arXiv 2312.09390): a student learns from a weak model's labels.

    python examples/methods/weak_to_strong.py --rows 300

The weak model is a small language model, the student a linear head on a text encoder. The arms are those of every
honest report: all weak labels, the surest ones, a random subset of the same size, and gold, for the evaluation alone.
"""

from __future__ import annotations

import argparse

import anyio
from film_reviews import ENCODER, TASK, WEAK, film_reviews, weak_teacher

from curator.engines.encoder import Encoder
from curator.evaluation.grades import grade
from curator.methods.students import Pool, encode
from curator.methods.weak_to_strong import Recipe, ceiling, sittings, teach


async def main(engine: str, rows: int) -> None:
    """Train the students of the weak labels and grade them on reviews that none of them has seen."""
    reviews = film_reviews(rows)
    weak = await weak_teacher(engine, reviews)
    (question,) = TASK.questions
    pool = Pool.split(reviews.ids, encode(reviews.texts, Encoder(ENCODER), question), question.labels)
    recipe = Recipe()
    students = teach(pool, weak, recipe)
    (top,) = sittings(ceiling(pool, reviews.gold, recipe))
    for one in grade(weak.probabilities[pool.test], sittings(students), reviews.gold[pool.test], ceiling=top):
        gain = "" if one.arm == "weak" else f"  against the weak labels {one.gain.value:+.2f}"
        print(f"{one.arm:9} {one.accuracy.value:.2f} [{one.accuracy.low:.2f}, {one.accuracy.high:.2f}]{gain}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", default=WEAK)
    parser.add_argument("--rows", type=int, default=300)
    given = parser.parse_args()
    anyio.run(main, given.engine, given.rows)
