"""MinHash signatures and an index of their bands, in bounded memory.

Broder 1997 (MinHash); Indyk and Motwani 1998 (locality-sensitive hashing); the signatures are made
by rensa (R-MinHash, Rust). The index is ours: rensa's own takes 2,160 bytes a document at 16 bands,
this one about 300, and it gives the candidates back, not only a flag.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from curator.errors import ConfigError, MissingExtraError

U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

PERMUTATIONS = 128
SHINGLE = 5
"""Characters of a shingle. Characters, not words: texts may be short, or in a script without spaces."""
SEED = 42
RECALL = 0.98
"""Share of the pairs right at the threshold that the bands must bring together."""
INDEX_BITS = 28
"""Bits of a slot that hold the document's number: 268 million documents. The other 36 are the hash."""
BUCKET = 16
"""Documents that one band's value remembers. More of them share boilerplate, and the other bands
tell them apart; without a bound, such a corpus takes quadratic time."""
LOAD = 0.6


def bands_for(threshold: float, permutations: int = PERMUTATIONS) -> tuple[int, int]:
    """Bands and rows per band: the most rows (fewest false candidates) for which a pair at the
    threshold still shares a band with probability `RECALL`. Raises ConfigError outside (0, 1]."""
    if not 0 < threshold <= 1:
        raise ConfigError(f"near-duplicate threshold {threshold} is not between 0 and 1", hint="0.8 is usual")
    for rows in range(permutations, 0, -1):
        bands = permutations // rows
        if 1 - (1 - threshold**rows) ** bands >= RECALL:
            return bands, rows
    return permutations, 1


def shingle_hashes(texts: Sequence[str], size: int = SHINGLE) -> tuple[U64, U64]:
    """64-bit hashes of all character n-grams of all texts, one after another, and the offsets of the
    texts among them (one more than there are texts).

    A text shorter than `size` is one shingle by itself, so that two short texts agree only when
    they are equal; an empty text has none.
    """
    padded = [text.ljust(size, "\x00") if text else "" for text in texts]
    lengths = np.array([len(text) for text in padded], dtype=np.int64)
    counts = np.maximum(lengths - size + 1, 0)
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    windows = max(len(codes) - size + 1, 0)
    hashes = np.zeros(windows, dtype=np.uint64)
    for offset in range(size):
        hashes *= np.uint64(0x100000001B3)
        hashes += codes[offset : offset + windows]
    inside = np.ones(len(codes), dtype=bool)  # windows that cross into the next text are no shingles
    ends = np.cumsum(lengths)
    for back in range(1, size):
        inside[ends[lengths > 0] - back] = False
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.uint64)
    return mixed(hashes[inside[:windows]]), offsets


def mixed(values: U64) -> U64:
    """The finaliser of SplitMix64: every bit of the input changes half of the output's bits."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def signatures(texts: Sequence[str], permutations: int = PERMUTATIONS, shingle: int = SHINGLE) -> U32:
    """MinHash signatures, shape (texts, permutations). The share of equal columns in two rows
    estimates the Jaccard similarity J of the texts' shingle sets, with a standard error of
    sqrt(J (1 - J) / permutations): 0.035 at 0.8 and 128. Raises MissingExtraError without rensa."""
    try:
        from rensa import RMinHash
    except ImportError:
        raise MissingExtraError(
            "near-duplicate removal needs rensa", hint='pip install "goldless[dedup]", or turn it off'
        ) from None
    flat, offsets = shingle_hashes(texts, shingle)
    rows = RMinHash.digest_matrix_from_flat_token_hashes(flat, offsets, permutations, SEED).to_rows()
    flattened = np.fromiter(chain.from_iterable(rows), dtype=np.uint32, count=len(texts) * permutations)
    return flattened.reshape(len(texts), permutations)


def band_keys(signature: U32, bands: int, rows: int) -> U64:
    """One 64-bit key per band, shape (texts, bands); the band's number is part of the key."""
    parts = signature[:, : bands * rows].reshape(-1, bands, rows)
    keys = np.broadcast_to(np.arange(1, bands + 1, dtype=np.uint64), parts.shape[:2]).copy()
    for row in range(rows):
        keys = mixed(keys * np.uint64(0x9E3779B97F4A7C15) + parts[:, :, row])
    return keys


class BandIndex:
    """Which documents have a band key: an open-addressing hash table of 8-byte slots.

    A slot holds the upper 36 bits of the key and the document's number + 1; 0 is empty. Two keys
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
