"""Repetitive text, as the corpus of Gopher was cleaned of it (Rae et al. 2021, arXiv 2112.11446, table A1).

The limits are the paper's. Ours are two guards, since the paper's documents are web pages and these
may be single sentences: n-grams are looked at from `min_words` words on, and only one that occurs
twice can be a top n-gram. The paper's paragraph rules are left out, a duplicate paragraph being made
of duplicate lines. Runs of one character are not in the paper.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from curator.errors import ConfigError
from curator.types import Document, Verdict

TOP_NGRAMS: Mapping[str, float] = {"2": 0.20, "3": 0.18, "4": 0.16}
"""Most that the most frequent n-gram may make up of a text's characters, by n (as in TOML, a string)."""
DUPLICATE_NGRAMS: Mapping[str, float] = {"5": 0.15, "6": 0.14, "7": 0.13, "8": 0.12, "9": 0.11, "10": 0.10}
"""Most that repeated n-grams may make up of a text's characters, by n."""
_RUN = re.compile(r"(\S)\1{19,}")


def repetition(
    *,
    duplicate_lines: float = 0.30,
    duplicate_line_chars: float = 0.20,
    top_ngrams: Mapping[str, float] = TOP_NGRAMS,
    duplicate_ngrams: Mapping[str, float] = DUPLICATE_NGRAMS,
    character_runs: float = 0.30,
    min_words: int = 50,
) -> Callable[[Document], Verdict]:
    """Reject texts that repeat themselves; each limit is the largest share that is still kept.

    Reasons: `repetition.lines`, `repetition.line_chars`, `repetition.top_<n>gram`,
    `repetition.duplicate_<n>gram`, `repetition.character_run` (20 or more of the same).
    Raises ConfigError for a limit that is no share or an n that is no number.
    """
    top, duplicate = _by_size("top_ngrams", top_ngrams), _by_size("duplicate_ngrams", duplicate_ngrams)
    for share in (duplicate_lines, duplicate_line_chars, character_runs, *top.values(), *duplicate.values()):
        if not 0 <= share <= 1:
            raise ConfigError(f"repetition: the limit {share} is not a share between 0 and 1")

    limits = _Limits(duplicate_lines, duplicate_line_chars, top, duplicate, character_runs, min_words)

    def check(document: Document) -> Verdict:
        for rule, share, limit in _shares(document.text, limits):
            if share > limit:
                return Verdict(False, f"repetition.{rule}", f"{share:.2f} of the text, at most {limit} is kept")
        return Verdict(True)

    return check


@dataclass(frozen=True, slots=True)
class _Limits:
    """The settings of `repetition`, checked."""

    lines: float
    line_chars: float
    top: Mapping[int, float]
    duplicate: Mapping[int, float]
    runs: float
    min_words: int


def _shares(text: str, limits: _Limits) -> Iterator[tuple[str, float, float]]:
    """Rule, share and limit; lazily, the cheap rules first."""
    yield "character_run", sum(len(run[0]) for run in _RUN.finditer(text)) / max(len(text), 1), limits.runs
    lines = [line for raw in text.splitlines() if (line := raw.strip())]
    if len(lines) > 1:
        repeats = _repeats(lines)
        yield "lines", len(repeats) / len(lines), limits.lines
        yield "line_chars", sum(map(len, repeats)) / sum(map(len, lines)), limits.line_chars
    words = text.split()
    if len(words) >= max(limits.min_words, 1):
        sizes = [len(word) for word in words]
        for size, limit in limits.top.items():
            yield f"top_{size}gram", _top_share(words, sum(sizes), size), limit
        for size, limit in limits.duplicate.items():
            yield f"duplicate_{size}gram", _duplicate_share(words, sizes, size), limit


def _by_size(name: str, limits: Mapping[str, float]) -> dict[int, float]:
    try:
        sizes = {int(size): float(limit) for size, limit in limits.items()}
    except (TypeError, ValueError, AttributeError):
        raise ConfigError(f"repetition: {name} is {limits!r}", hint='give limits by n, like {"2" = 0.2}') from None
    if any(size < 1 for size in sizes):
        raise ConfigError(f"repetition: {name} holds an n below 1")
    return sizes


def _repeats(items: Iterable[str]) -> list[str]:
    """The items that occurred before, each as often as it did again."""
    counts = Counter(items)
    return [item for item, count in counts.items() for _ in range(count - 1)]


def _ngrams(words: Sequence[str], size: int) -> Iterable[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(size)), strict=False)


def _top_share(words: Sequence[str], total: int, size: int) -> float:
    """Share of the words' characters in the n-gram that, by length and count, takes up most."""
    counts = Counter(_ngrams(words, size))
    repeated = (count * sum(map(len, ngram)) for ngram, count in counts.items() if count > 1)
    return min(1.0, max(repeated, default=0) / total)


def _duplicate_share(words: Sequence[str], sizes: Sequence[int], size: int) -> float:
    """Share of the words' characters inside n-grams that occurred before; overlaps count once."""
    seen: set[tuple[str, ...]] = set()
    inside, end = 0, 0
    for start, ngram in enumerate(_ngrams(words, size)):
        if ngram in seen:
            inside += sum(sizes[max(start, end) : start + size])
            end = start + size
        else:
            seen.add(ngram)
    return inside / sum(sizes)
