"""Features on disk, so that a text is encoded once per encoder.

Every call that had something to encode adds one file to a folder named after the encoder; a file is there whole or
not at all, so processes may share the folder. Delete it whenever you like.
"""

from __future__ import annotations

import hashlib
import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from curator.engines.cache import cache_folder, temporary

log = logging.getLogger(__name__)

Features = NDArray[np.float32]


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

    def encode(self, texts: Sequence[str]) -> Features:
        """Features (n, d) in the order of `texts`; each different text is encoded at most once."""
        keys = [hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest() for text in texts]
        known = self._load()
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if missing:
            fresh = self._encoder.encode(list(missing.values()))
            self._save(list(missing), fresh)
            known |= dict(zip(missing, fresh, strict=True))
        return np.stack([known[key] for key in keys]) if keys else self._encoder.encode([])

    def _load(self) -> dict[str, Features]:
        known: dict[str, Features] = {}
        for path in sorted(self._folder.glob("*.npz")):
            try:
                # Opened here, because np.load forgets to close a file that it cannot read.
                with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                    known |= dict(zip(file["keys"].tolist(), file["features"], strict=True))
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                log.warning("%s is damaged (%s): what it held is encoded again", path, error)
        return known

    def _save(self, keys: Sequence[str], features: Features) -> None:
        with temporary(cache_folder("features")) as place:
            part = place / "part.npz"
            np.savez(part, keys=np.array(keys), features=features)
            self._folder.mkdir(parents=True, exist_ok=True)
            name = hashlib.blake2b("".join(keys).encode(), digest_size=16).hexdigest()
            part.replace(self._folder / f"{name}.npz")
