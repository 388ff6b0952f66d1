"""The demo's cascade: the head first, the labeler behind it, with a certificate of what that risks; then served."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from cli.output import Output, amount
from cli.session import Session
from curator.types import DecideRequest, Document, JsonObject, Price

if TYPE_CHECKING:
    from cascade.policy import Certificate, Policy
    from cascade.route import Tier
    from cascade.router import Cascade
    from cli.demo_serving import Demonstrated
    from curator.engines.base import Engine
    from curator.task import Classification, Task

ALPHA: Final = 0.1
SMALL, STRONG = "head", "labeler"
PRICES: Final = {SMALL: Price(0.01, 0.01), STRONG: Price(0.1, 0.1)}
"""Per million tokens. Made up, but of the usual proportions: here both run on your own machine."""

Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True)
class Served:
    """How one way of serving the held-out reviews did: document -> probabilities, the share that the small model
    answered, money for all of them, and the seconds that they took together."""

    answers: dict[str, list[float]]
    small: float
    cost: float | None
    seconds: float

    @property
    def per_thousand(self) -> float | None:
        """Money for a thousand reviews."""
        return None if self.cost is None or not self.answers else 1000 * self.cost / len(self.answers)


@dataclass(frozen=True, slots=True)
class Cascaded:
    """What came of it: the certificate, both ways of serving, and what the server did where one could be started."""

    certificate: Certificate
    cascade: Served
    alone: Served
    served: Demonstrated | None

    @property
    def arms(self) -> dict[str, dict[str, list[float]]]:
        """What the cascade served, for the comparison with the other models."""
        return {"cascade: the head first, the labeler behind it": self.cascade.answers}

    @property
    def said(self) -> str:
        """The certificate in a sentence."""
        found = self.certificate
        return f"{found.verdict}: {found.reason}"

    @property
    def rows(self) -> list[dict[str, object]]:
        """One row per way of serving."""
        pairs = {"the cascade": self.cascade, "the labeler alone": self.alone}
        return [
            {
                "served by": name,
                "head answered": f"{one.small:.0%}",
                "cost of 1,000": amount(one.per_thousand, "USD"),
                "seconds": f"{one.seconds:.1f}",
            }
            for name, one in pairs.items()
        ]

    def to_json(self) -> JsonObject:
        """The figures; what was answered is left out."""
        ways: JsonObject = {
            name: {"head_answered": one.small, "cost": one.cost, "seconds": one.seconds}
            for name, one in (("cascade", self.cascade), ("alone", self.alone))
        }
        served: JsonObject = {} if self.served is None else {"served": self.served.to_json()}
        return {"certificate": self.certificate.model_dump(mode="json"), **ways, **served}


@dataclass(frozen=True, slots=True)
class Cascading:
    """What is needed: where the policy and the head lie, how the labeler is opened, the reviews to certify on, and
    those to serve."""

    folder: Path
    head: Path
    strong: Callable[[], Engine]
    traffic: Sequence[Document]
    unseen: Sequence[Document]

    def run(self, session: Session, task: Task[Classification]) -> Cascaded:
        """Certify on the traffic, then serve the unseen reviews: by the cascade, and by the labeler alone."""
        from cli.interrupt import run

        with session.out.guarded():
            return run(self._work(task, session.out), session.out.complain)

    @property
    def policy(self) -> Path:
        """Where the policy lies. The folder of the head is named by the dataset version that it learned from."""
        return self.folder / f"policy-{self.head.name}.json"

    async def _work(self, task: Task[Classification], out: Output) -> Cascaded:
        from contextlib import aclosing

        from cascade.route import Tier
        from cascade.router import Cascade
        from curator.engines import connect

        async with aclosing(connect(f"head:{self.head}")) as small, aclosing(self.strong()) as strong:
            tiers = (Tier(SMALL, small, PRICES[SMALL]), Tier(STRONG, strong, PRICES[STRONG]))
            policy = await self._policy(tiers, task)
            unseen = [task.decide_request(document) for document in self.unseen]
            cascade = Cascade({SMALL: small, STRONG: strong}, policy)
            # The labeler goes second: what it has cached by then is to its advantage.
            first = await self._cascaded(cascade, unseen)
            alone = await self._alone(tiers[1], unseen)
            served = await self._serve(out, {SMALL: small, STRONG: strong}, unseen)
            return Cascaded(policy.questions[0].certificate, first, alone, served)

    async def _serve(
        self, out: Output, engines: Mapping[str, Engine], requests: Sequence[DecideRequest]
    ) -> Demonstrated | None:
        """Behind the real server; None where the packages for that are not installed."""
        from cli.demo_serving import demonstrate, servable

        if not servable():
            out.say("7/8  left out: pip install 'goldless[demo]' brings the client and the tracing that it needs")
            return None
        out.say("7/8  the cascade behind `goldless serve`, asked with the openai client; every call traced and billed")
        return await demonstrate(self.folder, self.policy, engines, requests)

    async def _policy(self, tiers: Sequence[Tier], task: Task[Classification]) -> Policy:
        """The policy of an earlier demo, or a new one from what the tiers say about the traffic."""
        from datetime import UTC, datetime

        from cascade.artifact import load, save, seal
        from cascade.certify import Asked, CertifySettings, certify
        from cascade.fingerprint import question_fingerprint
        from cascade.policy import Policy, TierRecord
        from cascade.record import record
        from curator.engines.base import identity_text
        from curator.errors import EngineError

        if self.policy.is_file():
            return load(self.policy)
        requests = [task.decide_request(document) for document in self.traffic]
        names = [identity_text(tier.engine.identity) for tier in tiers]
        recording = await record(tiers, requests, ids=[document.id for document in self.traffic])
        if failed := next(((name, found) for name, found in recording.failures.items() if found), None):
            # A certificate of what is left would be kept, and say what a full disk or memory made of it.
            raise EngineError(
                f"the {failed[0]} could not answer: {failed[1]}", hint="run the demo again: it goes on here"
            )
        (question,) = task.questions
        asked = Asked(question.name, question_fingerprint(requests[0], question, names), question.labels)
        found = certify(recording.outcomes[question.name], asked, CertifySettings(alpha=ALPHA))
        records = tuple(TierRecord.of(tier.name, name, tier.price) for tier, name in zip(tiers, names, strict=True))
        policy = seal(Policy(created=datetime.now(UTC), tiers=records, questions=(found,)))
        save(policy, self.policy)
        return policy

    async def _cascaded(self, cascade: Cascade, requests: Sequence[DecideRequest]) -> Served:
        replies, seconds = await _timed(cascade.route, requests, cascade.concurrency)
        answers = {
            document.id: list(answer.probabilities)
            for document, reply in zip(self.unseen, replies, strict=True)
            if (answer := reply.answers[0].answer) is not None
        }
        small = sum(reply.answers[0].tier == SMALL for reply in replies) / max(len(replies), 1)
        return Served(answers, small, _total([reply.cost for reply in replies]), seconds)

    async def _alone(self, tier: Tier, requests: Sequence[DecideRequest]) -> Served:
        replies, seconds = await _timed(tier.engine.decide, requests, tier.engine.concurrency)
        answers = {
            document.id: list(answer.probabilities)
            for document, reply in zip(self.unseen, replies, strict=True)
            if (answer := reply.answers[0]) is not None
        }
        return Served(answers, 0.0, _total([tier.cost(reply.usage, reply.cost) for reply in replies]), seconds)


async def _timed(
    ask: Callable[[DecideRequest], Awaitable[Reply]], requests: Sequence[DecideRequest], concurrency: int
) -> tuple[list[Reply], float]:
    """All replies in order, `concurrency` requests at a time, and the seconds that took."""
    import asyncio
    import time

    free = asyncio.Semaphore(concurrency)

    async def one(request: DecideRequest) -> Reply:
        async with free:
            return await ask(request)

    began = time.perf_counter()
    replies = await asyncio.gather(*map(one, requests))
    return replies, time.perf_counter() - began


def _total(costs: Sequence[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None
