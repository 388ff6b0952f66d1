"""Outcomes of two tiers from their qualities."""

from __future__ import annotations

import numpy as np

from cascade.outcomes import Outcomes


def outcomes(weak, strong, answers=None, costs=(1.0, 10.0)):
    quality = np.stack([np.array(weak, float), np.array(strong, float)], axis=1)
    shape = quality.shape
    answers = np.full(shape, -1) if answers is None else np.array(answers)
    return Outcomes(
        ("weak", "strong"),
        answers,
        {},
        np.tile(np.array(costs, float), (len(quality), 1)),
        np.full(shape, np.nan),
        quality,
        tuple(f"q{row}" for row in range(len(quality))),
    )
