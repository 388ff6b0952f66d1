"""Live risk: is what a certificate promised still true of the traffic that is served now?

A share of the *accepted* answers (those of any tier but the last) also goes to the teacher. A coin chooses them, so the
disagreements, each weighted by 1 / p, estimate the served risk without bias. A test that may be looked at after every
query (`cascade.sequential`) raises an alarm where the risk is above alpha; then the thresholds move halfway down the
rest of the certified path, at whose end all goes to the teacher. Only a new certificate brings them back.

    audit = live.serve("query-17", tier="small", score=0.91, time=now)
    if audit is not None:
        live.settle(audit, disagreed=teacher_answer != served_answer)
"""

from __future__ import annotations

import hashlib
import random
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from cascade.live_state import Alarm, Counts, LiveState, Share, in_order
from cascade.policy import QuestionPolicy
from cascade.sequential import Bets, DriftTest, risk_bounds
from curator.errors import ConfigError, InputError

MOST_PENDING: Final = 1024
"""Audits that may be on their way per question. Beyond them the oldest counts as lost."""

Thresholds = tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One accepted answer that also goes to the teacher. `question` is the policy's fingerprint, `probability` that
    with which it was drawn; `disagreed` is None until the teacher has answered, and stays so where it did not."""

    query_id: str
    question: str
    tier: str
    score: float
    probability: float
    time: datetime
    disagreed: bool | None = None


class LiveSettings(BaseModel):
    """`share` of the accepted answers is audited, at least; false alarms have a probability of at most `delta` per
    vector of thresholds, for all time, and the estimate's interval one of at most `delta` to be wrong, ever. `alpha` is
    the share of answers unlike the teacher's that is allowed; a certificate `vs_teacher` says it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: Share = 0.05
    delta: Annotated[float, Field(gt=0, lt=1)] = 0.05
    alpha: Share | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """The share of queries whose answer the teacher would not have given. `low` and `high` hold at all times at once
    with probability 1 - delta; audits on their way or lost count as either. An alarm comes at `evidence` 1 / delta."""

    risk: float
    low: float
    high: float
    queries: int
    audits: int
    lost: int
    evidence: float


@dataclass(slots=True)
class _Wait:
    """An audit that the test waits for; `disagreed` is the probability with which it was drawn if it found a
    disagreement, `quiet` how many queries without an audit came after it."""

    open: bool = True
    disagreed: float | None = None
    quiet: int = 0


