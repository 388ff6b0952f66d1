"""Outcomes whose truth is known, as many as wanted: queries of differing difficulty, tiers of differing skill."""

from __future__ import annotations

import numpy as np

from cascade.outcomes import NO_ANSWER, Outcomes, serve
from cascade.policy import QuestionPolicy
from cascade.scoring import score_table

PRICES = (0.1, 0.3, 1.0)
SECONDS = (0.01, 0.05, 0.5)


def world(rows: int, *, tiers: int = 2, seed: int = 0, options: int = 4) -> Outcomes:
    """`tiers` named t0, t1, ...: the last is right in 95%, the first ones as the query is easy. `top_probability` and
    `margin` tell how easy it is, `noise` tells nothing."""
    random = np.random.default_rng(seed)
    truth, hard = random.integers(0, options, rows), random.beta(1, 3, rows)
    skills = [np.clip(1 - (1.3 - 0.4 * tier) * hard, 0.05, 1.0) for tier in range(tiers - 1)] + [np.full(rows, 0.95)]
    wrong = [(truth + random.integers(1, options, rows)) % options for _ in skills]
    answers = [np.where(random.random(rows) < skill, truth, other) for skill, other in zip(skills, wrong, strict=True)]
    table, easy = np.stack(answers, axis=1), np.stack(skills, axis=1)
    signals = {
        "top_probability": np.clip(easy + random.normal(0, 0.1, easy.shape), 0, 1),
        "margin": np.clip(easy + random.normal(0, 0.2, easy.shape), 0, 1),
        "noise": random.random(easy.shape),
    }
    cost, seconds = (np.tile([*part[: tiers - 1], part[-1]], (rows, 1)) for part in (PRICES, SECONDS))
    names = tuple(f"t{tier}" for tier in range(tiers))
    return Outcomes(names, table, signals, cost, seconds, (table == truth[:, None]).astype(float))


def route(policy: QuestionPolicy, outcomes: Outcomes) -> np.ndarray:
    """The tier that answers each query under the policy."""
    scores = score_table(outcomes, [rule.scorer for rule in policy.rules])
    return serve(scores, np.array([rule.limit for rule in policy.rules]))


def refusing(outcomes: Outcomes, tier: int) -> Outcomes:
    """The same, but one tier never answers."""
    answers, quality = outcomes.answers.copy(), outcomes.quality.copy()
    answers[:, tier], quality[:, tier] = NO_ANSWER, 0.0
    signals = {name: table.copy() for name, table in outcomes.signals.items()}
    for table in signals.values():
        table[:, tier] = np.nan
    return Outcomes(outcomes.tiers, answers, signals, outcomes.cost, outcomes.latency, quality, outcomes.ids)
