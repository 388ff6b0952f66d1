"""What happens to an answer after it was served: audits, live risk, traffic. None of it on the request's path.

observer = Observer(lambda policy: Cascade(tiers, policy), policy, LiveSettings(share=0.05), writer=writer)
routed = await observer.cascade.route(request)                  # answer the caller with this
background = create_task(observer.follow("query-17", request, routed, now))
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Generic, cast, overload

from cascade.asking import Asking, Deciding, Generating, Reply
from cascade.live import AuditRecord, LiveRisk, LiveSettings
from cascade.live_state import LiveState
from cascade.policy import Policy, QuestionPolicy, Verdict
from cascade.route import Tier
from cascade.routed import Answer, Outcome, Routed, Served
from cascade.router import Cascade
from cascade.traffic import Request, ServedAnswer, TierAnswer, TrafficRecord
from cascade.traffic_writer import TrafficWriter
from curator.errors import GoldlessError
from curator.types import Completion, DecideRequest, Decision, GenerateRequest

logger = logging.getLogger(__name__)


class Observer:
    """Follows one cascade. `cascade` is the one to serve with now: after an alarm it is another one, made by `make`
    from the policy with tighter thresholds. `states` (of `live_states`) continue where another process stopped.

    Call from one event loop. Raises: ConfigError, InputError from `make` and for states of other questions.
    """

    def __init__(
        self,
        make: Callable[[Policy], Cascade],
        policy: Policy,
        settings: LiveSettings | None = None,
        *,
        writer: TrafficWriter | None = None,
        states: Iterable[LiveState] = (),
        coin: random.Random | None = None,
    ) -> None:
        self.policy = policy
        self._make = make
        self._writer = writer
        known = {state.question: state for state in states}
        watched = [entry for entry in policy.questions if entry.certificate.verdict is Verdict.PASS]
        self.live = {
            entry.fingerprint: LiveRisk(entry, settings, state=known.get(entry.fingerprint), coin=coin)
            for entry in watched
        }
        self._levels = self._level()
        self.cascade = make(self._tightened())

    @property
    def live_states(self) -> list[LiveState]:
        """What to keep, now and then and after an alarm, for the next process."""
        return [live.state for live in self.live.values()]

    def adopt(self, states: Iterable[LiveState]) -> None:
        """What other processes found: where one of them has tightened its thresholds, so does this one."""
        for state in states:
            if (live := self.live.get(state.question)) is not None:
                live.adopt(state)
        self._tighten()

    @overload
    async def follow(self, query_id: str, request: DecideRequest, routed: Routed[Decision], time: datetime) -> None: ...

    @overload
    async def follow(
        self, query_id: str, request: GenerateRequest, routed: Routed[Completion], time: datetime
    ) -> None: ...

    async def follow(
        self, query_id: str, request: Request, routed: Routed[Decision] | Routed[Completion], time: datetime
    ) -> None:
        """Count a served request, have the teacher answer the audits that the coin draws, tighten after an alarm, and
        write the traffic record. A teacher that fails leaves the audit lost; nothing is raised for it. One that
        declines to answer has not given the answer that was served: a disagreement, as in the certificate."""
        if isinstance(request, DecideRequest):
            await self._follow(_Query(query_id, request, time, Deciding(request), cast(Routed[Decision], routed)))
        else:
            asking = Generating(request, self.cascade.answer_of)
            await self._follow(_Query(query_id, request, time, asking, cast(Routed[Completion], routed)))

    async def _follow(self, query: _Query[Answer]) -> None:
        marks = self.cascade.fingerprints(query.request)
        drawn = self._draw(query, marks)
        places = list(drawn)
        reply = await self._ask(query.asking, places) if places else None
        answers = [None] * len(places) if reply is None else reply.answers
        audits = {
            place: self._settle(query, place, drawn[place], reply is not None, answer)
            for place, answer in zip(places, answers, strict=True)
        }
        self._tighten()
        if self._writer is not None:
            served = tuple(query.served(place, mark, audits.get(place)) for place, mark in enumerate(marks))
            said = self._attempts(query)
            if reply is not None:
                said.append(self._said(self.cascade.tiers[-1], query.asking, places, reply))
            record = TrafficRecord(
                query.id, query.time, self.policy.checksum, query.request, served, tuple(said), query.routed.latency
            )
            self._writer.put(record)

    def _draw(self, query: _Query[Answer], marks: Sequence[str]) -> dict[int, AuditRecord]:
        """The audits (place of the question -> record)."""
        found: dict[int, AuditRecord] = {}
        for place, (served, mark) in enumerate(zip(query.routed.answers, marks, strict=True)):
            live, score = self.live.get(mark), query.score(served)
            if live is None or not _counts(live, served, score):
                continue
            audit = live.serve(query.id, served.tier, score, query.time)
            if audit is not None:
                found[place] = audit
        return found

    async def _ask(self, asking: Asking[Answer], places: Sequence[int]) -> Reply[Answer] | None:
        """What the teacher says to some of the questions; None where it fails."""
        teacher = self.cascade.tiers[-1]
        try:
            reply = await asking.ask(teacher.engine, places)
        except GoldlessError as error:
            logger.info("the teacher did not answer an audit: %s", error)
            return None
        return replace(reply, cost=teacher.cost(reply.usage, reply.cost))

    def _settle(
        self, query: _Query[Answer], place: int, audit: AuditRecord, answered: bool, theirs: Answer | None
    ) -> AuditRecord:
        live, ours = self.live[audit.question], query.routed.answers[place].answer
        off = live.policy.certificate.tolerance
        same = ours is not None and theirs is not None and query.asking.same(place, ours, theirs, off)
        return live.settle(audit, not same if answered else None)

    def _attempts(self, query: _Query[Answer]) -> list[TierAnswer]:
        tiers = {tier.name: tier for tier in self.cascade.tiers}
        places = {name: place for place, name in enumerate(query.asking.names)}
        found = []
        for attempt in query.routed.attempts:
            if not attempt.error:
                answers = [one.answer for one in attempt.judgements]
                reply = Reply(answers, attempt.usage, attempt.cost, attempt.latency)
                asked = [places[one.question] for one in attempt.judgements]
                found.append(self._said(tiers[attempt.tier], query.asking, asked, reply))
        return found

    def _said(self, tier: Tier, asking: Asking[Answer], places: Sequence[int], reply: Reply[Answer]) -> TierAnswer:
        names = tuple(asking.names[place] for place in places) if asking.kind == "decide" else ()
        return TierAnswer(tier.name, tier.engine.identity, names, asking.whole(reply))

    def _tighten(self) -> None:
        if self._level() != self._levels:
            self._levels = self._level()
            self.cascade = self._make(self._tightened())
            logger.warning("the risk has grown: the thresholds are tighter now, until there is a new certificate")

    def _level(self) -> tuple[int, ...]:
        return tuple(live.level for live in self.live.values())

    def _tightened(self) -> Policy:
        """The policy with the thresholds that are in force."""
        return self.policy.model_copy(update={"questions": tuple(map(self._in_force, self.policy.questions))})

    def _in_force(self, entry: QuestionPolicy) -> QuestionPolicy:
        if (live := self.live.get(entry.fingerprint)) is None:
            return entry
        pairs = zip(entry.rules, live.thresholds, strict=True)
        rules = tuple(rule.model_copy(update={"threshold": limit}) for rule, limit in pairs)
        return entry.model_copy(update={"rules": rules})


@dataclass(frozen=True, slots=True)
class _Query(Generic[Answer]):
    """One request that was served."""

    id: str
    request: Request
    time: datetime
    asking: Asking[Answer]
    routed: Routed[Answer]

    def score(self, served: Served[Answer]) -> float:
        """The score of the tier that served; NaN where nothing judged it."""
        found = (one for attempt in self.routed.attempts if attempt.tier == served.tier for one in attempt.judgements)
        return next((one.score for one in found if one.question == served.question), math.nan)

    def served(self, place: int, mark: str, audit: AuditRecord | None) -> ServedAnswer:
        """The answer for the traffic record, with what its audit found."""
        one = self.routed.answers[place]
        return ServedAnswer(
            question=one.question,
            fingerprint=mark,
            tier=one.tier,
            value=None if one.answer is None else self.asking.said(place, one.answer),
            confidence=None if math.isnan(one.confidence) else one.confidence,
            basis=one.basis,
            audit=audit.probability if audit else None,
            disagreed=audit.disagreed if audit else None,
        )


def _counts(live: LiveRisk, served: Served[Answer], score: float) -> bool:
    """Whether this answer tells something about the thresholds in force: not one that no rule let pass because the
    teacher failed, nor one that was on its way when the thresholds moved."""
    if served.outcome is Outcome.ACCEPTED:
        limits = {rule.tier: limit for rule, limit in zip(live.policy.rules, live.thresholds, strict=True)}
        limit = limits[served.tier]
        return limit is not None and score >= limit
    return served.outcome in (Outcome.TEACHER, Outcome.REFUSED)
