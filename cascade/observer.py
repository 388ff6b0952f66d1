"""What happens to an answer after it was served: audits, live risk, traffic. None of it on the request's path.

observer = Observer(lambda policy: Cascade(tiers, policy), policy, LiveSettings(share=0.05), writer=writer)
routed = await observer.cascade.route(request)                  # answer the caller with this
due = observer.note("query-17", request, routed, now)           # takes microseconds
background = due and create_task(observer.audit(due))           # asks the teacher
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Generic, cast

from cascade.asking import Asking, Reply
from cascade.live import AuditRecord, LiveRisk, LiveSettings, digest
from cascade.live_state import LiveState
from cascade.policy import Policy, QuestionPolicy, Verdict
from cascade.routed import Answer, Attempt, Outcome, Routed, Served
from cascade.router import Cascade
from cascade.traffic import Request, ServedAnswer, TierAnswer, TrafficRecord
from cascade.traffic_writer import TrafficWriter
from curator import telemetry
from curator.engines.exchanges import purpose
from curator.errors import GoldlessError
from curator.types import Decisions

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Due(Generic[Answer]):
    """A served request whose answers at some places (place of the question -> record) are to be audited. `marks` are
    its questions' fingerprints."""

    query_id: str
    request: Request
    marks: Sequence[str]
    asking: Asking[Answer]
    routed: Routed[Answer]
    time: datetime
    audits: Mapping[int, AuditRecord]


class Observer:
    """Follows one cascade. `cascade` is the one to serve with now: after an alarm it is another one, made by `make`
    from the policy with tighter thresholds. `states` (of `live_states`) continue where another process stopped.
    Without `settings` nothing is audited, and no live risk is known. `users` is for whoever has to know when the tiers
    are no longer needed.

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
        self.users = 0
        self._make = make
        self._writer = writer
        known = {(state.question, state.certificate): state for state in states}
        watched = [entry for entry in policy.questions if settings and entry.certificate.verdict is Verdict.PASS]
        self.live = {
            entry.fingerprint: LiveRisk(entry, settings, state=known.get((entry.fingerprint, digest(entry))), coin=coin)
            for entry in watched
        }
        self._levels = self._level()
        self.cascade = make(self._tightened())

    @property
    def live_states(self) -> list[LiveState]:
        """What to keep, now and then and after an alarm, for the next process."""
        return [live.state for live in self.live.values()]

    async def follow(self, query_id: str, request: Request, routed: Routed[Answer], time: datetime) -> None:
        """`note`, and the audits that it says are due."""
        due = self.note(query_id, request, routed, time)
        if due is not None:
            await self.audit(due)

    def note(self, query_id: str, request: Request, routed: Routed[Answer], time: datetime) -> Due[Answer] | None:
        """Count a served request. Returns what is to be audited, for `audit` or `lose`; where nothing is, the traffic
        record is written now."""
        marks = self.cascade.fingerprints(request) if self.live or self._writer is not None else ()
        drawn = self._draw(query_id, marks, routed, time) if self.live else {}
        if not drawn and self._writer is None:
            return None
        asking = cast(Asking[Answer], self.cascade.asking(request))
        due = Due(query_id, request, marks, asking, routed, time, drawn)
        if drawn:
            return due
        self._write(due, {}, None)
        return None

    async def audit(self, due: Due[Answer]) -> None:
        """Have the teacher answer, tighten after an alarm, and write the traffic record. A teacher that fails leaves
        the audit lost; nothing is raised for it. One that declines to answer has not given the answer that was
        served: a disagreement, as in the certificate."""
        places = list(due.audits)
        teacher = await self._ask(due, places)
        said: Sequence[Answer | None] = [None] * len(places) if teacher is None else teacher.answers
        audits = {
            place: self._settle(due, place, None if teacher is None else self._differs(due, place, theirs))
            for place, theirs in zip(places, said, strict=True)
        }
        self._tighten()
        self._write(due, audits, teacher)

    def lose(self, due: Due[Answer]) -> None:
        """There is no time for these audits: they count as lost, which widens the interval."""
        audits = {place: self._settle(due, place, None) for place in due.audits}
        self._write(due, audits, None)

    def adopt(self, states: Iterable[LiveState]) -> None:
        """What other processes found: where one of them has tightened its thresholds, so does this one."""
        for state in states:
            if (live := self.live.get(state.question)) is not None:
                live.adopt(state)
        self._tighten()

    def _tighten(self) -> None:
        if self._level() != self._levels:
            self._levels = self._level()
            self.cascade = self._make(self._tightened())
            logger.warning("the risk has grown: the thresholds are tighter now, until there is a new certificate")

    def _draw(
        self, query_id: str, marks: Sequence[str], routed: Routed[Answer], time: datetime
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

    async def _ask(self, due: Due[Answer], places: Sequence[int]) -> Reply[Answer] | None:
        """What the teacher says to some of the questions; None where it fails."""
        teacher = self.cascade.tiers[-1]
        try:
            with purpose("audit"):
                reply = await due.asking.ask(teacher.engine, places)
        except GoldlessError as error:
            logger.info("the teacher did not answer an audit: %s", error)
            return None
        return replace(reply, cost=teacher.cost(reply.usage, reply.cost))

    def _differs(self, due: Due[Answer], place: int, theirs: Answer | None) -> bool:
        served = due.routed.answers[place].answer
        off = self.live[due.audits[place].question].policy.certificate.tolerance
        return served is None or theirs is None or not due.asking.same(place, served, theirs, off)

    def _settle(self, due: Due[Answer], place: int, differs: bool | None) -> AuditRecord:
        audit = due.audits[place]
        if differs is not None:
            telemetry.record_audit(audit.tier, differs)
        return self.live[audit.question].settle(audit, differs)

    def _write(self, due: Due[Answer], audits: Mapping[int, AuditRecord], teacher: Reply[Answer] | None) -> None:
        if self._writer is None:
            return
        served = tuple(_served(due, place, mark, audits.get(place)) for place, mark in enumerate(due.marks))
        answers = [self._attempt(due, attempt) for attempt in due.routed.attempts if not attempt.error]
        if teacher is not None:
            names = [due.asking.names[place] for place in audits]
            answers.append(self._answer(due, self.cascade.tiers[-1].name, names, teacher))
        known = tuple(answer for answer in answers if answer is not None)
        checksum, latency = self.policy.checksum, due.routed.latency
        self._writer.put(TrafficRecord(due.query_id, due.time, checksum, due.request, served, known, latency))

    def _attempt(self, due: Due[Answer], attempt: Attempt[Answer]) -> TierAnswer | None:
        answers = [one.answer for one in attempt.judgements]
        names = [one.question for one in attempt.judgements]
        return self._answer(due, attempt.tier, names, Reply(answers, attempt.usage, attempt.cost, attempt.latency))

    def _answer(self, due: Due[Answer], tier: str, names: Sequence[str], reply: Reply[Answer]) -> TierAnswer | None:
        """One tier's answers as its engine gave them; None for a prompt without an answer, which left nothing."""
        if (said := due.asking.whole(reply)) is None:
            return None
        engine = next(one.engine.identity for one in self.cascade.tiers if one.name == tier)
        return TierAnswer(tier, engine, tuple(names) if isinstance(said, Decisions) else (), said)

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


