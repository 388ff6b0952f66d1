"""The index of band keys, against a dictionary."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curator.dedup.index import BUCKET, LOAD, BandIndex
from curator.dedup.minhash import mixed

KEYS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1000)), max_size=300)


def spread(keys: list[int]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Keys whose upper 36 bits differ; many of them want the same few slots."""
    return (np.array(keys, dtype=np.uint64) << np.uint64(28)) + np.uint64(5)


@given(entries=KEYS, cut=st.integers(0, 300))
def test_it_finds_what_a_dictionary_would(entries: list[tuple[int, int]], cut: int) -> None:
    index = BandIndex(slots=16)
    expected: dict[int, list[int]] = {}
    for part in (entries[:cut], entries[cut:]):
        index.add(spread([key for key, _ in part]), np.array([number for _, number in part], dtype=np.int64))
        for key, number in part:
            expected.setdefault(key, []).append(number)
    asked = list(range(50))
    positions, documents = index.find(spread(asked))
    for key in asked:
        found = sorted(documents[positions == key].tolist())
        wanted = sorted(expected.get(key, []))
        distinct = len(set(wanted))
        if distinct <= BUCKET and len(wanted) <= BUCKET:
            assert set(found) == set(wanted)
        assert set(found) <= set(wanted)
        assert len(found) <= BUCKET


def test_it_grows_with_what_it_holds() -> None:
    index = BandIndex(slots=16)
    keys = mixed(np.arange(20_000, dtype=np.uint64))
    for start in range(0, len(keys), 1000):
        index.add(keys[start : start + 1000], np.arange(start, start + 1000))
    positions, documents = index.find(keys)
    assert sorted(positions.tolist()) == list(range(20_000))
    assert (positions == documents).all()
    assert index.nbytes <= 8 * len(keys) / LOAD * 2


def test_an_empty_index_knows_nothing() -> None:
    positions, documents = BandIndex().find(spread([1, 2, 3]))
    assert (len(positions), len(documents)) == (0, 0)
