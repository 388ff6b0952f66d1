"""Spans and metrics of a route: one span per request, one per judgement; next to nothing where nobody looks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from cascade.routed import Answer, Judgement, Reason, Routed
from cascade.sums import Sums
from curator import telemetry
from curator.telemetry import Attribute, Span

SERVE, ESCALATE = "serve", "escalate"

Watching = AbstractContextManager[Span | None]
NOBODY: Final[Watching] = nullcontext()
"""Instead of a span where nothing is recorded."""

_requests = Sums(
    telemetry.REQUESTS, "{answer}", "Answers served, by tier and outcome.", (telemetry.TIER, telemetry.OUTCOME)
)
_cost = Sums(
    telemetry.COST,
    "{money}",
    "Money that attempts took, by tier and currency.",
    (telemetry.TIER, telemetry.COST_CURRENCY),
)


def request_span(questions: int) -> Watching:
    """The span `invoke_workflow cascade`, around the attempts' own; None where nothing is recorded."""
    return telemetry.span(telemetry.WORKFLOW, _asked(questions)) if telemetry.recording() else NOBODY


@contextmanager
def stream_span(questions: int) -> Iterator[Span | None]:
    """The same for an answer in pieces: not the current span, but for the steps that make it so."""
    if not telemetry.recording():
        yield None
        return
    with telemetry.held_span(telemetry.WORKFLOW, {**_asked(questions), telemetry.REQUEST_STREAM: True}) as current:
        yield current


def _asked(questions: int) -> dict[str, Attribute]:
    return {
        telemetry.OPERATION: "invoke_workflow",
        telemetry.WORKFLOW_NAME: "cascade",
        telemetry.QUESTIONS: questions,
    }


def decide_span() -> Watching:
    """The span `cascade.decide` of one judgement, around the calls that its signals take."""
    return telemetry.span(telemetry.DECIDE, {})


def tell_judgement(current: Span, tier: str, judgement: Judgement[Answer]) -> None:
    """Signal values, threshold, decision and reason on the span, and the score as an evaluation's result. What is
    unknown is left out. All at once: the SDK takes longer over a set of attributes than over one more in it."""
    decision, reason = SERVE if judgement.reason is Reason.REACHED else ESCALATE, judgement.reason.value
    found: dict[str, Attribute] = {
        telemetry.TIER: tier,
        telemetry.QUESTION: judgement.question,
        telemetry.DECISION: decision,
        telemetry.REASON: reason,
    }
    event: dict[str, Attribute] = {
        telemetry.EVALUATION_NAME: "cascade.score",
        telemetry.EVALUATION_LABEL: decision,
        telemetry.EVALUATION_EXPLANATION: reason,
    }
    for name, value in judgement.signals.items():
        if not math.isnan(value):
            found[telemetry.SIGNAL + name] = value
    if math.isfinite(judgement.threshold):
        found[telemetry.THRESHOLD] = judgement.threshold
    if math.isfinite(judgement.score):
        found[telemetry.SCORE] = event[telemetry.EVALUATION_SCORE] = judgement.score
    current.set_attributes(found)
    current.add_event(telemetry.EVALUATION, event)


def tell_request(current: Span, routed: Routed[Answer], currency: str) -> None:
    """Who served, and the totals, on the workflow's span; the same into the metrics."""
    answers = routed.answers
    found: dict[str, Attribute] = {
        telemetry.TIER: tuple(served.tier for served in answers),
        telemetry.OUTCOME: tuple(served.outcome.value for served in answers),
        telemetry.CERTIFIED: all(served.certified for served in answers),
    }
    for name, money in ((telemetry.COST_TOTAL, routed.cost), (telemetry.COST_BASELINE, routed.baseline)):
        if money is not None:
            found |= {name: money, telemetry.CURRENCY: currency}
    current.set_attributes(found)
    for served in answers:
        _requests.add(1, served.tier, served.outcome.value)
        if not math.isnan(served.confidence):
            telemetry.record_confidence(served.tier, served.confidence)
    tell_cost(routed, currency)


def tell_cost(routed: Routed[Answer], currency: str) -> None:
    """What each attempt took, into the metrics."""
    for attempt in routed.attempts:
        if attempt.cost is not None:
            _cost.add(attempt.cost, attempt.tier, currency)
