"""Exact and near-duplicates, in one pass over the documents in ingest order.

Each document is compared with the documents *kept* so far. So the first of a group stays; every
rejected document names a kept one that really is similar to it (never one that is only similar to
something similar, as connected components of the similarity graph would have it); and documents that
come later never change an earlier verdict, so a growing corpus is judged incrementally.

Texts are normalised first: Unicode NFKC, case folded, white space collapsed. Equal ones are exact
duplicates (128-bit hash). Near-duplicates have character 5-gram sets whose Jaccard similarity,
estimated from 128 MinHash values, reaches the threshold; minhash.py has its error and recall.

Memory per kept document: 256 bytes of signature, 8 bytes x 18 bands / load 0.3 to 0.6 of index,
about 150 of exact hash and the id: some 0.7 to 1 kB. Rejected documents take none but an exact hash.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from curator.dedup.index import BUCKET, BandIndex
from curator.dedup.minhash import PERMUTATIONS, SHINGLE, U64, band_keys, bands_for, signatures
from curator.types import Document, Verdict

U16 = npt.NDArray[np.uint16]
Rejected = tuple[str, Verdict]
"""A document's id and why it is rejected."""
CHARS = 4_000_000
"""Characters whose shingles are hashed at once, so that long documents do not add up in memory."""
BLOCK_BITS = 14
"""Signatures are kept in blocks of 16,384, which never move."""
BLOCK_MASK = (1 << BLOCK_BITS) - 1


