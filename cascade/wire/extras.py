"""What goldless adds to an answer: the `goldless` block of the body, and the response headers.

A block says who served each answer, how sure that is and what it rests on, whether a certificate covers it, what the
request took over all attempts, and what the last tier alone costs (`cost.baseline`). Unknown figures are null.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from cascade.policy import Certificate
from cascade.routed import Answer, Attempt, Routed, Served
from curator.types import Json, JsonObject, Usage

BLOCK: Final = "goldless"
"""The name of the block in a body."""

HEADERS: Final = ("x-goldless-tier", "x-goldless-confidence", "x-goldless-certified", "x-goldless-cost")


def text_block(routed: Routed[Answer], currency: str) -> JsonObject:
    """The block of a generated text: the one answer's fields stand in it directly."""
    return {**_served(routed.answers[0]), **_totals(routed, currency)}


def decision_block(routed: Routed[Answer], currency: str, names: Sequence[str | None]) -> JsonObject:
    """The block of decisions: `answers` has one entry per question, in order; `names` are the client's."""
    pairs = zip(names, routed.answers, strict=True)
    answers: list[Json] = [{"question": name, **_served(served)} for name, served in pairs]
    certified = all(served.certified for served in routed.answers)
    return {"answers": answers, "certified": certified, **_totals(routed, currency)}


def headers(routed: Routed[Answer], currency: str) -> dict[str, str]:
    """The response headers. Of several answers: the tiers that served, the least confidence, whether all are
    certified. A figure that is unknown has no header."""
    found = answer_headers(routed.answers)
    if (cost := routed.cost) is not None:
        found["x-goldless-cost"] = f"{cost:.8f} {currency}"
    return found


def answer_headers(answers: Sequence[Served[Answer]]) -> dict[str, str]:
    """Those that tell of the answers alone: of a stream, what is known before it is over."""
    tiers = ",".join(dict.fromkeys(served.tier for served in answers))
    sure = [served.confidence for served in answers]
    certified = all(served.certified for served in answers)
    found = {"x-goldless-tier": tiers, "x-goldless-certified": "true" if certified else "false"}
    if not any(math.isnan(value) for value in sure):
        found["x-goldless-confidence"] = f"{min(sure):.4f}"
    return found


def _served(one: Served[Answer]) -> JsonObject:
    found: JsonObject = {
        "tier": one.tier,
        "outcome": one.outcome.value,
        "confidence": _known(one.confidence),
        "basis": one.basis,
        "certified": one.certified,
        "certificate": None if one.certificate is None else certificate_block(one.certificate),
    }
    return {**found, "note": one.note} if one.note else found


def certificate_block(found: Certificate) -> JsonObject:
    """What people are told of a certificate."""
    return {"verdict": found.verdict.value, "alpha": found.alpha, "bound": found.bound, "basis": found.basis}


def _totals(routed: Routed[Answer], currency: str) -> JsonObject:
    return {
        "cost": {"amount": routed.cost, "currency": currency, "baseline": routed.baseline},
        "usage": _usage(routed.usage),
        "attempts": [_attempt(attempt) for attempt in routed.attempts],
        "latency": routed.latency,
    }


def _attempt(attempt: Attempt[Answer]) -> Json:
    found: JsonObject = {
        "tier": attempt.tier,
        "cost": attempt.cost,
        "usage": _usage(attempt.usage),
        "latency": attempt.latency,
    }
    return {**found, "error": attempt.error} if attempt.error else found


def _usage(usage: Usage) -> JsonObject:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "calls": usage.calls,
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
