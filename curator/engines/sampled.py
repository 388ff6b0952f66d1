"""A generated text with what its tokens' log-probabilities say, summed up while they are at hand."""

from __future__ import annotations

from collections.abc import Sequence

from curator.types import Sample

STEPS = 10
HEAD = 32
"""Tokens at the beginning of a text whose log-probabilities are kept."""


def sample(text: str, finish_reason: str, logprobs: Sequence[float]) -> Sample:
    """The sample of a text whose tokens had these natural log-probabilities (none: unknown).

    Eleven numbers are kept and not one per token: they hold every quantile that a deferral rule uses (Gupta et al.
    2024, arXiv 2404.10136) in the same memory for a word and for a page. The first `HEAD` are kept too: what a rule
    can go by while the rest is not there yet.
    """
    if not logprobs:
        return Sample(text, finish_reason)
    mean = sum(logprobs) / len(logprobs)
    return Sample(text, finish_reason, mean, deciles(logprobs), head=tuple(logprobs[:HEAD]))


def deciles(values: Sequence[float]) -> tuple[float, ...]:
    """The 0th, 10th, ... 100th percentile of at least one value, linear between neighbours."""
    ordered = sorted(values)
    return tuple(_between(ordered, step * (len(ordered) - 1) / STEPS) for step in range(STEPS + 1))


def _between(ordered: Sequence[float], place: float) -> float:
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
