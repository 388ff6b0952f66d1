"""Data selection by a small model ("Foundations of Large Language Models", ch. 4): which rows a larger one learns from.

    python examples/methods/small_selection.py --rows 300

Every score is a way to order the rows, the better half of each class is kept, and every selection is held against a
random one of the same size and the same classes. A score that does not beat it has nothing to say about these texts.
"""

from __future__ import annotations

import argparse

import anyio
import numpy as np
from film_reviews import ENCODER, TASK, WEAK, film_reviews, weak_teacher

from curator.engines.encoder import Encoder
from curator.engines.likelihood import Likelihood
from curator.methods.small_selection import Choice, confidence, difficulty, disagreement, perplexity
from curator.methods.students import Pool, encode
from curator.methods.weak_to_strong import Recipe, sittings, teach
from curator.task import DEFAULT_TEMPLATE


async def main(engine: str, rows: int, small: str) -> None:
    """Select by each score, train a student on what is kept, and score all of them on held-out reviews."""
    reviews = film_reviews(rows)
    weak = await weak_teacher(engine, reviews)
    (question,) = TASK.questions
    pool = Pool.split(reviews.ids, encode(reviews.texts, Encoder(ENCODER), question), question.labels)
    model = Likelihood(small)
    scores = [
        confidence(weak),
        perplexity(model, reviews.texts),
        difficulty(model, reviews.texts, weak, (question, DEFAULT_TEMPLATE)),
        disagreement(pool, weak),
    ]
    print("selected by    kept  accuracy  random half  all rows")
    for score in scores:
        students = sittings(teach(pool, weak, Recipe(choice=Choice(share=0.5)), score))
        right = {one.arm: (one.probabilities.argmax(axis=2) == reviews.gold[pool.test]).mean() for one in students}
        kept = next(one.rows for one in students if one.arm == "filtered")
        print(f"{score.name:13} {kept:5} {right['filtered']:9.2f} {right['random']:12.2f} {right['naive']:9.2f}")
    print(f"one corpus of {np.sum(~pool.held)} rows tells little: look at intervals and seeds before you believe one")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", default=WEAK)
    parser.add_argument("--small", default="wheel:smollm2-135m")
    parser.add_argument("--rows", type=int, default=300)
    given = parser.parse_args()
    anyio.run(main, given.engine, given.rows, given.small)
