"""What another policy would have done with the requests that this one served: judged, and never served.

Answers that are there are used again. A tier below the last that was not asked is asked now, off the request path; the
last one never is: that the policy would have asked it is all that needs to be known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

from cascade.asking import Deciding
from cascade.route import Tier
from cascade.routed import Outcome, Routed
from cascade.router import Cascade
from curator.engines.base import Engine
from curator.engines.exchanges import purpose
from curator.engines.wrapper import WrapperEngine
from curator.errors import RefusalError
from curator.types import DecideRequest, Decision, Decisions, JsonObject, Question, Usage

FREE: Final = Usage(calls=0)


class KnownEngine(WrapperEngine):
    """Gives the answers that one tier has given to this state; asks `inner` for others only where `asks`."""

    def __init__(self, inner: Engine, state: str, known: Mapping[Question, Decision | None], *, asks: bool) -> None:
        super().__init__(inner)
        self._state = state
        self._known = known
        self._asks = asks

    async def decide(self, request: DecideRequest) -> Decisions:
        """Raises: RefusalError where the answers are not known and `inner` is not to be asked."""
        if request.state == self._state and all(question in self._known for question in request.questions):
            return Decisions(tuple(self._known[question] for question in request.questions), FREE, 0.0)
        if not self._asks:
            raise RefusalError("this tier is not asked in a rehearsal")
        return await self.inner.decide(request)


@dataclass(slots=True)
class Rehearsed:
    """Counts for one question: `queries`, those that the other policy would have served from a tier below the last
    (`accepted`), those of them where the last tier's answer is known (`compared`), and was another (`disagreed`)."""

    queries: int = 0
    accepted: int = 0
    compared: int = 0
    disagreed: int = 0


@dataclass(slots=True)
class Rehearsal:
    """The other policy's cascade, and what it would have done so far, by question."""

    cascade: Cascade
    questions: dict[str, Rehearsed] = field(default_factory=dict)
    failed: int = 0

    async def judge(self, request: DecideRequest, served: Routed[Decision]) -> None:
        """Judge one served request. Raises: what a tier that has to be asked raises, but for refusals."""
        tiers, last = [], len(self.cascade.tiers) - 1
        for number, tier in enumerate(self.cascade.tiers):
            engine = KnownEngine(tier.engine, request.state, _known(request, served, tier.name), asks=number < last)
            tiers.append(Tier(tier.name, engine, tier.price))
        said = _known(request, served, self.cascade.tiers[last].name)
        with purpose("audit"):
            found = await self.cascade.rehearse(request, tiers)
        asking = Deciding(request)
        for place, (question, one) in enumerate(zip(request.questions, found.answers, strict=True)):
            counts = self.questions.setdefault(question.name, Rehearsed())
            counts.queries += 1
            if one.outcome is Outcome.ACCEPTED and one.answer is not None:
                counts.accepted += 1
                if (teacher := said.get(question)) is not None:
                    counts.compared += 1
                    off = one.certificate.tolerance if one.certificate else 0
                    counts.disagreed += not asking.same(place, one.answer, teacher, off)

    @property
    def told(self) -> JsonObject:
        """The counts, for people."""
        return {name: asdict(one) for name, one in self.questions.items()}


def _known(request: DecideRequest, served: Routed[Decision], tier: str) -> dict[Question, Decision | None]:
    asked = {question.name: question for question in request.questions}
    attempts = [attempt for attempt in served.attempts if attempt.tier == tier and not attempt.error]
    return {asked[one.question]: one.answer for attempt in attempts for one in attempt.judgements}
