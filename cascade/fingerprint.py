"""What a certificate belongs to: everything that the answers of a cascade's tiers to one question depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import orjson

from curator.engines.base import question_leads
from curator.types import DecideRequest, GenerateRequest, Question, Sampling, TurnOrder


def pinned(request: DecideRequest) -> DecideRequest:
    """The same prompts, whichever of the questions are asked: `auto` is settled by how many they were at first."""
    if request.template.order != "auto":
        return request
    order: TurnOrder = "question_first" if question_leads(request) else "state_first"
    return replace(request, template=replace(request.template, order=order))


def question_fingerprint(request: DecideRequest, question: Question, tiers: Sequence[str]) -> str:
    """Hash (hex, 128 bit) of one of the request's questions as it is asked of `tiers` (`identity_text` of each,
    the cheapest first): the question with its options in order, wording, worked examples; not the state."""
    shown = [(one.state, one.answers[question.name]) for one in request.demonstrations if question.name in one.answers]
    return _hash("decide", question, pinned(request).template, shown, list(tiers))


def prompt_fingerprint(request: GenerateRequest, tiers: Sequence[str]) -> str:
    """Hash (hex, 128 bit) of what the prompts of one kind have in common: system messages, schema, how many samples
    and how they are drawn (the seed apart), and who answers; not what the user says."""
    system = tuple(message.content for message in request.messages if message.role == "system")
    sampling = request.sampling if request.sampling.seed is None else replace(request.sampling, seed=None)
    schema = None if request.schema is None else orjson.dumps(request.schema, option=orjson.OPT_SORT_KEYS)
    return _prompt_hash(system, schema, sampling, request.n, tuple(tiers))


@lru_cache(maxsize=256)
def _prompt_hash(
    system: tuple[str, ...], schema: bytes | None, sampling: Sampling, count: int, tiers: tuple[str, ...]
) -> str:
    """A served application sends few kinds of prompts, many times."""
    return _hash("generate", system, None if schema is None else orjson.Fragment(schema), sampling, count, tiers)


def _hash(*parts: object) -> str:
    return hashlib.blake2b(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
