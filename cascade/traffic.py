"""Served queries as records: what the next curation and the next certificate are made from.

One record per request. The texts (state, messages, generated answers) are kept only where the operator asked for
content; option probabilities, tiers, costs and latencies always.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from cascade.fingerprint import pinned
from curator.engines.base import EngineIdentity, request_key
from curator.types import Completion, DecideRequest, Decisions, GenerateRequest

Request = DecideRequest | GenerateRequest


@dataclass(frozen=True, slots=True)
class ServedAnswer:
    """What one question was answered with. `value` is the option's label, or the text of an open answer; None where it
    was refused, or an open answer is recorded without content. `audit` is the probability with which an accepted
    answer was drawn for an audit, None where it was not drawn; `disagreed` is the audit's outcome."""

    question: str
    fingerprint: str
    tier: str
    value: str | None
    confidence: float | None
    basis: str
    audit: float | None = None
    disagreed: bool | None = None


@dataclass(frozen=True, slots=True)
class TierAnswer:
    """What one tier answered, for an audit too. `questions` names what it was asked, in order; none where it generated.
    `key` is the completion key of exactly that; `keyed` fills it in."""

    tier: str
    engine: EngineIdentity
    questions: tuple[str, ...]
    answer: Decisions | Completion
    key: str = ""


@dataclass(frozen=True, slots=True)
class TrafficRecord:
    """One request: when, under which policy (its checksum), what was asked, what each question was answered with, and
    what every tier that was asked said, in the order of asking. `request` is None where it was recorded without
    content; `latency` is what the caller waited, in seconds."""

    id: str
    time: datetime
    policy: str
    request: Request | None
    served: tuple[ServedAnswer, ...]
    answers: tuple[TierAnswer, ...]
    latency: float = 0.0

    @property
    def cost(self) -> float | None:
        """Of all tiers that were asked; None where one of them is unknown."""
        costs = [answer.answer.cost for answer in self.answers]
        return None if None in costs else sum(cost for cost in costs if cost is not None)


def keyed(record: TrafficRecord) -> TrafficRecord:
    """The record with the completion key of every answer: it says what was asked even without content."""
    request = record.request
    if request is None:
        return record
    return replace(record, answers=tuple(replace(item, key=_key(item, request)) for item in record.answers))


def _key(item: TierAnswer, request: Request) -> str:
    if isinstance(request, DecideRequest):
        asked = tuple(question for question in request.questions if question.name in item.questions)
        # A tier that is asked for some of the questions sees them in the turn order that all of them had.
        request = request if asked == request.questions else replace(pinned(request), questions=asked)
    return request_key(item.engine, request)


def without_content(record: TrafficRecord) -> TrafficRecord:
    """The record without anything that a user or a model wrote. Labels of options stay: they are the operator's."""
    closed = {name for item in record.answers for name in item.questions}
    return replace(
        record,
        request=None,
        served=tuple(one if one.question in closed else replace(one, value=None) for one in record.served),
        answers=tuple(replace(item, answer=_without_texts(item.answer)) for item in record.answers),
    )


def _without_texts(answer: Decisions | Completion) -> Decisions | Completion:
    if isinstance(answer, Decisions):
        return answer
    return replace(
        answer, samples=tuple(replace(sample, text="", tool_calls=(), tokens=()) for sample in answer.samples)
    )
