"""What every tier of a cascade answered to the same queries: the table that certificates and replays are made from.

Shapes: n queries about one question, t tiers, the cheapest first; the last one is the *teacher*. NaN is unknown and
stays unknown, -1 is no answer. Costs are money per query in one currency, latencies seconds, quality lies in [0, 1]
(1 is right). Where a tier was not asked, say so with NaN and -1; nothing is filled in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from curator.confidence import Bools, Floats, Ints
from curator.errors import InputError

NO_ANSWER: Final = -1
"""A tier refused, failed, or was not asked."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Recorded answers of `tiers` to n queries.

    `answers` (n, t) are numbers of answers, alike where the answers are equivalent: the option of a closed question,
    or a group of equal free answers; all -1 where only the quality was recorded. `signals` maps a signal's name to
    (n, t). `quality` (n, t) is against the truth where somebody knows it, else NaN; it is never used where a function
    says that it is label-free.

    Raises: InputError naming the part whose shape is not (n, t), or whose values cannot be.
    """

    tiers: tuple[str, ...]
    answers: Ints
    signals: Mapping[str, Floats]
    cost: Floats
    latency: Floats
    quality: Floats
    ids: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        shape = (len(self.answers), len(self.tiers))
        if len(set(self.tiers)) < len(self.tiers) or not self.tiers:
            raise InputError(f"tiers must have different names, at least one: {', '.join(self.tiers) or 'none given'}")
        parts = {"answers": self.answers, "cost": self.cost, "latency": self.latency, "quality": self.quality}
        for name, part in {**parts, **self.signals}.items():
            if part.shape != shape:
                raise InputError(f"{name} must be {shape} (queries, tiers), not {part.shape}")
        for name, part in {"cost": self.cost, "latency": self.latency}.items():
            if (part < 0).any() or np.isinf(part).any():
                raise InputError(f"{name} must be a number from 0, or NaN where it is unknown")
        if self.ids and len(self.ids) != len(self):
            raise InputError(f"{len(self.ids)} ids for {len(self)} queries")

    def __len__(self) -> int:
        return len(self.answers)

    def take(self, rows: Ints | Bools) -> Outcomes:
        """The queries in `rows`, an index or a mask."""
        ids = tuple(np.asarray(self.ids, dtype=object)[rows]) if self.ids else ()
        return replace(
            self,
            answers=self.answers[rows],
            signals={name: table[rows] for name, table in self.signals.items()},
            cost=self.cost[rows],
            latency=self.latency[rows],
            quality=self.quality[rows],
            ids=ids,
        )

    def only(self, *tiers: str) -> Outcomes:
        """These tiers in this order. Raises: InputError for a tier that was not recorded."""
        if missing := [name for name in tiers if name not in self.tiers]:
            raise InputError(f"no outcomes of {', '.join(missing)}", hint=f"recorded: {', '.join(self.tiers)}")
        at = [self.tiers.index(name) for name in tiers]
        return replace(
            self,
            tiers=tiers,
            answers=self.answers[:, at],
            signals={name: table[:, at] for name, table in self.signals.items()},
            cost=self.cost[:, at],
            latency=self.latency[:, at],
            quality=self.quality[:, at],
        )


def serve(scores: Floats, thresholds: Floats) -> Ints:
    """The tier (n,) that answers: the first whose score (n, t - 1) reaches its threshold (t - 1,), else the last.

    A NaN score never reaches one, and a threshold of infinity is never reached.
    """
    accepted: Bools = scores >= thresholds
    first = np.argmax(accepted, axis=1)
    return np.where(accepted.any(axis=1), first, scores.shape[1]).astype(np.int64)


def served(table: Floats, tier: Ints) -> Floats:
    """The value (n,) of the tier that answers, from a table (n, t)."""
    result: Floats = table[np.arange(len(table)), tier]
    return result


def spent(table: Floats, tier: Ints) -> Floats:
    """Money or seconds (n,) of all tiers up to the one that answers: drafts are paid on escalation too."""
    result: Floats = np.cumsum(table, axis=1)[np.arange(len(table)), tier]
    return result


def differ(outcomes: Outcomes, tolerance: int = 0) -> Floats:
    """1 (n, t) where a tier's answer is not the last tier's, else 0; label-free. No answer of either is a difference.

    `tolerance` is for scores, whose answers are ordered: how many levels an answer may be off.
    Raises: InputError where the last tier never answered.
    """
    teacher = outcomes.answers[:, -1:]
    if not (teacher != NO_ANSWER).any():
        raise InputError(
            f"{outcomes.tiers[-1]} has no answers, so nothing can be compared with it",
            hint="ask it first, or certify against the truth (basis vs_truth) where that is known",
        )
    off = (np.abs(outcomes.answers - teacher) > tolerance) | (outcomes.answers == NO_ANSWER) | (teacher == NO_ANSWER)
    result: Floats = off.astype(np.float64)
    result[:, -1] = 0.0
    return result


def tier_agreement(answers: Ints) -> Floats:
    """1 (n, t) where a tier says what the one before says, else 0; NaN where either says nothing, and for the first."""
    same = np.full(answers.shape, np.nan)
    known = (answers[:, 1:] != NO_ANSWER) & (answers[:, :-1] != NO_ANSWER)
    same[:, 1:] = np.where(known, answers[:, 1:] == answers[:, :-1], np.nan)
    return same