class LiveRisk:
    """Single owner: one per question and process, called from one thread, since the order of queries counts. Of n
    processes each keeps one, at delta / n where one bound is to hold for all, and `adopt`s what the others found;
    `cascade.live_state.pooled` makes one state of theirs.

    `state` continues where another process stopped; audits that were on their way then are lost, which never raises
    an alarm, and widens the interval. With another `share` the counts begin anew, and the level stays; with another
    certificate everything begins anew.
    Raises: ConfigError without an alpha above 0; InputError for the state of another question.
    """

    def __init__(
        self,
        policy: QuestionPolicy,
        settings: LiveSettings | None = None,
        *,
        state: LiveState | None = None,
        coin: random.Random | None = None,
    ) -> None:
        self.policy = policy
        self.settings = settings or LiveSettings()
        self.bets = Bets.at(_alpha(policy, self.settings), self.settings.share)
        self._coin = coin or random.Random()
        self._ladder = ladder(policy)
        self._certificate = digest(policy)
        self.level = 0
        self.alarms: tuple[Alarm, ...] = ()
        self._begin()
        if state is not None:
            self._go_on(state)

    def _begin(self) -> None:
        """Nothing is known about the present thresholds."""
        self.counts = Counts()
        self._test = DriftTest(self.bets)
        self._waiting: OrderedDict[str, _Wait] = OrderedDict()

    def _go_on(self, state: LiveState) -> None:
        self.adopt(state)
        if state.certificate == self._certificate and state.share == self.settings.share:
            self.counts = replace(state.counts)
            self._test = DriftTest(self.bets, state.tested, state.wealth)

    def adopt(self, state: LiveState) -> None:
        """What another process found: where its thresholds are tighter, so are these, and the counts begin anew.
        Raises: InputError for the state of another question."""
        if state.question != self.policy.fingerprint:
            about = f"the live state is of the question {state.question}, the policy of {self.policy.fingerprint}"
            raise InputError(about, hint="begin without a state")
        if state.certificate == self._certificate and state.level > self.level:
            self.level, self.alarms = state.level, in_order([*self.alarms, *state.alarms])
            self._begin()

    @property
    def thresholds(self) -> Thresholds:
        """What applies now, one per rule; None: that tier's answers are not served."""
        return self._ladder[self.level]

    @property
    def failed_safe(self) -> bool:
        """Whether every query goes to the teacher."""
        return all(limit is None for limit in self.thresholds)

    @property
    def state(self) -> LiveState:
        """What to keep: now and then, and at once when `alarms` has grown."""
        return LiveState(
            question=self.policy.fingerprint,
            certificate=self._certificate,
            share=self.settings.share,
            level=self.level,
            counts=replace(self.counts),
            tested=self._test.queries,
            wealth=self._test.wealth,
            alarms=self.alarms,
        )

    def serve(
        self, query_id: str, tier: str, score: float, time: datetime, probability: float | None = None
    ) -> AuditRecord | None:
        """One query was answered by `tier`, with `score`. Returns an audit where the coin falls so: ask the teacher,
        then `settle`. `probability` has this answer audited more often than `share`, never less.
        Raises: InputError for such a probability, or for the id of a query whose audit is on its way.
        """
        chance = self.settings.share if probability is None else probability
        if not self.settings.share <= chance <= 1:
            raise InputError(f"the audit probability {chance} is not in [share, 1]", hint=f"at least {self.bets.share}")
        if query_id in self._waiting:
            raise InputError(f"the query id {query_id!r} is not unique: its audit is on its way")
        accepted = any(rule.tier == tier for rule in self.policy.rules)
        self.counts.queries += 1
        self.counts.accepted += accepted
        if not accepted or self._coin.random() >= chance:
            self._pass()
            return None
        self.counts.audits += 1
        self.counts.open_weight += 1 / chance
        self._waiting[query_id] = _Wait()
        if len(self._waiting) > MOST_PENDING:
            next(iter(self._waiting.values())).open = False
            self._advance(time)
        return AuditRecord(query_id, self.policy.fingerprint, tier, score, chance, time)

    def settle(self, audit: AuditRecord, disagreed: bool | None) -> AuditRecord:
        """The teacher's answer to an audit; None where it gave none, then the audit is lost. One from before the
        thresholds moved changes nothing. Returns the record with its outcome."""
        wait = self._waiting.get(audit.query_id)
        if wait is not None and wait.open:
            wait.open = False
            if disagreed is not None:
                self._learn(audit, wait, disagreed)
            self._advance(audit.time)
        return replace(audit, disagreed=disagreed)

    def _learn(self, audit: AuditRecord, wait: _Wait, disagreed: bool) -> None:
        weight = 1 / audit.probability
        self.counts.settled += 1
        self.counts.open_weight = max(self.counts.open_weight - weight, 0.0)
        if disagreed:
            self.counts.disagreed += 1
            self.counts.weight += weight
            wait.disagreed = audit.probability

    def estimate(self) -> Estimate:
        """The risk at the present thresholds, since they took effect."""
        now = self.counts
        low, high = risk_bounds(now.queries, now.weight, now.weight + now.open_weight, self.bets, self.settings.delta)
        # Audits without an answer are taken to be like the others, here only.
        risk = now.weight * now.audits / max(now.settled * now.queries, 1)
        lost = now.audits - now.settled - sum(wait.open for wait in self._waiting.values())
        return Estimate(min(risk, 1.0), low, high, now.queries, now.settled, lost, self._test.value)

    def _pass(self) -> None:
        """A query without an audit: it waits behind the audits before it, for the test goes by the order of serving."""
        if self._waiting:
            next(reversed(self._waiting.values())).quiet += 1
        else:
            self._test.see()

    def _advance(self, time: datetime) -> None:
        """Test what has been answered, up to the first audit that has not."""
        while self._waiting and not (first := next(iter(self._waiting.values()))).open:
            self._waiting.popitem(last=False)
            self._test.see(first.disagreed)
            if self._test.value >= 1 / self.settings.delta:
                return self._tighten(time)
            for _ in range(first.quiet):
                self._test.see()
        return None

    def _tighten(self, time: datetime) -> None:
        found = self.estimate()
        alarm = Alarm(level=self.level, queries=found.queries, audits=found.audits, risk=found.risk, time=time)
        self.alarms = (*self.alarms, alarm)
        # Halfway to the teacher: a path may have many small steps, and each alarm takes wrong answers.
        self.level += (len(self._ladder) - self.level) // 2
        self._begin()


def _alpha(policy: QuestionPolicy, settings: LiveSettings) -> float:
    if settings.alpha is not None:
        return settings.alpha
    if policy.certificate.basis == "vs_truth":
        raise ConfigError(
            f"{policy.name} is certified against the truth, and audits compare with the teacher",
            hint="set alpha, the share of answers unlike the teacher's that is allowed",
        )
    return policy.certificate.alpha


def ladder(policy: QuestionPolicy) -> tuple[Thresholds, ...]:
    """The thresholds by level: the policy's own, those more conservative ones that were certified with them, and
    last none at all, which sends every query to the teacher."""
    own = tuple(rule.threshold for rule in policy.rules)
    return (own, *policy.path, (None,) * len(policy.rules))


def digest(policy: QuestionPolicy) -> str:
    """What a live state knows its certificate by."""
    return hashlib.blake2b(policy.model_dump_json().encode(), digest_size=16).hexdigest()
