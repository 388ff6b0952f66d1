"""Counts over the last seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

SLICES: Final = 10
"""A window moves on by this part of its length, so that it costs the same however many calls there are."""


class RollingSums:
    """Sums of `fields` numbers over the last `seconds`, by `clock`. What is added leaves after `seconds`, or up to a
    tenth of that later."""

    def __init__(self, seconds: float, fields: int, clock: Callable[[], float]) -> None:
        self._slice = seconds / SLICES
        self._clock = clock
        self._fields = fields
        self._slices: deque[tuple[int, list[float]]] = deque()

    def add(self, *numbers: float) -> None:
        """Add one number per field."""
        now = int(self._clock() / self._slice)
        if not self._slices or self._slices[-1][0] != now:
            self._forget(now)
            self._slices.append((now, [0.0] * self._fields))
        sums = self._slices[-1][1]
        for field, number in enumerate(numbers):
            sums[field] += number

    def sums(self) -> tuple[float, ...]:
        """The sum per field."""
        self._forget(int(self._clock() / self._slice))
        return tuple(sum(sums[field] for _, sums in self._slices) for field in range(self._fields))

    def clear(self) -> None:
        self._slices.clear()

    def _forget(self, now: int) -> None:
        while self._slices and self._slices[0][0] < now - SLICES:
            self._slices.popleft()
