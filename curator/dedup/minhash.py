"""MinHash signatures of texts, and the keys of their bands.

Broder 1997 (MinHash); Indyk and Motwani 1998 (locality-sensitive hashing). The signatures are made by
rensa (R-MinHash, Rust).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from curator.errors import ConfigError, MissingExtraError

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

PERMUTATIONS = 128
SHINGLE = 5
"""Characters of a shingle. Characters, not words: texts may be short, or in a script without spaces."""
SEED = 42
RECALL = 0.98
"""Share of the pairs right at the threshold that the bands must bring together."""


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
            "near-duplicate removal needs rensa",
            hint='pip install "goldless[dedup]", or turn it off: [dedup] near = false, or Screening(near=None)',
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
