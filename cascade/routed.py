"""What a route through a cascade leaves behind: every attempt, what was made of it, and who served the answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from cascade.policy import Certificate
from curator.engines.tries import Try
from curator.types import Usage

Answer = TypeVar("Answer")
"""`Decision` or `Completion`."""


class Outcome(StrEnum):
    """How an answer came to be served. ACCEPTED: its tier's rule held. TEACHER: the last tier's, after all rules said
    no. DIRECT: the last tier was asked at once, since no rule may be used. FALLBACK: the last tier failed, or
    a cap kept it from being asked: this is the strongest other answer. REFUSED: the last tier declined, there is no
    answer."""

    ACCEPTED = "accepted"
    TEACHER = "teacher"
    DIRECT = "direct"
    FALLBACK = "fallback"
    REFUSED = "refused"


class Reason(StrEnum):
    """What decided about one tier's answer. Only REACHED serves it by a rule; LAST is the last tier's, which nothing
    judges; RESCUED that of a tier asked because the last one failed."""

    REACHED = "reached"
    BELOW = "below_threshold"
    UNKNOWN = "unknown_signal"
    INVALID = "invalid"
    REFUSED = "refused"
    FAILED = "failed"
    LAST = "last"
    RESCUED = "rescued"


@dataclass(frozen=True, slots=True)
class Judgement(Generic[Answer]):
    """One tier's answer to one question and what was made of it. `score` and `threshold` are NaN where no rule
    judged; `signals` holds what the rule uses, NaN where unknown."""

    question: str
    answer: Answer | None
    reason: Reason
    signals: Mapping[str, float] = field(default_factory=dict)
    score: float = float("nan")
    threshold: float = float("nan")


@dataclass(frozen=True, slots=True)
class Attempt(Generic[Answer]):
    """One tier asked about some of the questions. `usage`, `cost` (None: unknown) and `latency` (seconds) include the
    calls that signals took; `error` is the class of what failed. `tries` are the calls behind it that did not give the
    answer: they failed and were tried again, here or on another replica, or were overtaken. `usage` and `cost` have of
    them what is known. Where a stream ended early and the engine had not told its usage, they are `estimated` from the
    pieces that came."""

    tier: str
    judgements: tuple[Judgement[Answer], ...]
    usage: Usage
    cost: float | None
    latency: float
    error: str = ""
    tries: tuple[Try, ...] = ()
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Served(Generic[Answer]):
    """The answer to one question (None: refused), the tier that gave it, and how.

    `confidence` is the probability of being right (basis `reference:<teacher>` or `audited(<n>)`) where the policy's
    scorer is calibrated, else a score that nothing has calibrated (basis `raw`), NaN where there is none. `certified`
    says whether the policy's certificate covers this answer; `note` why not. `certificate` is the question's, where
    its rules were in force. `refusal` is what the tier said where it declined, if it said anything.
    """

    question: str
    answer: Answer | None
    tier: str
    outcome: Outcome
    confidence: float
    basis: str
    certified: bool
    note: str = ""
    certificate: Certificate | None = None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Routed(Generic[Answer]):
    """A request's way through a cascade: one answer per question in order, the attempts in the order made.

    `baseline` is what the last tier alone costs for this request: what it did cost, where it was asked everything,
    else what the certificate expects; None where unknown.
    """

    answers: tuple[Served[Answer], ...]
    attempts: tuple[Attempt[Answer], ...]
    latency: float
    baseline: float | None = None

    @property
    def usage(self) -> Usage:
        """Of all attempts, drafts and failures included."""
        used = [attempt.usage for attempt in self.attempts]
        return used[0] if len(used) == 1 else sum(used, Usage(calls=0))

    @property
    def cost(self) -> float | None:
        """Of all attempts; None where one of them is unknown."""
        return total(attempt.cost for attempt in self.attempts)


def total(costs: Iterable[float | None]) -> float | None:
    """The sum; unknown if one part is."""
    found = 0.0
    for cost in costs:
        if cost is None:
            return None
        found += cost
    return found
