"""Paired resampling of recorded queries: how sure a replayed figure is.

All arms of a comparison see the same resampled queries, so that what they share cancels in their difference. Shapes:
n queries, b resamples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

from curator.confidence import Bools, Floats
from curator.types import JsonObject

DRAWS: Final = 1000
"""Resamples behind an interval: its ends then vary by a few hundredths of its width."""
CELLS: Final = 2_000_000
"""Queries times resamples that are held at once."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and its 95% interval; without a value, `reason` says why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""

    @classmethod
    def of(cls, value: float, drawn: Floats) -> Estimate:
        """`value` with the percentile interval of its resampled values (b,) (Efron 1979); NaN ones are left out."""
        low, high = np.nanquantile(drawn, [0.025, 0.975])
        return cls(value, float(low), float(high))

    def to_json(self) -> JsonObject:
        data: JsonObject = {name: value for name, value in asdict(self).items() if name != "reason" or value}
        return data


def resampled(rows: int, draws: int, seed: int) -> Iterator[Floats]:
    """How often each query is drawn, (b, n) at a time, `draws` times in all; the same for the same seed."""
    random = np.random.default_rng(seed)
    for size in _sizes(rows, draws):
        chosen = random.integers(0, rows, (size, rows)) + rows * np.arange(size)[:, None]
        yield np.bincount(chosen.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)


def halves(rows: int, draws: int, seed: int) -> Iterator[Bools]:
    """Which queries fall into the first of two random halves, (b, n) at a time, `draws` times in all.

    A query is on one side whole, however often a resample draws it: nothing is learnt from what it is tested on.
    """
    random = np.random.default_rng(seed)
    for size in _sizes(rows, draws):
        ranks = random.random((size, rows)).argpartition(rows // 2, axis=1)
        first = np.zeros((size, rows), dtype=np.bool_)
        np.put_along_axis(first, ranks[:, : rows // 2], True, axis=1)
        yield first


def _sizes(rows: int, draws: int) -> Iterator[int]:
    most = max(1, CELLS // max(rows, 1))
    return (min(most, draws - start) for start in range(0, draws, most))
