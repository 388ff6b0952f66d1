"""What a certificate belongs to: everything that the answers of a cascade's tiers to one question depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import orjson

from curator.engines.base import EngineIdentity, question_leads
from curator.engines.chat_fields import decisive, foreign_parts
from curator.types import ChatRequest, DecideRequest, GenerateRequest, Question, TurnOrder


def identity_text(identity: EngineIdentity) -> str:
    """Who answers, in full: `provider:model[+adapter][@revision][ at endpoint]`, as a policy's tiers record it.

    The endpoint belongs to it: behind another address the same name may be another model.
    """
    revision = f"@{identity.revision}" if identity.revision else ""
    endpoint = f" at {identity.endpoint}" if identity.endpoint else ""
    return f"{identity}{revision}{endpoint}"


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
    and how they are drawn (the seed apart), and who answers; not what the user says. Of a chat request also its tools,
    content that is no text, and what else of its body may change the answer: without these it is a prompt like any
    other."""
    system = [message.content for message in request.messages if message.role == "system"]
    sampling = replace(request.sampling, seed=None)
    parts: list[object] = ["generate", system, request.schema, sampling, request.n, list(tiers)]
    if isinstance(request, ChatRequest):
        kind = {
            "tools": list(request.tools),
            "tool_choice": request.tool_choice if request.tools else None,
            "parts": foreign_parts(request),
            "extra": decisive(request),
        }
        parts += [{name: value for name, value in kind.items() if value}] if any(kind.values()) else []
    return _hash(*parts)


def _hash(*parts: object) -> str:
    return hashlib.blake2b(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()
