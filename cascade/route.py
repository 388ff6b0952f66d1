"""One request's way through the tiers: ask, judge, escalate, and fall back where the last tier fails."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol

from cascade.asking import Asking, Reply
from cascade.judging import Judged, judge
from cascade.policy import Rule
from cascade.probing import failed
from cascade.routed import Answer, Attempt, Judgement, Outcome, Reason, Routed, Served, total
from cascade.rulebook import Path
from cascade.tracing import NOBODY, decide_span, tell_judgement
from curator.engines.base import Engine
from curator.engines.readout import together
from curator.engines.tries import Try, noted
from curator.errors import GoldlessError, OverloadedError
from curator.types import Price, Usage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier: its name in the policy, the engine, and the price of calls whose cost the engine does not tell."""

    name: str
    engine: Engine
    price: Price | None = None

    def cost(self, usage: Usage, known: float | None) -> float | None:
        """Money for `usage`; None where there is no price, or nobody counted the tokens."""
        if known is not None or self.price is None or not usage.input_tokens + usage.output_tokens:
            return known
        return self.price.cost(usage)

    def known(self, tries: Sequence[Try]) -> list[float]:
        """Money for those calls of which it is known."""
        costs = (self.cost(tried.usage, tried.cost) for tried in tries)
        return [cost for cost in costs if cost is not None]


class Cap(Protocol):
    """What keeps some requests from the last tier, be it there or not."""

    @property
    def serves_draft(self) -> bool:
        """Whether the best lower answer is then served, as a fallback; else the request is refused."""
        ...

    def request(self) -> None:
        """A request has come."""
        ...

    def take(self) -> OverloadedError | None:
        """Leave to ask the last tier, or why there is none."""
        ...

    def settle(self, cost: float | None) -> None:
        """What it cost, after leave was given; None where that is unknown."""
        ...


