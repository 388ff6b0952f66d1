"""One tier's answer under one rule: its signals, its score, and whether it is served."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from cascade.asking import Asking
from cascade.policy import Rule
from cascade.probing import Probe
from cascade.routed import Answer, Judgement, Reason
from cascade.signals import SignalSpec, parse_signal
from curator.engines.base import Engine
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
    values = {spec.name: math.nan for spec in specs} | asking.free(place, answer, specs)
    if before is not None:
        values |= {spec.name: float(asking.same(place, answer, before)) for spec in specs if spec.needs == "tier"}
    costly = [spec for spec in specs if spec.needs in ("samples", "calls")]
    probes: list[Probe] = []
    if costly and not any(math.isnan(values[spec.name]) for spec in specs if spec not in costly):
        probes = await together([asking.probe(engine, place, answer, spec) for spec in costly])
        values |= {spec.name: probe.value for spec, probe in zip(costly, probes, strict=True)}
    return Judged(_judged(name, answer, values, specs, rule), probes)


def _judged(
    name: str, answer: Answer, values: Mapping[str, float], specs: Sequence[SignalSpec], rule: Rule
) -> Judgement[Answer]:
    row = np.array([[values[spec.name] for spec in specs]])
    # Of a NaN, interpolation makes a NaN: an unknown signal is never a low one.
    score = float(rule.scorer.score(row)[0])
    reason = Reason.UNKNOWN if math.isnan(score) else Reason.REACHED if score >= rule.limit else Reason.BELOW
    return Judgement(name, answer, reason, values, score, rule.limit)
