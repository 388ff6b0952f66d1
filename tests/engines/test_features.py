"""Features are computed once per encoder and text, and a damaged cache costs time only."""

from __future__ import annotations

import numpy as np
import pytest

from curator.engines.features import FeatureCache


class Counting:
    """Encodes a text as its length, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts):
        self.asked += texts
        return np.array([[len(text), 1] for text in texts], dtype=np.float32).reshape(len(texts), 2)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GOLDLESS_CACHE", str(tmp_path))


def test_a_text_is_encoded_once_per_encoder():
    counting = Counting()
    cache = FeatureCache(counting, "one")
    assert cache.encode(["aa", "b", "aa"])[:, 0].tolist() == [2, 1, 2]
    assert cache.encode(["ccc", "b"])[:, 0].tolist() == [3, 1]
    assert counting.asked == ["aa", "b", "ccc"]
    again = FeatureCache(counting, "one").encode(["ccc", "aa"])
    assert again[:, 0].tolist() == [3, 2]
    assert again.dtype == np.float32
    assert counting.asked == ["aa", "b", "ccc"]
    FeatureCache(counting, "two").encode(["aa"])
    assert counting.asked[-1] == "aa"
    assert len(counting.asked) == 4


def test_no_texts():
    assert FeatureCache(Counting(), "one").encode([]).shape == (0, 2)


def test_a_damaged_file_is_read_as_absent(tmp_path, caplog):
    counting = Counting()
    FeatureCache(counting, "one").encode(["aa"])
    (file,) = (tmp_path / "features" / "one").glob("*.npy")
    file.write_bytes(file.read_bytes()[:40])
    assert FeatureCache(counting, "one").encode(["aa"])[0, 0] == 2
    assert counting.asked == ["aa", "aa"]
    assert "is damaged" in caplog.text


def test_what_was_encoded_before_a_kill_is_kept(monkeypatch):
    class Killed(Counting):
        def encode(self, texts):
            if len(self.asked) >= 4:
                raise KeyboardInterrupt
            return super().encode(texts)

    monkeypatch.setattr("curator.engines.features.BLOCK", 2)
    texts = [f"text {'x' * number}" for number in range(6)]
    with pytest.raises(KeyboardInterrupt):
        FeatureCache(Killed(), "one").encode(texts)
    counting = Counting()
    found = FeatureCache(counting, "one").encode(texts)
    assert found[:, 0].tolist() == [len(text) for text in texts]
    assert counting.asked == texts[4:]
