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
from dataclasses import replace
from datetime import datetime

from cascade.fingerprint import pinned, question_fingerprint
from cascade.live import AuditRecord, LiveRisk, LiveSettings, LiveState
from cascade.policy import Policy, QuestionPolicy, Verdict
from cascade.routed import Attempt, Outcome, Routed, Served
from cascade.router import Cascade
from cascade.rulebook import identities
from cascade.traffic import ServedAnswer, TierAnswer, TrafficRecord
from cascade.traffic_writer import TrafficWriter
from curator.engines.base import EngineIdentity
from curator.errors import GoldlessError
from curator.types import DecideRequest, Decision, Decisions

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

    async def follow(self, query_id: str, request: DecideRequest, routed: Routed[Decision], time: datetime) -> None:
        """Count a served request, have the teacher answer the audits that the coin draws, tighten after an alarm, and
        write the traffic record. A teacher that fails leaves the audit lost; nothing is raised for it."""
        marks = [question_fingerprint(request, question, identities(self.policy)) for question in request.questions]
        drawn = self._draw(query_id, routed, marks, time)
        teacher = await self._ask(request, list(drawn)) if drawn else None
        audits = {
            place: self._settle(audit, routed.answers[place], _said(teacher, at))
            for at, (place, audit) in enumerate(drawn.items())
        }
        if self._level() != self._levels:
            self._levels = self._level()
            self.cascade = self._make(self._tightened())
            logger.warning("the risk has grown: the thresholds are tighter now, until there is a new certificate")
        if self._writer is not None:
            served = tuple(_served(request, place, routed, mark, audits.get(place)) for place, mark in enumerate(marks))
            answers = (*self._attempts(routed), *([teacher] if teacher else []))
            checksum = self.policy.checksum
            self._writer.put(TrafficRecord(query_id, time, checksum, request, served, answers, routed.latency))

    def _draw(
        self, query_id: str, routed: Routed[Decision], marks: Sequence[str], time: datetime
    ) -> dict[int, AuditRecord]:
        """The audits (place of the question -> record)."""
        found: dict[int, AuditRecord] = {}
        for place, (served, mark) in enumerate(zip(routed.answers, marks, strict=True)):
            live, score = self.live.get(mark), _score(routed, served)
            if live is None or not _counts(live, served, score):
                continue
            audit = live.serve(query_id, served.tier, score, time)
            if audit is not None:
                found[place] = audit
        return found

    async def _ask(self, request: DecideRequest, places: Sequence[int]) -> TierAnswer | None:
        """What the teacher says to some of the questions; None where it fails."""
        teacher = self.cascade.tiers[-1]
        questions = tuple(request.questions[place] for place in places)
        try:
            found = await teacher.engine.decide(replace(pinned(request), questions=questions))
        except GoldlessError as error:
            logger.info("the teacher did not answer an audit: %s", error)
            return None
        answer = replace(found, cost=teacher.cost(found.usage, found.cost))
        return TierAnswer(teacher.name, teacher.engine.identity, tuple(q.name for q in questions), answer)

    def _settle(self, audit: AuditRecord, served: Served[Decision], theirs: Decision | None) -> AuditRecord:
        live, differs = self.live[audit.question], None
        if theirs is not None and served.answer is not None:
            differs = live.policy.certificate.differs(served.answer.top, theirs.top)
        return live.settle(audit, differs)

    def _attempts(self, routed: Routed[Decision]) -> list[TierAnswer]:
        engines = {tier.name: tier.engine.identity for tier in self.cascade.tiers}
        return [_attempt(attempt, engines[attempt.tier]) for attempt in routed.attempts if not attempt.error]

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


def _counts(live: LiveRisk, served: Served[Decision], score: float) -> bool:
    """Whether this answer tells something about the thresholds in force: not one that no rule let pass because the
    teacher failed, nor one that was on its way when the thresholds moved."""
    if served.outcome is Outcome.ACCEPTED:
        limits = {rule.tier: limit for rule, limit in zip(live.policy.rules, live.thresholds, strict=True)}
        limit = limits[served.tier]
        return limit is not None and score >= limit
    return served.outcome in (Outcome.TEACHER, Outcome.REFUSED)


def _score(routed: Routed[Decision], served: Served[Decision]) -> float:
    """The score of the tier that served; NaN where nothing judged it."""
    found = (one for attempt in routed.attempts if attempt.tier == served.tier for one in attempt.judgements)
    return next((one.score for one in found if one.question == served.question), math.nan)


def _said(teacher: TierAnswer | None, at: int) -> Decision | None:
    """The teacher's answer to the audited question number `at`."""
    return teacher.answer.answers[at] if teacher and isinstance(teacher.answer, Decisions) else None


def _attempt(attempt: Attempt[Decision], engine: EngineIdentity) -> TierAnswer:
    names = tuple(one.question for one in attempt.judgements)
    decisions = tuple(one.answer for one in attempt.judgements)
    return TierAnswer(attempt.tier, engine, names, Decisions(decisions, attempt.usage, attempt.cost, attempt.latency))


def _served(
    request: DecideRequest, place: int, routed: Routed[Decision], mark: str, outcome: AuditRecord | None
) -> ServedAnswer:
    one, question = routed.answers[place], request.questions[place]
    return ServedAnswer(
        question=one.question,
        fingerprint=mark,
        tier=one.tier,
        value=None if one.answer is None else question.labels[one.answer.top],
        confidence=None if math.isnan(one.confidence) else one.confidence,
        basis=one.basis,
        audit=outcome.probability if outcome else None,
        disagreed=outcome.disagreed if outcome else None,
    )
