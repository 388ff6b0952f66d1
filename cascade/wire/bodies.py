"""Pieces that the response bodies of several dialects share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cascade.routed import Answer, Routed, Served
from curator.types import Completion, Delta, JsonObject, Sample, Usage

DECLINED: Final = "The model declined to answer."
"""The refusal of a tier that gave no text of its own."""

_REASONS: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})


@dataclass(frozen=True, slots=True)
class Stamp:
    """What all bodies of one answer repeat: its id, the model's name, and when it was made (Unix seconds)."""

    id: str
    model: str
    created: int


def chat_usage(usage: Usage) -> JsonObject:
    """`usage` of chat completions and completions."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def input_usage(usage: Usage) -> JsonObject:
    """`usage` of decisions and responses."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def samples_of(served: Served[Completion]) -> tuple[Sample, ...]:
    """The texts of an answer; of none, the refusal."""
    if served.answer is None:
        return (Sample(served.refusal or DECLINED, "refusal"),)
    return served.answer.samples


def served_usage(routed: Routed[Answer]) -> Usage:
    """Tokens of the served answer alone: a text's own; for decisions, those of the attempts that served one."""
    if len(routed.answers) == 1 and isinstance(answer := routed.answers[0].answer, Completion):
        return answer.usage
    served = {(one.tier, one.question) for one in routed.answers}
    parts = [
        attempt.usage
        for attempt in routed.attempts
        if not attempt.error and any((attempt.tier, one.question) in served for one in attempt.judgements)
    ]
    return sum(parts, Usage(calls=0))


def finish_reason(reason: str) -> str:
    """One of those that the API knows. A refusal ends as usual; what ended in a way of its own (an abort, say) was
    cut short."""
    if reason == "refusal":
        return "stop"
    return reason if reason in _REASONS else "length"


def indexed(fragments: Iterable[JsonObject]) -> list[JsonObject]:
    """Tool calls as streams have them. An answer that came whole has none of the indexes that tell fragments apart."""
    return [{"index": place, **fragment} for place, fragment in enumerate(fragments)]


def says_nothing(delta: Delta) -> bool:
    """Whether a piece has nothing for the client (it may tell the usage)."""
    return not (delta.text or delta.tool_calls or delta.tokens or delta.finish_reason)
