"""Which option a token's text begins: reading options off `top_logprobs`, where token ids are unknown.

A token counts for a label that starts with it (case and surrounding space aside, where the labels
differ beyond that), so every way in which a tokenizer may begin the label adds up. A token that
begins several labels is split evenly among them; labels that share much of their beginning are not
read this way at all (`separable`).
"""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Sequence
from typing import Final, TypedDict

SHARED: Final = 2
"""Labels with a longer common beginning (in characters) are asked by letters or structured output."""

LEAST: Final = -20.0
"""The least log-probability of an option in a spelled-out answer."""

_TRAILING = string.punctuation + string.whitespace


class TokenChance(TypedDict, total=False):
    """One token of `logprobs.content`, or one of its `top_logprobs`."""

    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[TokenChance]


class Matcher:
    """Token text -> the options that it begins. Made once per question; answers are remembered."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        self._fold = len({_folded(text) for text in texts}) == len(texts) and max(map(len, texts)) > 2
        self._wanted = tuple(map(self._normal, texts))
        self._raw = tuple(text.encode() for text in texts)
        self._known: dict[str, tuple[int, ...]] = {}

    def options(self, token: TokenChance) -> tuple[int, ...]:
        """Indices of the options that may begin with this token."""
        text = token["token"]
        found = self._known.get(text)
        if found is not None:
            return found
        if "�" in text and (raw := token.get("bytes")):
            return tuple(i for i, label in enumerate(self._raw) if label.startswith(bytes(raw)))
        if len(self._known) < 4096:
            self._known[text] = found = self._find(text)
            return found
        return self._find(text)

    def begins(self, text: str) -> tuple[int, ...]:
        """Indices of the options whose text starts with `text`, or which `text` spells out."""
        return self._find(text)

    def _find(self, text: str) -> tuple[int, ...]:
        wanted = self._normal(text)
        if not wanted:
            return ()
        found = tuple(i for i, label in enumerate(self._wanted) if label.startswith(wanted))
        return found or tuple(i for i, label in enumerate(self._wanted) if label == wanted.rstrip(_TRAILING))

    def _normal(self, text: str) -> str:
        return _folded(text) if self._fold else text.strip()


def _folded(text: str) -> str:
    return text.strip().casefold()


def separable(texts: Sequence[str]) -> bool:
    """Whether the first token tells these options apart whatever the tokenizer: none begins another,
    and no two share more than `SHARED` characters at the start."""
    ordered = sorted(_folded(text) for text in texts)
    for one, other in itertools.pairwise(ordered):
        if not one or other.startswith(one) or one[: SHARED + 1] == other[: SHARED + 1]:
            return False
    return True


def read_first(matcher: Matcher, chances: Sequence[TokenChance]) -> tuple[list[float], float] | None:
    """Log-probability per option and their mass, from the likeliest first tokens; None if no option is
    among them. An option that is not gets its share of what the list leaves over, at most as much as
    the last of the list."""
    mass = [0.0] * len(matcher.texts)
    listed = 0.0
    for chance in chances:
        p = math.exp(chance["logprob"])
        listed += p
        if options := matcher.options(chance):
            for option in options:
                mass[option] += p / len(options)
    total = sum(mass)
    if total <= 0.0:
        return None
    if 0.0 in mass:
        least = min(chance["logprob"] for chance in chances)
        left = max(1.0 - listed, 1e-9) / mass.count(0.0)
        return [math.log(p) if p else min(least, math.log(left)) for p in mass], min(total, 1.0)
    return [math.log(p) for p in mass], min(total, 1.0)


def read_spelled(matcher: Matcher, tokens: Sequence[TokenChance], start: int) -> list[float] | None:
    """Log-probability per option, where the option is spelled out from character `start` of the text
    that `tokens` add up to; None if the tokens carry no alternatives or do not spell an option.

    Follows the tokens that were chosen; wherever an alternative leads to other options, these get the
    probability of the way up to there times the alternative's.
    """
    found = [-math.inf] * len(matcher.texts)
    spelled, way, position = "", 0.0, 0
    left = set(range(len(matcher.texts)))
    for token in tokens:
        text, begin = token["token"], max(start - position, 0)
        position += len(text)
        if position <= start:
            continue
        for chance in token.get("top_logprobs") or ():
            ahead = chance["token"]
            if ahead != text and ahead[:begin] == text[:begin]:
                _credit(found, left, matcher.begins(_value(spelled + ahead[begin:])), way + chance["logprob"])
        spelled += text[begin:]
        way += token["logprob"]
        left &= set(matcher.begins(_value(spelled)))
        if len(left) <= 1 or '"' in spelled:
            break
    _settle(found, left, _value(spelled), matcher, way)
    return _filled(found) if any(map(math.isfinite, found)) else None


def _value(text: str) -> str:
    """The part of a JSON string that lies before its closing quote."""
    return text.partition('"')[0]


def _credit(found: list[float], left: set[int], options: tuple[int, ...], logprob: float) -> None:
    """Add an alternative's probability to the options that it begins and that are still possible."""
    for option in options:
        if option in left:
            _add(found, option, logprob - math.log(len(options)))


def _settle(found: list[float], left: set[int], spelled: str, matcher: Matcher, way: float) -> None:
    """The chosen way's probability goes to the option that it spells out."""
    exact = {i for i in left if matcher.texts[i] == spelled}
    for option in exact or left:
        _add(found, option, way - math.log(len(exact or left)))


def _add(found: list[float], option: int, logprob: float) -> None:
    top = max(found[option], logprob)
    found[option] = top + math.log(math.exp(found[option] - top) + math.exp(logprob - top))


def _filled(found: list[float]) -> list[float]:
    """Options that no list mentioned get at most the least probability that one did. A constrained
    decoder's minus infinity (vLLM writes -9999) is cut to `LEAST`."""
    least = min(min(filter(math.isfinite, found)), LEAST / 2)
    return [max(value if math.isfinite(value) else least, LEAST) for value in found]