@dataclass
class Route(Generic[Answer]):
    """The state of one request. `paths` says per question which rules are in force; without `fallback` the last
    tier's failure is raised. `cap` says whether the last tier may be asked. Judgements have spans where somebody is
    `watching`."""

    tiers: Sequence[Tier]
    asking: Asking[Answer]
    paths: Sequence[Path]
    fallback: bool
    cap: Cap | None = None
    watching: bool = False
    _attempts: list[Attempt[Answer]] = field(default_factory=list)
    _served: dict[int, Served[Answer]] = field(default_factory=dict)
    _answers: dict[tuple[int, int], Judgement[Answer]] = field(default_factory=dict)
    """(tier, question) -> what was made of its answer."""
    _failure: GoldlessError | None = None
    """What the tier asked last failed with."""
    _refusal: str = ""
    """What it said where it declined."""

    async def run(self) -> Routed[Answer]:
        """Go up the tiers as long as questions are open.

        Raises: the last tier's error, where it failed and nobody else has an answer; OverloadedError where the cap
        keeps it from being asked.
        """
        began = time.perf_counter()
        last = len(self.tiers) - 1
        if self.cap is not None:
            self.cap.request()
        for number in range(last):
            if due := [place for place in self._open() if self._judges(number, place)]:
                await self._try(number, due)
        if open_ := self._open():
            await self._finish(last, open_)
        answers = tuple(self._served[place] for place in range(len(self.paths)))
        return Routed(answers, tuple(self._attempts), time.perf_counter() - began, self._baseline())

    async def _finish(self, last: int, places: Sequence[int]) -> None:
        """Ask the last tier, if the cap lets it be asked."""
        if self.cap is None:
            await self._try(last, places)
            await self._close(last)
        elif (refusal := self.cap.take()) is not None:
            await self._rescue(last, refusal, self.cap.serves_draft, refusal.message)
        else:
            before = len(self._attempts)
            try:
                await self._try(last, places)
            finally:
                self.cap.settle(total(attempt.cost for attempt in self._attempts[before:]))
            await self._close(last)

    def _open(self) -> list[int]:
        return [place for place in range(len(self.paths)) if place not in self._served]

    def _judges(self, number: int, place: int) -> bool:
        return self.paths[place].rule(number) is not None and self._can(number)

    def _can(self, number: int) -> bool:
        return self.asking.kind in self.tiers[number].engine.capabilities

    async def _try(self, number: int, places: Sequence[int], unjudged: Reason = Reason.LAST) -> None:
        """Ask one tier, judge what it says, and note both; a failure is noted too."""
        tier, began = self.tiers[number], time.perf_counter()
        self._failure = None
        with noted() as tries:
            try:
                reply = await self.asking.ask(tier.engine, places)
            except GoldlessError as error:
                self._fail(number, places, error, time.perf_counter() - began, tries)
                return
            pairs = zip(places, reply.answers, strict=True)
            judged = await together([self._judge(number, place, answer, unjudged) for place, answer in pairs])
        self._note(number, places, reply, judged, time.perf_counter() - began, tries)

    async def _judge(self, number: int, place: int, answer: Answer | None, unjudged: Reason) -> Judged[Answer]:
        name, tier = self.asking.names[place], self.tiers[number]
        if (rule := self.paths[place].rule(number)) is None or unjudged is Reason.RESCUED:
            return Judged(Judgement(name, answer, Reason.REFUSED if answer is None else unjudged))
        earlier = self._answers.get((number - 1, place))
        before = None if earlier is None else earlier.answer
        with decide_span() if self.watching else NOBODY as current:
            found = await judge(self.asking, place, answer, before, rule, tier.engine)
            if current is not None:
                tell_judgement(current, tier.name, found.judgement)
        return found

    def _note(
        self,
        number: int,
        places: Sequence[int],
        reply: Reply[Answer],
        judged: Sequence[Judged[Answer]],
        seconds: float,
        tries: Sequence[Try],
    ) -> None:
        tier, self._refusal = self.tiers[number], reply.refusal
        usage, costs = reply.usage, [tier.cost(reply.usage, reply.cost), *tier.known(tries)]
        for probe in (probe for one in judged for probe in one.probes):
            usage += probe.usage
            costs.append(tier.cost(probe.usage, probe.cost))
        for tried in tries:
            usage += tried.usage
        judgements = tuple([one.judgement for one in judged])
        self._attempts.append(Attempt(tier.name, judgements, usage, total(costs), seconds, tries=tuple(tries)))
        for place, judgement in zip(places, judgements, strict=True):
            self._answers[number, place] = judgement
            if judgement.reason is Reason.REACHED:
                self._serve(number, place, Outcome.ACCEPTED)

    def _fail(
        self, number: int, places: Sequence[int], error: GoldlessError, seconds: float, tries: Sequence[Try]
    ) -> None:
        self._failure = error
        tier, spent, kind = self.tiers[number], failed(error), type(error).__name__
        log.debug("tier %s failed: %s", tier.name, error)
        judgements: tuple[Judgement[Answer], ...] = tuple(
            Judgement(self.asking.names[place], None, Reason.FAILED) for place in places
        )
        usage = sum((tried.usage for tried in tries), spent.usage + Usage(calls=len(tries)))
        cost = total([spent.cost, *tier.known(tries)])
        self._attempts.append(Attempt(tier.name, judgements, usage, cost, seconds, kind, tuple(tries)))
        for place, judgement in zip(places, judgements, strict=True):
            self._answers[number, place] = judgement

    async def _close(self, last: int) -> None:
        """Serve what the last tier said; where it failed, the strongest other answer."""
        failure = self._failure
        for place in self._open():
            if failure is None:
                path, answer = self.paths[place], self._answers[last, place].answer
                kept = Outcome.TEACHER if path.certificate is not None else Outcome.DIRECT
                self._serve(last, place, Outcome.REFUSED if answer is None else kept)
        if failure is not None:
            await self._rescue(last, failure, self.fallback)
            log.warning("tier %s failed, lower tiers answer in its place: %s", self.tiers[last].name, failure)

    async def _rescue(self, last: int, failure: GoldlessError, allowed: bool, note: str = "") -> None:
        """Go down the tiers: take an answer that is there, else ask."""
        for number in reversed(range(last)) if allowed else ():
            fresh = [place for place in self._open() if (number, place) not in self._answers]
            if fresh and self._can(number):
                await self._try(number, fresh, Reason.RESCUED)
            for place in self._open():
                found = self._answers.get((number, place))
                if found is not None and found.answer is not None and self.asking.valid(found.answer):
                    self._serve(number, place, Outcome.FALLBACK, note)
        if self._open():
            raise failure

    def _serve(self, number: int, place: int, outcome: Outcome, note: str = "") -> None:
        path, judgement, tier = self.paths[place], self._answers[number, place], self.tiers[number]
        answer, rule = judgement.answer, path.rule(number)
        confidence, basis = self._confidence(place, judgement, rule)
        self._served[place] = Served(
            judgement.question,
            None if answer is None else self.asking.signed(answer, tier.name),
            tier.name,
            outcome,
            confidence,
            basis,
            path.certified and outcome in (Outcome.ACCEPTED, Outcome.TEACHER),
            note or path.note,
            path.certificate,
            self._refusal if answer is None else "",
        )

    def _confidence(self, place: int, judgement: Judgement[Answer], rule: Rule | None) -> tuple[float, str]:
        if judgement.answer is None:
            return math.nan, "raw"
        if rule is None or math.isnan(judgement.score):
            return self.asking.raw(place, judgement.answer), "raw"
        return judgement.score, self.paths[place].confidence_basis(rule, self.tiers[-1].name)

    def _baseline(self) -> float | None:
        """What the last tier alone costs: known where it was asked everything, else as the certificates expect."""
        for attempt in self._attempts:
            whole = len(attempt.judgements) == len(self.paths) and not attempt.error
            if whole and attempt.tier == self.tiers[-1].name:
                return attempt.cost
        certificates = [path.certificate for path in self.paths]
        return total(None if one is None else one.baseline_cost for one in certificates)
