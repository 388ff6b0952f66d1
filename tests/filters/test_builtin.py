"""The filters by length and by language."""

from __future__ import annotations

import sys
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator.errors import MissingExtraError
from curator.filters import builtin, language, length
from curator.types import Document, Verdict

GERMAN = "Das ist ein ganz gewöhnlicher Satz, wie man ihn in einer Zeitung lesen könnte."
ENGLISH = "This is a perfectly ordinary sentence, such as one might read in a newspaper."


@given(text=st.text(max_size=12), low=st.integers(0, 6), more=st.integers(0, 6))
def test_bounds_on_characters_are_inclusive(text: str, low: int, more: int) -> None:
    verdict = length(min_chars=low, max_chars=low + more)(Document("a", text))
    assert verdict.keep is (low <= len(text) <= low + more)
    assert verdict.reason == ("" if verdict.keep else "length.too_short" if len(text) < low else "length.too_long")


def test_bounds_on_words() -> None:
    check = length(min_words=2, max_words=3)
    assert check(Document("a", "one")) == Verdict(False, "length.too_short", "1 words, at least 2 are asked for")
    assert check(Document("a", " one\ttwo ")).keep
    assert check(Document("a", "one two three four")).reason == "length.too_long"


def test_other_languages_are_rejected() -> None:
    check = language(allowed=["en"])
    assert check(Document("a", ENGLISH)).keep
    verdict = check(Document("b", GERMAN))
    assert (verdict.keep, verdict.reason) == (False, "language.not_allowed")
    assert verdict.detail.startswith("de with probability")
    assert language(allowed=["fr", "de"])(Document("b", GERMAN)).keep


@pytest.mark.parametrize("text", ["ok", "", "12345"])
def test_what_cannot_be_told_is_kept_unless_asked(text: str) -> None:
    assert language()(Document("a", text)).keep
    assert language(keep_unsure=False)(Document("a", text)).reason == "language.unsure"


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    monkeypatch.setattr(builtin, "_model", cache(builtin._model.__wrapped__))
    with pytest.raises(MissingExtraError, match=r"goldless\[lang\]"):
        language()
