"""Repetitive text."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator.filters import repetition
from curator.types import Document

WORDS = [f"word{number}" for number in range(400)]
PROSE = " ".join(WORDS)


def reason(text: str, **limits: float) -> str:
    return repetition(**limits)(Document("a", text)).reason  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PROSE, ""),
        ("", ""),
        ("one line\nanother line\na third", ""),
        ("same\nsame\nother\n", "repetition.lines"),
        ("a\nb\nc\nd\n" + "a long line that comes twice\n" * 2, "repetition.line_chars"),
        ("so " + "o" * 40, "repetition.character_run"),
        (PROSE + " " + "-" * 40, ""),
        (" ".join(WORDS[:60] + ["buy", "now"] * 20), "repetition.top_2gram"),
        (" ".join(WORDS[:100] * 2), "repetition.duplicate_5gram"),
        ("ha ha ha ha ha", ""),
    ],
)
def test_each_rule(text: str, expected: str) -> None:
    assert reason(text) == expected


def test_short_texts_are_not_asked_about_ngrams() -> None:
    short = " ".join(["buy", "now"] * 24)
    assert reason(short) == ""
    assert reason(short, min_words=10) == "repetition.top_2gram"


def test_an_ngram_that_occurs_once_is_no_top_one() -> None:
    assert reason("internationalisation of " + " ".join("abcdefgh"), min_words=1) == ""


def test_the_share_of_duplicate_ngrams_counts_overlaps_once() -> None:
    text = " ".join([*WORDS[:90], *WORDS[:10]])
    found = repetition(duplicate_ngrams={"5": 0.0}, top_ngrams={})(Document("a", text))
    characters = [len(word) for word in text.split()]
    assert found.detail == f"{sum(characters[90:]) / sum(characters):.2f} of the text, at most 0.0 is kept"


@given(seed=st.integers(0, 10**6), share=st.floats(0, 0.6))
def test_the_duplicate_share_is_that_of_a_brute_force(seed: int, share: float) -> None:
    """Positions covered by an n-gram that occurred further left, marked one by one."""
    rng = random.Random(seed)
    words = [rng.choice("abcd") * rng.randint(1, 2) for _ in range(60)]
    covered: set[int] = set()
    for start in range(len(words) - 2):
        gram = words[start : start + 3]
        if any(words[before : before + 3] == gram for before in range(start)):
            covered |= set(range(start, start + 3))
    expected = sum(len(words[position]) for position in covered) / sum(map(len, words))
    rejected = reason(" ".join(words), duplicate_ngrams={"3": share}, top_ngrams={}) == "repetition.duplicate_3gram"
    assert rejected is (expected > share)
