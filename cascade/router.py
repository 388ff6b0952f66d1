"""`Cascade`: small first, strong behind it. It is an engine, so it nests, is served, and labels documents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from cascade.artifact import check
from cascade.asking import Asking, Deciding, Generating
from cascade.fingerprint import pinned, prompt_fingerprint, question_fingerprint
from cascade.policy import Policy
from cascade.probing import AnswerOf, answer_in
from cascade.route import Route, Tier
from cascade.routed import Answer, Routed
from cascade.rulebook import Rulebook, Uncertified, identities
from cascade.tracing import request_span, tell_request
from curator.engines.base import Engine, EngineIdentity, Preview, identity_text
from curator.engines.wire import Memo
from curator.errors import RefusalError
from curator.types import (
    Capability,
    Completion,
    DecideRequest,
    Decision,
    Decisions,
    GenerateRequest,
    Price,
)

PROVIDER: Final = "cascade"


class Cascade:
    """Answers with the first of `tiers` (name -> engine, the cheapest first) whose answer `policy` lets pass.

    Each question goes its own way: those that must are escalated, the others are not asked again. A tier that refuses
    or fails is passed over; where the last one fails, the strongest other answer is served and marked as a
    `fallback` (`fallback=False` raises the failure instead). `uncertified` says what happens to a question that no
    certificate covers: by default the last tier alone answers it. `answer_of` says which generated texts answer the
    same. Engines whose answers have no cost are billed at the policy's prices.

    Raises: ConfigError if the tiers are not those of the policy, or the policy is expired or newer than this code.
    """

    def __init__(
        self,
        tiers: Mapping[str, Engine],
        policy: Policy,
        *,
        uncertified: Uncertified = "teacher",
        fallback: bool = True,
        answer_of: AnswerOf = answer_in,
    ) -> None:
        check(policy, {name: identity_text(engine.identity) for name, engine in tiers.items()}, {})
        self.policy = policy
        self.tiers: Sequence[Tier] = tuple(
            Tier(record.name, tiers[record.name], _price(record.price, policy.currency)) for record in policy.tiers
        )
        self._rules = Rulebook(policy, uncertified)
        self._fallback = fallback
        self.answer_of = answer_of
        self._who = tuple(identities(policy))
        self._fingerprints: Memo[tuple[str, ...]] = Memo(self._fingerprint)
        self._identity = _identity(policy, uncertified, fallback)

    @property
    def identity(self) -> EngineIdentity:
        """The tiers and the policy: other thresholds give other answers."""
        return self._identity

    @property
    def capabilities(self) -> frozenset[Capability]:
        """The last tier's: a lower one that cannot do what is asked is passed over."""
        return self.tiers[-1].engine.capabilities

    @property
    def concurrency(self) -> int:
        """The widest tier's. Wrap the tiers (`curator.wrap`) to keep each within its own."""
        return max(tier.engine.concurrency for tier in self.tiers)

    async def decide(self, request: DecideRequest) -> Decisions:
        """The served answers; usage and cost are of all attempts. `route` says more.

        Raises: ConfigError for a question that is not certified, if that is to be refused; the last tier's error where
        it failed and no other tier has an answer.
        """
        routed = await self.route(request)
        answers = tuple(served.answer for served in routed.answers)
        return Decisions(answers, routed.usage, routed.cost, routed.latency)

    async def generate(self, request: GenerateRequest) -> Completion:
        """The served text, as `decide`. Raises: RefusalError where the last tier declined."""
        routed = await self.route_text(request)
        (served,) = routed.answers
        if (answer := served.answer) is None:
            raise RefusalError(f"tier {served.tier!r} declined to answer")
        return replace(answer, usage=routed.usage, cost=routed.cost, latency=routed.latency)

    async def route(self, request: DecideRequest) -> Routed[Decision]:
        """Answer every question, and say how: attempts, signals, scores, who served. Raises: as `decide`."""
        return await self._run(Deciding(request), self.fingerprints(request))

    async def route_text(self, request: GenerateRequest) -> Routed[Completion]:
        """The same for a prompt; an answer is None where the last tier declined."""
        return await self._run(Generating(request, self.answer_of), self.fingerprints(request))

    def fingerprints(self, request: DecideRequest | GenerateRequest) -> tuple[str, ...]:
        """Of every question, or of the prompt: what their certificates are found by."""
        if isinstance(request, DecideRequest):
            return self._fingerprints(request)
        return (prompt_fingerprint(request, self._who),)

    async def preview(self, request: DecideRequest) -> tuple[Preview, ...]:
        """What the tier that is asked first would be sent, per question."""
        found: list[Preview] = []
        for place, question in enumerate(request.questions):
            path = self._rules.path(question.name, self._fingerprints(request)[place])
            first = next((tier for tier, rule in enumerate(path.rules) if rule is not None), -1)
            found += await self.tiers[first].engine.preview(replace(pinned(request), questions=(question,)))
        return tuple(found)

    async def aclose(self) -> None:
        """Close every tier, also where closing one fails; the first failure is raised."""
        failures = []
        for tier in self.tiers:
            try:
                await tier.engine.aclose()
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    async def _run(self, asking: Asking[Answer], marks: Sequence[str]) -> Routed[Answer]:
        paths = [self._rules.path(name, mark) for name, mark in zip(asking.names, marks, strict=True)]
        with request_span(len(paths)) as current:
            # Where the request's span is not sampled, neither are those below it.
            watching = current is not None and current.is_recording()
            routed = await Route(self.tiers, asking, paths, self._fallback, watching).run()
            if current is not None:
                tell_request(current, routed, self.policy.currency)
        return routed

    def _fingerprint(self, request: DecideRequest) -> tuple[str, ...]:
        return tuple(question_fingerprint(request, question, self._who) for question in request.questions)


def _price(price: tuple[float, float] | None, currency: str) -> Price | None:
    return None if price is None else Price(*price, currency, "policy")


def _identity(policy: Policy, uncertified: Uncertified, fallback: bool) -> EngineIdentity:
    """Named by its tiers; the revision is a hash of all that decides who answers."""
    decisive = policy.model_dump_json(include={"tiers": {"__all__": {"identity"}}, "questions": True})
    digest = hashlib.blake2b(f"{decisive}{uncertified}{fallback}".encode(), digest_size=8).hexdigest()
    return EngineIdentity(PROVIDER, ">".join(tier.name for tier in policy.tiers), revision=digest)
