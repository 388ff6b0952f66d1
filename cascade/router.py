"""`Cascade`: small first, strong behind it. It is an engine, so it nests, is served, and labels documents."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from cascade.artifact import check
from cascade.asking import TEXT, Asking, Deciding, Generating
from cascade.fingerprint import pinned, prompt_fingerprint, question_fingerprint
from cascade.policy import Policy
from cascade.probing import AnswerOf, answer_in
from cascade.route import Cap, Route, Tier
from cascade.routed import Answer, Routed
from cascade.routed_stream import RoutedStream
from cascade.rulebook import NO_WISH, Path, Rulebook, Uncertified, Wish, identities
from cascade.streaming import StreamRoute
from cascade.tracing import request_span, tell_request
from curator.engines.base import Engine, EngineIdentity, Preview, close_all, identity_text
from curator.engines.wire import Memo
from curator.errors import ConfigError, RefusalError
from curator.types import (
    Capability,
    Completion,
    DecideRequest,
    Decision,
    Decisions,
    Delta,
    GenerateRequest,
)

PROVIDER: Final = "cascade"


class Cascade:
    """Answers with the first of `tiers` (name -> engine, the cheapest first) whose answer `policy` lets pass.

    Each question goes its own way: those that must are escalated, the others are not asked again. A tier that refuses
    or fails is passed over; where the last one fails, the strongest other answer is served and marked as a
    `fallback` (`fallback=False` raises the failure instead). `uncertified` says what happens to a question that no
    certificate covers: by default the last tier alone answers it. `answer_of` says which generated texts answer the
    same. Engines whose answers have no cost are billed at the policy's prices. `cap` may keep requests from the last
    tier.

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
        cap: Cap | None = None,
    ) -> None:
        check(policy, {name: identity_text(engine.identity) for name, engine in tiers.items()}, {})
        self.policy = policy
        self.tiers: Sequence[Tier] = tuple(
            Tier(record.name, tiers[record.name], record.price_in(policy.currency)) for record in policy.tiers
        )
        self._rules = Rulebook(policy, uncertified)
        self._fallback = fallback
        self._answer_of = answer_of
        self._cap = cap
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

    async def route(self, request: DecideRequest, wish: Wish = NO_WISH) -> Routed[Decision]:
        """Answer every question, and say how: attempts, signals, scores, who served. Raises: as `decide`; ConfigError
        where the wish names no tier."""
        return await self._run(Deciding(request), self._paths(request, wish), wish)

    async def route_text(self, request: GenerateRequest, wish: Wish = NO_WISH) -> Routed[Completion]:
        """The same for a prompt; an answer is None where the last tier declined."""
        return await self._run(Generating(request, self._answer_of), self._paths(request, wish), wish)

    def route_stream(self, request: GenerateRequest, wish: Wish = NO_WISH) -> RoutedStream:
        """The same with the answer in pieces: a draft is held back until it is sure to be served. Nothing is asked
        before the first piece is. Raises: as `route`."""
        asking, paths = Generating(request, self._answer_of), self._paths(request, wish)
        tiers, cap = self._asked(wish)
        return RoutedStream(StreamRoute(tiers, asking, paths, self._fallback, cap), self.policy.currency)

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """The pieces of `generate`'s answer; the last one has usage and cost of all attempts. Raises: as `generate`."""
        routed = self.route_stream(request)
        said = False
        async with aclosing(routed.pieces()) as pieces:
            async for piece in pieces:
                said = True
                yield piece
        found = routed.routed
        if not said or found is None:
            raise RefusalError("the last tier declined to answer")
        yield Delta(usage=found.usage, cost=found.cost)

    def asking(self, request: DecideRequest | GenerateRequest) -> Deciding | Generating:
        """What this cascade needs to know of a request."""
        return Deciding(request) if isinstance(request, DecideRequest) else Generating(request, self._answer_of)

    def fingerprints(self, request: DecideRequest | GenerateRequest) -> tuple[str, ...]:
        """What certificates know its questions by."""
        if isinstance(request, DecideRequest):
            return self._fingerprints(request)
        return (prompt_fingerprint(request, self._who),)

    async def rehearse(self, request: DecideRequest, tiers: Sequence[Tier]) -> Routed[Decision]:
        """The way that `request` takes where `tiers` answer in place of this cascade's; no span, no metric. Raises: as
        `route`."""
        return await Route(tiers, Deciding(request), self._paths(request, NO_WISH), fallback=False).run()

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
        await close_all(tier.engine for tier in self.tiers)

    def _paths(self, request: DecideRequest | GenerateRequest, wish: Wish) -> list[Path]:
        marks = self.fingerprints(request)
        names = (TEXT,) if isinstance(request, GenerateRequest) else [one.name for one in request.questions]
        return [self._rules.path(name, mark, wish) for name, mark in zip(names, marks, strict=True)]

    async def _run(self, asking: Asking[Answer], paths: Sequence[Path], wish: Wish) -> Routed[Answer]:
        tiers, cap = self._asked(wish)
        with request_span(len(paths)) as current:
            # Where the request's span is not sampled, neither are those below it.
            watching = current is not None and current.is_recording()
            routed = await Route(tiers, asking, paths, self._fallback, cap, watching).run()
            if current is not None:
                tell_request(current, routed, self.policy.currency)
        return routed

    def _asked(self, wish: Wish) -> tuple[Sequence[Tier], Cap | None]:
        """The tiers that a request may go to, and what caps the last one."""
        tiers = self.tiers if not wish.tier else [self._tier(wish.tier)]
        return tiers, self._cap if tiers[-1] is self.tiers[-1] else None

    def _tier(self, name: str) -> Tier:
        if (found := next((tier for tier in self.tiers if tier.name == name), None)) is None:
            known = ", ".join(tier.name for tier in self.tiers)
            raise ConfigError(f"the cascade has no tier {name!r}", hint=f"tiers: {known}")
        return found

    def _fingerprint(self, request: DecideRequest) -> tuple[str, ...]:
        return tuple(question_fingerprint(request, question, self._who) for question in request.questions)


def _identity(policy: Policy, uncertified: Uncertified, fallback: bool) -> EngineIdentity:
    """Named by its tiers; the revision is a hash of all that decides who answers."""
    decisive = policy.model_dump_json(include={"tiers": {"__all__": {"identity"}}, "questions": True})
    digest = hashlib.blake2b(f"{decisive}{uncertified}{fallback}".encode(), digest_size=8).hexdigest()
    return EngineIdentity(PROVIDER, ">".join(tier.name for tier in policy.tiers), revision=digest)