def _counts(live: LiveRisk, served: Served[Answer], score: float) -> bool:
    """Whether this answer tells something about the thresholds in force: not one that no rule let pass because the
    teacher failed, nor one that was on its way when the thresholds moved, nor one of which a note says that something
    else decided."""
    if served.note:
        return False
    if served.outcome is Outcome.ACCEPTED:
        limits = {rule.tier: limit for rule, limit in zip(live.policy.rules, live.thresholds, strict=True)}
        limit = limits[served.tier]
        return limit is not None and score >= limit
    return served.outcome in (Outcome.TEACHER, Outcome.REFUSED)


def _score(routed: Routed[Answer], served: Served[Answer]) -> float:
    """The score of the tier that served; NaN where nothing judged it."""
    found = (one for attempt in routed.attempts if attempt.tier == served.tier for one in attempt.judgements)
    return next((one.score for one in found if one.question == served.question), math.nan)


def _served(due: Due[Answer], place: int, mark: str, outcome: AuditRecord | None) -> ServedAnswer:
    one = due.routed.answers[place]
    return ServedAnswer(
        question=one.question,
        fingerprint=mark,
        tier=one.tier,
        value=None if one.answer is None else due.asking.said(place, one.answer),
        confidence=None if math.isnan(one.confidence) else one.confidence,
        basis=one.basis,
        audit=outcome.probability if outcome else None,
        disagreed=outcome.disagreed if outcome else None,
    )
