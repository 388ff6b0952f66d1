"""Shingles, signatures and bands."""

from __future__ import annotations

import random
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator.dedup.minhash import RECALL, band_keys, bands_for, shingle_hashes, signatures
from curator.errors import ConfigError, MissingExtraError

TEXTS = st.lists(st.text(alphabet="ab 日😀", max_size=12), max_size=8)


def shingles(text: str, size: int) -> set[str]:
    return {text[start : start + size] for start in range(len(text) - size + 1)} or ({text} if text else set())


@given(texts=TEXTS, size=st.integers(1, 6))
def test_hashes_stand_for_the_shingles_of_each_text(texts: list[str], size: int) -> None:
    flat, offsets = shingle_hashes(texts, size)
    sets = [set(flat[start:end].tolist()) for start, end in pairwise(offsets.tolist())]
    expected = [shingles(text, size) for text in texts]
    assert [len(found) for found in sets] == [len(wanted) for wanted in expected]
    for found, wanted in zip(sets, expected, strict=True):
        for other, others in zip(sets, expected, strict=True):
            assert len(found & other) == len(wanted & others)


def test_signatures_estimate_the_jaccard_similarity() -> None:
    """The mean error of 200 pairs is far below, and their spread about, that of theory."""
    rng = random.Random(5)
    first = ["".join(rng.choices("abcdefgh ", k=rng.randint(30, 400))) for _ in range(200)]
    second = [text[: rng.randint(len(text) // 2, len(text))] for text in first]
    estimate = (signatures(first) == signatures(second)).mean(axis=1)
    pairs = [(shingles(left, 5), shingles(right, 5)) for left, right in zip(first, second, strict=True)]
    true = np.array([len(left & right) / len(left | right) for left, right in pairs])
    theory = np.sqrt((true * (1 - true) / 128).mean())
    assert abs((estimate - true).mean()) < 4 * theory / np.sqrt(200)
    assert 0.5 * theory < (estimate - true).std() < 1.3 * theory


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8, 0.9, 1.0])
def test_bands_bring_a_pair_at_the_threshold_together(threshold: float) -> None:
    bands, rows = bands_for(threshold)
    assert bands * rows <= 128
    assert 1 - (1 - threshold**rows) ** bands >= RECALL
    further = rows + 1
    assert rows == 128 or 1 - (1 - threshold**further) ** (128 // further) < RECALL


def test_band_keys_agree_where_the_band_does() -> None:
    left = np.arange(128, dtype=np.uint32).reshape(1, 128)
    right = left.copy()
    right[0, 9] = 1000
    keys, others = band_keys(left, 18, 7), band_keys(right, 18, 7)
    assert (keys != others).nonzero()[1].tolist() == [1]
    same = band_keys(np.zeros((1, 128), dtype=np.uint32), 18, 7)
    assert len(np.unique(same)) == 18


@pytest.mark.parametrize("threshold", [0, -1, 1.01])
def test_a_threshold_must_be_a_share(threshold: float) -> None:
    with pytest.raises(ConfigError, match="not between 0 and 1"):
        bands_for(threshold)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rensa", None)
    with pytest.raises(MissingExtraError, match=r"goldless\[dedup\]"):
        signatures(["text"])