def normalised(text: str) -> str:
    """The text without differences of case, white space and Unicode form."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def exact_duplicates(batches: Iterable[Sequence[Document]]) -> Iterator[Rejected]:
    """Verdicts `duplicate.exact` for all but the first of equal documents, after normalisation."""
    first: dict[bytes, str] = {}
    for batch in batches:
        for document in batch:
            kept = first.setdefault(_key(normalised(document.text)), document.id)
            if kept is not document.id:
                yield document.id, _exact(kept)


def near_duplicates(
    batches: Iterable[Sequence[Document]],
    threshold: float = 0.8,
    *,
    known: Iterable[Sequence[Document]] = (),
    permutations: int = PERMUTATIONS,
    shingle: int = SHINGLE,
) -> Iterator[Rejected]:
    """Verdicts `duplicate.exact` and `duplicate.near`, in document order.

    `threshold` is the Jaccard similarity from which on two documents are the same. `known` are
    documents kept earlier: others are compared with them, they are not judged again. Raises
    MissingExtraError without rensa, ConfigError for a threshold outside (0, 1].
    """
    deduplicator = Deduplicator(threshold, permutations=permutations, shingle=shingle)
    for batch in known:
        deduplicator.add(batch)
    for batch in batches:
        yield from deduplicator.add(batch)


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _exact(kept: str) -> Verdict:
    return Verdict(False, "duplicate.exact", f"the same text as {kept}")


class Deduplicator:
    """What was kept so far; `add` judges further documents against it and against each other."""

    def __init__(self, threshold: float = 0.8, *, permutations: int = PERMUTATIONS, shingle: int = SHINGLE) -> None:
        self.threshold = threshold
        self.permutations = permutations
        self.shingle = shingle
        self._bands, self._rows = bands_for(threshold, permutations)
        self._seen: dict[bytes, str | Verdict] = {}
        self._names: list[str] = []
        self._blocks: list[U16] = []
        self._index = BandIndex()

    def __len__(self) -> int:
        """Documents that near-duplicates are looked for among."""
        return len(self._names)

    @property
    def nbytes(self) -> int:
        """Bytes of signatures and index; exact hashes and ids are Python objects beside them."""
        return self._index.nbytes + sum(block.nbytes for block in self._blocks)

    def add(self, batch: Sequence[Document]) -> list[Rejected]:
        """Id and verdict of the documents that are rejected, in order; the others are remembered."""
        texts = [normalised(document.text) for document in batch]
        keys = [_key(text) for text in texts]
        fresh: list[int] = []
        for position, key in enumerate(keys):
            if key not in self._seen:
                self._seen[key] = batch[position].id
                fresh.append(position)
        for piece in _pieces(fresh, texts):
            near = self._near([batch[position].id for position in piece], [texts[position] for position in piece])
            self._seen.update((keys[piece[row]], verdict) for row, verdict in near.items())
        first = set(fresh)
        return [
            (document.id, seen if isinstance(seen, Verdict) else _exact(seen))
            for position, document in enumerate(batch)
            if isinstance(seen := self._seen[keys[position]], Verdict) or position not in first
        ]

    def _near(self, names: Sequence[str], texts: Sequence[str]) -> dict[int, Verdict]:
        """Verdicts by row for the texts that are similar to a kept one; keep the others."""
        full = signatures(texts, self.permutations, self.shingle)
        keys = band_keys(full, self._bands, self._rows)
        low = full.astype(np.uint16)  # 16 of the 32 bits tell two values apart but for one time in 65,536
        candidates = self._candidates(keys)
        rejected: dict[int, Verdict] = {}
        buckets: defaultdict[int, list[int]] = defaultdict(list)
        for row in sorted(candidates):
            own = [int(key) for key in keys[row]]
            rivals = {other for key in own for other in buckets.get(key, ())}
            verdict = self._verdict(row, low, names, sorted(candidates[row]), sorted(rivals))
            if verdict is not None:
                rejected[row] = verdict
                continue
            for key in own:
                if len(buckets[key]) < BUCKET:
                    buckets[key].append(row)
        self._keep([row for row in range(len(names)) if row not in rejected], names, low, keys)
        return rejected

    def _candidates(self, keys: U64) -> dict[int, set[int]]:
        """For each row that shares a band with anything: the kept documents that it shares one with."""
        flat = keys.ravel()
        _, inverse, counts = np.unique(flat, return_inverse=True, return_counts=True)
        shared = np.flatnonzero((counts[inverse] > 1).reshape(keys.shape).any(axis=1))
        found: dict[int, set[int]] = {int(row): set() for row in shared}
        positions, documents = self._index.find(flat)
        for row, document in zip((positions // keys.shape[1]).tolist(), documents.tolist(), strict=True):
            found.setdefault(row, set()).add(document)
        return found

    def _verdict(
        self, row: int, low: U16, names: Sequence[str], kept: Sequence[int], rivals: Sequence[int]
    ) -> Verdict | None:
        """The verdict on a row whose candidates are `kept` documents and `rivals` in its own batch."""
        if not kept and not rivals:
            return None
        others = [self._blocks[number >> BLOCK_BITS][number & BLOCK_MASK] for number in kept]
        others += [low[rival] for rival in rivals]
        similar = (np.stack(others) == low[row]).mean(axis=1)
        best = int(similar.argmax())
        if similar[best] < self.threshold:
            return None
        name = self._names[kept[best]] if best < len(kept) else names[rivals[best - len(kept)]]
        return Verdict(False, "duplicate.near", f"{similar[best]:.2f} similar to {name}")

    def _keep(self, rows: list[int], names: Sequence[str], low: U16, keys: U64) -> None:
        start = len(self._names)
        self._names.extend(names[row] for row in rows)
        numbers = np.arange(start, len(self._names))
        self._index.add(keys[rows].ravel(), np.repeat(numbers, keys.shape[1]))
        for row, number in zip(rows, numbers.tolist(), strict=True):
            if number >> BLOCK_BITS == len(self._blocks):
                self._blocks.append(np.zeros((BLOCK_MASK + 1, self.permutations), dtype=np.uint16))
            self._blocks[number >> BLOCK_BITS][number & BLOCK_MASK] = low[row]


def _pieces(positions: Sequence[int], texts: Sequence[str]) -> Iterator[list[int]]:
    """The positions of texts that are not empty, in pieces of at most `CHARS` characters."""
    piece: list[int] = []
    held = 0
    for position in positions:
        size = len(texts[position])
        if piece and held + size > CHARS:
            yield piece
            piece, held = [], 0
        if size:
            piece.append(position)
            held += size
    if piece:
        yield piece
