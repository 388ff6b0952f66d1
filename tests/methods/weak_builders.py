"""A world in which it is known how weak labels err: classes around centres, a student that sees them well, and teachers
that are wrong at random."""

from __future__ import annotations

import numpy as np

from curator.methods.students import Pool, Teacher

OPTIONS = ("red", "green", "blue")
ROWS = 900


def world(rows: int = ROWS, width: int = 8, seed: int = 0) -> tuple[Pool, np.ndarray]:
    """A pool and gold (n,). A linear head on its features can be right on more than nine rows in ten."""
    random = np.random.default_rng(seed)
    gold = random.permutation(np.arange(rows) % 3)
    centres = np.random.default_rng(7).normal(size=(3, width)) * 1.6
    features = (centres[gold] + random.normal(size=(rows, width))).astype(np.float32)
    return Pool.split([f"r{i}" for i in range(rows)], features, OPTIONS), gold


def noisy(
    gold: np.ndarray, wrong: float, *, honest: bool = True, stubborn: bool = False, seed: int = 1, name: str = "noisy"
) -> Teacher:
    """Wrong in a share of the rows, at random or, if `stubborn`, always in the same way. An `honest` one is unsure
    where it is wrong; the other gives every label the same confidence."""
    random = np.random.default_rng(seed)
    errs = random.random(len(gold)) < wrong
    label = np.where(errs, (gold + (1 if stubborn else random.integers(1, 3, len(gold)))) % 3, gold)
    top = np.where(errs, random.uniform(0.4, 0.7, len(gold)), random.uniform(0.6, 0.95, len(gold)))
    top = top if honest else np.full(len(gold), 0.75)
    probabilities = np.repeat((1 - top[:, None]) / 2, 3, axis=1)
    probabilities[np.arange(len(gold)), label] = top
    return Teacher(name, probabilities)
