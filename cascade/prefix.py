"""What is certain of a draft's score while the draft is still being written.

The tokens that are there bound every signal, and so the score: token log-probabilities are at most 0, and there are at
most `max_tokens` of them. A draft is released early only where its final score cannot fall below the threshold any
more, and given up only where it cannot reach it. So streaming serves exactly the answers that waiting would serve, and
the certificate holds for both.

A rule that goes by `prefix_probability:k` alone is a prefix gate: the score is known after k tokens. Rules that need
the whole text release nothing early.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Final

import numpy as np

from cascade.policy import Rule, Scorer
from cascade.signals import SignalSpec, parse_signal, prefix_probability, quantile_of
from curator.confidence import Floats
from curator.engines.sampled import deciles
from curator.types import ChatRequest, GenerateRequest

MARGIN: Final = 1e-9
"""By how much a score must miss the threshold before a draft is given up: sums differ in their last bits."""

Bounds = tuple[float, float]


class Fate(Enum):
    """What is to become of a draft now."""

    WAIT = "wait"
    RELEASE = "release"
    ABORT = "abort"


class PrefixGate:
    """The rule of one tier, applied to a draft that is not there yet. `compared` says that the next tier's rule looks
    at this one's answer: then no draft is given up."""

    def __init__(self, rule: Rule, request: GenerateRequest, compared: bool = False) -> None:
        self._rule = rule
        self._specs = [parse_signal(name) for name in rule.scorer.signals]
        self._most = request.sampling.max_tokens
        self._free = not may_be_invalid(request)
        known = {spec.base for spec in self._specs} & set(_BOUNDS)
        self.aborts = bool(known) and not compared
        """Whether a draft may be given up early."""
        self.releases = self._free and any(spec.base == "prefix_probability" for spec in self._specs)
        """Whether one may be released early."""
        self._due = 1

    def fate(self, logprobs: Sequence[float]) -> Fate:
        """What the tokens so far decide. Asked after every piece; it looks when the tokens have doubled, and as soon as
        a prefix is complete."""
        if len(logprobs) < self._due:
            return Fate.WAIT
        self._due = self._next(len(logprobs))
        low, high = self.bounds(logprobs)
        if self.releases and low >= self._rule.limit:
            return Fate.RELEASE
        return Fate.ABORT if self.aborts and high < self._rule.limit - MARGIN else Fate.WAIT

    def bounds(self, logprobs: Sequence[float]) -> Bounds:
        """The least and the highest score that the draft may still get."""
        pairs = [self._signal(spec, logprobs) for spec in self._specs]
        return score_bounds(self._rule.scorer, pairs)

    def _signal(self, spec: SignalSpec, logprobs: Sequence[float]) -> Bounds:
        if spec.base == "valid" and self._free:
            return 1.0, 1.0
        found = _BOUNDS.get(spec.base)
        return (0.0, 1.0) if found is None else found(spec, logprobs, max(self._most, len(logprobs)))

    def _next(self, count: int) -> int:
        prefixes = [spec.count for spec in self._specs if spec.base == "prefix_probability" and spec.count > count]
        return min([2 * count, *prefixes])


def may_be_invalid(request: GenerateRequest) -> bool:
    """Whether an answer can be one that must be escalated whatever its score: that shows only when it is whole."""
    tools = isinstance(request, ChatRequest) and bool(request.tools)
    return tools or request.schema is not None


def score_bounds(scorer: Scorer, signals: Sequence[Bounds]) -> Bounds:
    """The least and the highest score of signals that lie between bounds."""
    weights = scorer.weights
    low = np.array([pair[weight < 0] for pair, weight in zip(signals, weights, strict=True)])
    high = np.array([pair[weight >= 0] for pair, weight in zip(signals, weights, strict=True)])
    if np.array_equal(low, high):
        exact = float(scorer.score(low[None])[0])
        return exact, exact
    sums = [float(part @ np.asarray(weights) + scorer.bias) for part in (low, high)]
    if not scorer.knots:
        return sums[0], sums[1]
    turns = [sums[0], *(knot for knot in scorer.knots if sums[0] < knot < sums[1]), sums[1]]
    values: Floats = np.interp(turns, scorer.knots, scorer.values)
    return float(values.min()), float(values.max())


def _sequence(spec: SignalSpec, logprobs: Sequence[float], most: int) -> Bounds:
    # All tokens that may come are certain, at best.
    return 0.0, math.exp(min(sum(logprobs) / most, 0.0))


def _prefix(spec: SignalSpec, logprobs: Sequence[float], most: int) -> Bounds:
    if len(logprobs) >= spec.count:
        exact = prefix_probability(spec.count, logprobs)
        return exact, exact
    return 0.0, math.exp(min(sum(logprobs) / spec.count, 0.0))


def _quantile(spec: SignalSpec, logprobs: Sequence[float], most: int) -> Bounds:
    return 0.0, quantile_of(spec.parameter, deciles([*logprobs, *[0.0] * (most - len(logprobs))]))


_BOUNDS: Final[Mapping[str, Callable[[SignalSpec, Sequence[float], int], Bounds]]] = {
    "sequence_probability": _sequence,
    "prefix_probability": _prefix,
    "token_quantile": _quantile,
}
