"""Spans and metrics of a route: one span per request, one per judgement; next to nothing where nobody looks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cascade.routed import Answer, Judgement, Reason, Routed
from curator import telemetry
from curator.telemetry import Attribute, Span

SERVE, ESCALATE = "serve", "escalate"


@contextmanager
def request_span(questions: int) -> Iterator[Span | None]:
    """The span `invoke_workflow cascade`, around the attempts' own; None where nothing is recorded."""
    with _span(telemetry.WORKFLOW, _asked(questions)) as current:
        yield current


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


@contextmanager
def decide_span(tier: str, question: str) -> Iterator[Span | None]:
    """The span `cascade.decide` of one judgement, around the calls that its signals take."""
    with _span(telemetry.DECIDE, {telemetry.TIER: tier, telemetry.QUESTION: question}) as current:
        yield current


@contextmanager
def _span(name: str, attributes: Mapping[str, Attribute]) -> Iterator[Span | None]:
    if not telemetry.recording():
        yield None
        return
    with telemetry.span(name, attributes) as current:
        yield current


def tell_judgement(current: Span, judgement: Judgement[Answer]) -> None:
    """Signal values, threshold, decision and reason on the span, and the score as an evaluation's result. What is
    unknown is left out."""
    decision = SERVE if judgement.reason is Reason.REACHED else ESCALATE
    found: dict[str, Attribute] = {telemetry.DECISION: decision, telemetry.REASON: str(judgement.reason)}
    known = {name: value for name, value in judgement.signals.items() if not math.isnan(value)}
    found |= {f"{telemetry.SIGNAL}{name}": value for name, value in known.items()}
    found |= {
        name: value
        for name, value in ((telemetry.SCORE, judgement.score), (telemetry.THRESHOLD, judgement.threshold))
        if math.isfinite(value)
    }
    current.set_attributes(found)
    event: dict[str, Attribute] = {
        telemetry.EVALUATION_NAME: "cascade.score",
        telemetry.EVALUATION_LABEL: decision,
        telemetry.EVALUATION_EXPLANATION: str(judgement.reason),
    }
    if math.isfinite(judgement.score):
        event[telemetry.EVALUATION_SCORE] = judgement.score
    current.add_event(telemetry.EVALUATION, event)


def tell_request(current: Span, routed: Routed[Answer], currency: str) -> None:
    """Who served, and the totals, on the workflow's span; the same into the metrics."""
    answers = routed.answers
    current.set_attribute(telemetry.TIER, tuple(served.tier for served in answers))
    current.set_attribute(telemetry.OUTCOME, tuple(str(served.outcome) for served in answers))
    current.set_attribute(telemetry.CERTIFIED, all(served.certified for served in answers))
    for name, money in ((telemetry.COST_TOTAL, routed.cost), (telemetry.COST_BASELINE, routed.baseline)):
        if money is not None:
            current.set_attribute(name, money)
            current.set_attribute(telemetry.CURRENCY, currency)
    for served in answers:
        confidence = None if math.isnan(served.confidence) else served.confidence
        telemetry.record_served(served.tier, str(served.outcome), confidence)
    tell_cost(routed, currency)


def tell_cost(routed: Routed[Answer], currency: str) -> None:
    """What each attempt took, into the metrics."""
    for attempt in routed.attempts:
        if attempt.cost is not None:
            telemetry.record_cost(attempt.tier, attempt.cost, currency)
