"""An index of band keys in bounded memory.

rensa has one too, but it takes 2,160 bytes a document at 16 bands and tells of many documents at once
only whether there are candidates, not which; this one takes about 300.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
INDEX_BITS = 28
"""Bits of a slot that hold the document's number: 268 million documents. The other 36 are the hash."""
BUCKET = 16
"""Documents that one band's value remembers. More of them share boilerplate, and the other bands
tell them apart; without a bound, such a corpus takes quadratic time."""
LOAD = 0.6


class BandIndex:
    """Which documents have a band key: an open-addressing hash table of 8-byte slots.

    Keys must be well mixed, as `band_keys` makes them: their own bits choose the slot. A slot holds the
    upper 36 bits of the key and the document's number + 1; 0 is empty. Two keys
    agree in 36 bits by chance about once in 69 billion pairs; candidates are verified anyway.
    """

    def __init__(self, slots: int = 1 << 16) -> None:
        self._slots: U64 = np.zeros(slots, dtype=np.uint64)
        self._used = 0

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self._slots.nbytes

    def find(self, keys: U64) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """For flat `keys`: the positions of those that are known and the documents that have them,
        one pair for each hit."""
        tags = keys >> np.uint64(INDEX_BITS)
        places, left = self._home(tags), np.arange(len(keys))
        found: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
        while len(left):
            slots = self._slots[places]
            hits = (slots >> np.uint64(INDEX_BITS)) == tags
            hits &= slots != 0
            if hits.any():
                numbers = slots[hits] & np.uint64((1 << INDEX_BITS) - 1)
                found.append((left[hits], numbers.astype(np.int64) - 1))
            going = slots != 0
            left, tags = left[going], tags[going]
            places = (places[going] + 1) & (len(self._slots) - 1)
        if not found:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return np.concatenate([item[0] for item in found]), np.concatenate([item[1] for item in found])

    def add(self, keys: U64, documents: npt.NDArray[np.int64]) -> None:
        """Remember that `documents[i]` has `keys[i]`, unless `BUCKET` others have that key."""
        while self._used + len(keys) > LOAD * len(self._slots):
            self._grow()
        self._insert((keys & ~np.uint64((1 << INDEX_BITS) - 1)) | (documents + 1).astype(np.uint64))

    def _home(self, tags: U64) -> npt.NDArray[np.int64]:
        return (tags & np.uint64(len(self._slots) - 1)).astype(np.int64)

    def _grow(self) -> None:
        old = self._slots[self._slots != 0]
        self._slots = np.zeros(len(self._slots) * 2, dtype=np.uint64)
        self._used = 0
        for start in range(0, len(old), 1 << 20):
            self._insert(old[start : start + (1 << 20)])

    def _insert(self, entries: U64) -> None:
        """Linear probing for all entries at once; where two want one slot, one of them goes on."""
        tags = entries >> np.uint64(INDEX_BITS)
        places = self._home(tags)
        met = np.zeros(len(entries), dtype=np.int64)
        while len(entries):
            empty = self._slots[places] == 0
            self._slots[places[empty]] = entries[empty]
            there = self._slots[places]
            written = there == entries
            self._used += int(written.sum())
            met += (there >> np.uint64(INDEX_BITS)) == tags
            going = ~written & (met < BUCKET)
            entries, tags, met = entries[going], tags[going], met[going]
            places = (places[going] + 1) & (len(self._slots) - 1)
