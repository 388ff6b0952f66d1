"""Misfit (Charikar et al. 2024, arXiv 2405.15116): which of several weak teachers to learn from, without gold.

    python examples/methods/misfit.py --rows 300

A student gains at least its distance to its teacher on rows that neither was trained on. The teachers here are a small
language model and two lists of words; the one with the smallest estimated error less its student's misfit is chosen.
"""

from __future__ import annotations

import argparse

import anyio
import numpy as np
from film_reviews import ENCODER, TASK, WEAK, film_reviews, weak_teacher

from curator.engines.encoder import Encoder
from curator.evaluation.grades import grade
from curator.methods.misfit import choose, standings
from curator.methods.students import Pool, Teacher, encode
from curator.methods.weak_to_strong import Recipe, naive, sittings

PRAISE = ("best", "good", "great", "funny", "fine", "fun", "perfect", "love", "charm", "beaut", "smart", "enjoy")
BLAME = ("bad", "worst", "dull", "bore", "boring", "too", "lack", "nothing", "mess", "never", "flat", "fail", "no ")


def reads(name: str, texts: list[str], words: tuple[str, ...], label: int) -> Teacher:
    """A teacher that gives `label` to texts with one of the words, and the other label to the rest, at 60 to 40."""
    found = np.array([any(word in text for word in words) for text in texts])
    chances = np.where(found[:, None] == [label == 0, label == 1], 0.6, 0.4)
    return Teacher(name, chances)


async def main(engine: str, rows: int) -> None:
    """Compare the teachers by what their students do, choose one, and show what gold says to that."""
    reviews = film_reviews(rows)
    teachers = [
        await weak_teacher(engine, reviews),
        reads("words of praise", reviews.texts, PRAISE, 1),
        reads("words of blame", reviews.texts, BLAME, 0),
    ]
    (question,) = TASK.questions
    pool = Pool.split(reviews.ids, encode(reviews.texts, Encoder(ENCODER), question), question.labels)
    recipe = Recipe(seeds=(0,))
    taught = [(one, naive(pool, one, recipe)) for one in teachers]
    found = standings(pool, taught, "consensus")
    for one, (taken, students) in zip(found, taught, strict=True):
        weak, student = grade(taken.probabilities[pool.test], sittings(students), reviews.gold[pool.test])
        print(
            f"{one.teacher:16} estimated error {one.error:.2f}, misfit {one.misfit.squared.value:.2f}, trained "
            f"{one.trained}; by gold: teacher {weak.accuracy.value:.2f}, student {student.accuracy.value:.2f}"
        )
    best = choose(found)
    print(f"chosen: {best.teacher if best else 'none, since no student is trained well enough'}")
    print(f"the error is estimated from {found[0].rests_on}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engine", default=WEAK)
    parser.add_argument("--rows", type=int, default=300)
    given = parser.parse_args()
    anyio.run(main, given.engine, given.rows)
