"""Scripted tiers, and policies for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from cascade.fingerprint import prompt_fingerprint, question_fingerprint
from cascade.policy import Certificate, Policy, QuestionPolicy, Rule, Scorer, TierRecord, Verdict
from curator.engines.base import Engine, EngineIdentity, identity_text
from curator.engines.scripted import ScriptedEngine
from curator.types import DecideRequest, GenerateRequest, Message, Option, Question, Sampling

MOOD = Question("mood", "choice", "Which mood?", (Option("good"), Option("bad")))
FUN = Question("fun", "predicate", "Is it fun?", (Option("yes"), Option("no")))
CHAT = GenerateRequest((Message("user", "How many?"),), Sampling(max_tokens=16))

Limits = Mapping[str, Sequence[float | None]]
"""Question -> threshold per tier but the last."""


def scripted(name: str, **script: object) -> ScriptedEngine:
    return ScriptedEngine(identity=EngineIdentity("scripted", name), **script)


def row(state: str = "fine", *questions: Question) -> DecideRequest:
    return DecideRequest(state, questions or (MOOD,))


def certificate(verdict: str = "PASS", **changed: object) -> Certificate:
    given = {"basis": "vs_teacher", "verdict": Verdict(verdict), "reason": "tested", "alpha": 0.05, "delta": 0.1}
    return Certificate(**{**given, "rows": 500, "risk": 0.02, "bound": 0.04, "shares": (0.7, 0.3), **changed})


def policy(
    tiers: Mapping[str, Engine],
    asked: DecideRequest | GenerateRequest,
    limits: Limits,
    *,
    scorer: Scorer | None = None,
    certified: Certificate | None = None,
    **changed: object,
) -> Policy:
    """Rules for the questions of `asked` that `limits` names."""
    names, who = list(tiers), [identity_text(engine.identity) for engine in tiers.values()]
    signal = "top_probability" if isinstance(asked, DecideRequest) else "sequence_probability"
    score = scorer or Scorer(signals=(signal,), weights=(1.0,))
    entries = []
    for name, values in limits.items():
        if isinstance(asked, DecideRequest):
            question = next(question for question in asked.questions if question.name == name)
            mark = question_fingerprint(asked, question, who)
        else:
            mark = prompt_fingerprint(asked, who)
        rules = tuple(
            Rule(tier=tier, scorer=score, threshold=limit) for tier, limit in zip(names[:-1], values, strict=True)
        )
        entries.append(QuestionPolicy(name=name, fingerprint=mark, rules=rules, certificate=certified or certificate()))
    records = tuple(TierRecord(name=name, identity=identity) for name, identity in zip(names, who, strict=True))
    given = {"created": datetime(2026, 1, 1, tzinfo=UTC), "tiers": records, "questions": tuple(entries)}
    return Policy(**{**given, **changed})
