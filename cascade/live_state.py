"""What is kept of live risk, and what several processes know of it as one state.

Each process serves a share of the traffic and keeps its own `LiveRisk`. One state of all of theirs gives the operator
one estimate, and lets a service start again with another number of processes:

    live = LiveRisk(policy, settings, state=pooled(states))
    live.estimate()
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from cascade.sequential import RATIOS
from curator.errors import InputError

Share = Annotated[float, Field(gt=0, le=1)]


class Alarm(BaseModel):
    """The risk was found to be above alpha at `level` of the path, after `queries` queries there."""

    model_config = ConfigDict(frozen=True)

    level: int
    queries: int
    audits: int
    risk: float
    time: datetime


@dataclass(slots=True)
class Counts:
    """What happened at the present thresholds, updated as it goes. `weight` sums 1 / p over disagreements,
    `open_weight` over audits without an answer, be they on their way or lost."""

    queries: int = 0
    accepted: int = 0
    audits: int = 0
    settled: int = 0
    disagreed: int = 0
    weight: float = 0.0
    open_weight: float = 0.0


class LiveState(BaseModel):
    """All that is known about one question's live risk, of bounded size, for `model_dump_json`: counts and the
    drift test (`tested` queries, `wealth`) since the thresholds moved last, to `level`; the alarms so far.
    `certificate` is the digest of the question policy that it is about."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    certificate: str
    share: Share
    level: int = 0
    counts: Counts = Field(default_factory=Counts)
    tested: int = 0
    wealth: tuple[float, ...] = (0.0,) * len(RATIOS)
    alarms: tuple[Alarm, ...] = ()


def pooled(states: Sequence[LiveState]) -> LiveState:
    """The states of all processes as one, at the tightest level that one of them reached. What the others saw at
    other thresholds tells nothing about these, and is left out.

    Counts add up: the interval is about sums, whatever the order of the queries. The wealth is the mean of theirs,
    which is an e-process as each of them is; the stake that nobody has laid counts as after all queries together,
    which is less than any of them has left. So neither is surer than it may be.
    Raises: InputError for no state, or for states of different questions, certificates or shares.
    """
    if not states:
        raise InputError("there is no live state to pool")
    first = states[0]
    for name in ("question", "certificate", "share"):
        if len(found := {str(getattr(state, name)) for state in states}) > 1:
            raise InputError(f"live states of different {name}s cannot be pooled: {', '.join(sorted(found))}")
    level = max(state.level for state in states)
    tight = [state for state in states if state.level == level]
    columns = zip(*(state.wealth for state in tight), strict=True)
    return first.model_copy(
        update={
            "level": level,
            "counts": _sum([state.counts for state in tight]),
            "tested": sum(state.tested for state in tight),
            "wealth": tuple(sum(column) / len(tight) for column in columns),
            "alarms": in_order(one for state in states for one in state.alarms),
        }
    )


def in_order(alarms: Iterable[Alarm]) -> tuple[Alarm, ...]:
    """Each once, in the order in which they came."""
    return tuple(sorted(set(alarms), key=lambda one: one.time))


def _sum(parts: Sequence[Counts]) -> Counts:
    return Counts(
        queries=sum(part.queries for part in parts),
        accepted=sum(part.accepted for part in parts),
        audits=sum(part.audits for part in parts),
        settled=sum(part.settled for part in parts),
        disagreed=sum(part.disagreed for part in parts),
        weight=sum(part.weight for part in parts),
        open_weight=sum(part.open_weight for part in parts),
    )
