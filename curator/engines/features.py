"""Features on disk, so that a text is encoded once per encoder.

Every few thousand texts that are encoded add one file to a folder named after the encoder; a file is there whole or
not at all, so processes may share the folder. Files are mapped, not read: memory holds a hash per text. Delete the
folder whenever you like.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from curator.engines.cache import cache_folder, temporary

log = logging.getLogger(__name__)

Features = NDArray[np.float32]


BLOCK = 4096
"""Texts that are encoded before their features are written: a killed process loses no more than these."""


class Encodes(Protocol):
    """Texts -> features (n, d) in float32."""

    def encode(self, texts: Sequence[str]) -> Features: ...


class FeatureCache:
    """An encoder that remembers. `key` names the encoder (`EncoderIdentity.key`); `folder` defaults to the cache's.

    Raises: WeightsError for a full or read-only disk.
    """

    def __init__(self, encoder: Encodes, key: str, folder: Path | None = None) -> None:
        self._encoder = encoder
        self._folder = (folder or cache_folder("features")) / key
        self._parts: dict[str, NDArray[np.void]] = {}
        self._rows: dict[bytes, tuple[str, int]] = {}

    def encode(self, texts: Sequence[str]) -> Features:
        """Features (n, d) in the order of `texts`; each different text is encoded at most once."""
        keys = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest() for text in texts]
        if not keys:
            return self._encoder.encode([])
        self._load()
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._rows}
        for start in range(0, len(missing), BLOCK):
            block = list(missing)[start : start + BLOCK]
            self._save(block, self._encoder.encode([missing[key] for key in block]))
        return self._gather(keys)

    def _gather(self, keys: Sequence[bytes]) -> Features:
        places = [self._rows[key] for key in keys]
        width = self._parts[places[0][0]].dtype["features"].shape[0]
        found = np.empty((len(keys), width), dtype=np.float32)
        by_part: dict[str, list[int]] = {}
        for index, (part, _) in enumerate(places):
            by_part.setdefault(part, []).append(index)
        for part, indices in by_part.items():
            found[indices] = self._parts[part]["features"][[places[index][1] for index in indices]]
        return found

    def _load(self) -> None:
        """Map the files that are new."""
        for path in sorted(self._folder.glob("*.npy")):
            if path.name not in self._parts:
                try:
                    self._add(path)
                except (OSError, ValueError, EOFError) as error:
                    log.warning("%s is damaged (%s): what it held is encoded again", path, error)

    def _add(self, path: Path) -> None:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
        self._rows |= {bytes(key): (path.name, row) for row, key in enumerate(rows["key"])}
        self._parts[path.name] = rows

    def _save(self, keys: Sequence[bytes], features: Features) -> None:
        rows = np.empty(len(keys), dtype=[("key", "V16"), ("features", np.float32, (features.shape[1],))])
        rows["key"] = np.frombuffer(b"".join(keys), dtype="V16")
        rows["features"] = features
        with temporary(cache_folder("features")) as place:
            np.save(place / "part.npy", rows)
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"{hashlib.blake2b(b''.join(keys), digest_size=16).hexdigest()}.npy"
            (place / "part.npy").replace(path)
        self._add(path)
