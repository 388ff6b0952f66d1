"""Which labelled rows enter the training set, and why the others do not.

Selection sees classes and confidences only, never gold.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from curator.confidence import Bools, Floats
from curator.errors import ConfigError, InputError
from curator.types import Json, JsonObject

LOW_CONFIDENCE = "selection.low_confidence"
QUOTA = "selection.quota"
COVERAGE = "selection.coverage"
UNANSWERED = "selection.unanswered"


@dataclass(frozen=True, slots=True)
class SelectionPolicy:
    """How much to keep. Applied in this order: confidence threshold, coverage, quotas, row cap.

    `coverage` is a share of all answered rows, or of each class' rows with `coverage_of="class"`.
    `balanced` caps every class at the size of the smallest, `quota` at a number; `max_rows` caps the
    whole and takes classes in turn when `balanced`. `seed` decides among equals.
    """

    min_confidence: float = 0.0
    coverage: float = 1.0
    coverage_of: Literal["rows", "class"] = "rows"
    balanced: bool = False
    quota: int | None = None
    max_rows: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ConfigError(f"min_confidence must lie in 0..1, not {self.min_confidence}")
        if not 0 < self.coverage <= 1:
            raise ConfigError(f"coverage must lie above 0 and at most at 1, not {self.coverage}")
        for name in ("quota", "max_rows"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}")


@dataclass(frozen=True, slots=True)
class Selection:
    """`keep` (n,) and, per dropped row, a machine-readable reason ("" for kept rows)."""

    keep: Bools
    reasons: tuple[str, ...]

    def report(self) -> JsonObject:
        """Rows kept and dropped per reason."""
        dropped = {reason: self.reasons.count(reason) for reason in sorted(set(self.reasons) - {""})}
        return {"kept": int(self.keep.sum()), "dropped": dict[str, Json](dropped)}


def select(ids: Sequence[str], classes: Sequence[str | None], confidence: Floats, policy: SelectionPolicy) -> Selection:
    """Keep the most confident rows under `policy`. All inputs have length n; a class None or a
    confidence NaN is an unanswered row. Equal confidences are ordered by a hash of the id and the
    seed, so that the order of rows never matters.
    """
    if not len(ids) == len(classes) == len(confidence):
        raise InputError(f"{len(ids)} ids, {len(classes)} classes and {len(confidence)} confidences do not match")
    scores = np.asarray(confidence, dtype=np.float64)
    reasons = [""] * len(ids)
    rows = [i for i, c in enumerate(classes) if c is not None and not math.isnan(scores[i])]
    _drop(reasons, range(len(ids)), rows, UNANSWERED)
    rows.sort(key=lambda i: (-scores[i], _tie(ids[i], policy.seed)))
    answered = [str(c) for c in classes]
    for step, reason in (
        (_confident(rows, scores, policy), LOW_CONFIDENCE),
        (None, COVERAGE),
        (None, QUOTA),
    ):
        kept = step if step is not None else _stage(reason, rows, answered, policy)
        _drop(reasons, rows, kept, reason)
        rows = kept
    keep = np.zeros(len(ids), dtype=np.bool_)
    keep[rows] = True
    return Selection(keep, tuple(reasons))


def _stage(reason: str, rows: list[int], classes: list[str], policy: SelectionPolicy) -> list[int]:
    return _covered(rows, classes, policy) if reason == COVERAGE else _within_quota(rows, classes, policy)


def _confident(rows: list[int], scores: Floats, policy: SelectionPolicy) -> list[int]:
    return [i for i in rows if scores[i] >= policy.min_confidence]


def _covered(rows: list[int], classes: list[str], policy: SelectionPolicy) -> list[int]:
    groups = _by_class(rows, classes).values() if policy.coverage_of == "class" else [rows]
    kept = {i for group in groups for i in group[: math.ceil(policy.coverage * len(group) - 1e-9)]}
    return [i for i in rows if i in kept]


def _within_quota(rows: list[int], classes: list[str], policy: SelectionPolicy) -> list[int]:
    groups = _by_class(rows, classes)
    caps = [cap for cap in (policy.quota,) if cap is not None]
    if policy.balanced and groups:
        caps.append(min(len(group) for group in groups.values()))
    limit = min(caps, default=len(rows))
    rank = {i: place for group in groups.values() for place, i in enumerate(group)}
    kept = [i for i in rows if rank[i] < limit]
    if policy.max_rows is None:
        return kept
    if policy.balanced:
        kept.sort(key=lambda i: rank[i])
    return kept[: policy.max_rows]


def _by_class(rows: list[int], classes: list[str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = {}
    for i in rows:
        groups.setdefault(classes[i], []).append(i)
    return groups


def _drop(reasons: list[str], rows: Sequence[int] | range, kept: list[int], reason: str) -> None:
    for i in set(rows) - set(kept):
        reasons[i] = reason


def _tie(row_id: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\0{row_id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
