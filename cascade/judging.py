"""One tier's answer under one rule: its signals, its score, and whether it is served."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from cascade.asking import Asking
from cascade.policy import Rule
from cascade.probing import Probe
from cascade.routed import Answer, Judgement, Reason
from cascade.signals import parse_signal
from curator.engines.base import Engine
from curator.engines.exchanges import purpose
from curator.engines.readout import together


@dataclass(frozen=True, slots=True)
class Judged(Generic[Answer]):
    """A judgement, and the calls that its signals took."""

    judgement: Judgement[Answer]
    probes: Sequence[Probe] = ()


async def judge(
    asking: Asking[Answer], place: int, answer: Answer | None, before: Answer | None, rule: Rule, engine: Engine
) -> Judged[Answer]:
    """Judge `answer` of `engine` to one question; `before` is that of the tier before.

    A missing or invalid answer is never served, nor one with an unknown signal. Signals that cost calls are asked
    for last, and only while the answer can still be served.
    """
    name, specs = asking.names[place], [parse_signal(signal) for signal in rule.scorer.signals]
    if answer is None:
        return Judged(Judgement(name, None, Reason.REFUSED, threshold=rule.limit))
    if not asking.valid(answer):
        return Judged(Judgement(name, answer, Reason.INVALID, threshold=rule.limit))
    values, probes = asking.free(place, answer, specs), list[Probe]()
    if more := [spec for spec in specs if spec.name not in values]:
        values |= {spec.name: math.nan for spec in more}
        if before is not None:
            values |= {spec.name: float(asking.same(place, answer, before)) for spec in more if spec.needs == "tier"}
        costly = [spec for spec in more if spec.costly]
        if costly and not any(math.isnan(values[spec.name]) for spec in specs if not spec.costly):
            with purpose("probe"):
                probes = await together([asking.probe(engine, place, answer, spec) for spec in costly])
            values |= {spec.name: probe.value for spec, probe in zip(costly, probes, strict=True)}
    # A score is NaN where a signal is: an unknown signal is never a low one.
    score = rule.scorer.score_one([values[spec.name] for spec in specs])
    reason = Reason.UNKNOWN if math.isnan(score) else Reason.REACHED if score >= rule.limit else Reason.BELOW
    return Judged(Judgement(name, answer, reason, values, score, rule.limit), probes)
