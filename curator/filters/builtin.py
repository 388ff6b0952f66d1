"""The built-in filters by length and by language."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache

from curator.errors import ConfigError, MissingExtraError
from curator.sources.base import suggest
from curator.types import Document, Verdict

Filter = Callable[[Document], Verdict]
KEEP = Verdict(True)
LANGUAGE_SAMPLE = 2000
"""Characters from which the language is told; more cost time and change next to nothing."""


def length(
    *,
    min_chars: int | None = None,
    max_chars: int | None = None,
    min_words: int | None = None,
    max_words: int | None = None,
) -> Filter:
    """Bounds, inclusive, on characters and on words separated by white space.

    Reasons: `length.too_short`, `length.too_long`. Raises ConfigError for bounds that nothing meets.
    """
    for low, high in ((min_chars, max_chars), (min_words, max_words)):
        if low is not None and high is not None and low > high:
            raise ConfigError(f"length: the minimum {low} is above the maximum {high}")

    def check(document: Document) -> Verdict:
        verdict = _bounded(len(document.text), min_chars, max_chars, "characters")
        if verdict.keep and (min_words is not None or max_words is not None):
            verdict = _bounded(len(document.text.split()), min_words, max_words, "words")
        return verdict

    return check


def _bounded(size: int, low: int | None, high: int | None, unit: str) -> Verdict:
    if low is not None and size < low:
        return Verdict(False, "length.too_short", f"{size} {unit}, at least {low} are asked for")
    if high is not None and size > high:
        return Verdict(False, "length.too_long", f"{size} {unit}, at most {high} are asked for")
    return KEEP


def language(*, allowed: Collection[str] = ("en",), min_probability: float = 0.8, keep_unsure: bool = True) -> Filter:
    """Reject documents in other languages than `allowed` (ISO 639 codes), by py3langid.

    A language counts as recognised from `min_probability` on. Where none is, which is common below
    some 30 characters, `keep_unsure` decides. Reasons: `language.not_allowed`, `language.unsure`.
    Raises MissingExtraError without py3langid, ConfigError for a code that it does not know.
    """
    identify = _identifier(allowed)
    codes = frozenset(allowed)

    def check(document: Document) -> Verdict:
        code, probability = identify(document.text[:LANGUAGE_SAMPLE])
        if code in codes and (probability >= min_probability or keep_unsure):
            return KEEP
        detail = f"{code} with probability {probability:.2f}"
        if code not in codes and probability >= min_probability:
            return Verdict(False, "language.not_allowed", detail)
        return KEEP if keep_unsure else Verdict(False, "language.unsure", detail)

    return check


def _identifier(allowed: Collection[str]) -> Callable[[str], tuple[str, float]]:
    """py3langid's `classify` with probabilities, after a look at the codes."""
    if isinstance(allowed, str) or not allowed:
        raise ConfigError(f"language: allowed is {allowed!r}", hint='give a list of codes, like ["en", "de"]')
    classify, known = _model()
    for code in allowed:
        if code not in known:
            raise ConfigError(f"language: unknown code {code!r}", hint=suggest(code, known))
    return classify


@cache
def _model() -> tuple[Callable[[str], tuple[str, float]], tuple[str, ...]]:
    """py3langid's classifier and the codes that it knows. Loading it takes about half a second."""
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise MissingExtraError(
            "the language filter needs py3langid", hint='pip install "goldless[lang]", or leave the filter out'
        ) from None
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    return identifier.classify, tuple(sorted(identifier.labels))
