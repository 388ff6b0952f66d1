"""Records of made-up traffic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cascade.traffic import ServedAnswer, TierAnswer, TrafficRecord
from curator.engines.base import EngineIdentity
from curator.task import classify
from curator.types import (
    Completion,
    DecideRequest,
    Decision,
    Decisions,
    Document,
    GenerateRequest,
    Message,
    Sample,
    Usage,
)

START = datetime(2026, 5, 1, 12, tzinfo=UTC)
SMALL, STRONG = EngineIdentity("head", "small", revision="r1"), EngineIdentity("http", "strong", "https://example.org")
TASK = classify(["positive", "negative"], "Good or bad?")


def decision(first: float) -> Decision:
    return Decision((first, first - 1.0), 0.75, "labels")


def decided(number: int, *, strong: bool = False, text: str = "") -> TrafficRecord:
    """A query that the small tier answered, or one that went on to the strong tier."""
    request: DecideRequest = TASK.decide_request(Document("", text or f"film {number}"))
    names = ("label",)
    answers = [TierAnswer("small", SMALL, names, Decisions((decision(-0.1),), Usage(10, 1), 0.001, 0.01))]
    if strong:
        answers.append(TierAnswer("strong", STRONG, names, Decisions((decision(-3.0),), Usage(20, 1), 0.1, 0.5)))
    served = ServedAnswer(
        "label", "f1", "strong" if strong else "small", "negative" if strong else "positive", 0.9, "reference:strong"
    )
    time = START + timedelta(seconds=number)
    return TrafficRecord(f"q{number}", time, "policy-1", request, (served,), tuple(answers), 0.01)


def generated(number: int) -> TrafficRecord:
    """A prompt that was answered with text."""
    request = GenerateRequest((Message("user", f"secret {number}"),))
    answer = Completion((Sample("secret answer", "stop", -0.2),), Usage(5, 2), None, 0.3)
    served = ServedAnswer("text", "f2", "strong", "secret answer", None, "raw")
    return TrafficRecord(
        f"g{number}", START, "policy-1", request, (served,), (TierAnswer("strong", STRONG, (), answer),), 0.3
    )
