"""Which ids a pass over a source has met already, at eight bytes per id."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class Seen:
    """A set of ids that only grows, as sorted runs of 64-bit hashes: a run is merged into the one
    before it when it has become as long, so that there are only some dozen.

    Two different ids among ten million share a hash with probability 3e-6.
    """

    def __init__(self) -> None:
        self._runs: list[NDArray[np.int64]] = []

    def add(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """Add ids; says for each one whether it was there before, or earlier in `ids`."""
        codes = np.fromiter(map(hash, ids), np.int64, len(ids))
        unique, first = np.unique(codes, return_index=True)
        repeated = np.ones(len(codes), np.bool_)
        repeated[first] = False
        for run in self._runs:
            repeated |= _contains(run, codes)
        self._runs.append(unique)
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            self._runs[-2:] = [np.union1d(self._runs[-2], self._runs[-1])]
        return repeated


def _contains(run: NDArray[np.int64], codes: NDArray[np.int64]) -> NDArray[np.bool_]:
    places = np.searchsorted(run, codes)
    places[places == len(run)] = 0
    return np.equal(run[places], codes)
