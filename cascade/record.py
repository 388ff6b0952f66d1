"""Ask every tier about the same requests: the recorded outcomes that certificates and replays are made from."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from cascade.asking import TEXT, Asking, Deciding, Generating
from cascade.fingerprint import question_fingerprint
from cascade.outcomes import NO_ANSWER, Outcomes, tier_agreement
from cascade.probing import AnswerOf, Probe, answer_in
from cascade.route import Tier
from cascade.routed import Answer, total
from cascade.signals import SignalSpec, free_signals, parse_signal
from curator.confidence import Floats, Ints
from curator.engines.readout import together
from curator.errors import GoldlessError, InputError
from curator.types import Completion, DecideRequest, Decision, GenerateRequest


@dataclass(frozen=True, slots=True)
class Recording:
    """Outcomes per question name, and per tier how often which error kept it from answering."""

    outcomes: Mapping[str, Outcomes]
    failures: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class _Seen(Generic[Answer]):
    """One tier's answers to one request, their signals, and what they took (NaN: unknown)."""

    answers: Sequence[Answer | None]
    signals: Sequence[Mapping[str, float]]
    cost: float
    latency: float
    error: str = ""


async def record(
    tiers: Sequence[Tier],
    requests: Sequence[DecideRequest],
    *,
    signals: Sequence[str] | None = None,
    ids: Sequence[str] = (),
) -> Recording:
    """What every tier, the cheapest first, says to every question of `requests`; the last one is the teacher.

    A failed request is an answer of -1 with unknown signals, cost and latency; it stops nothing. `signals` are by
    default those that cost no call. What the others cost is in the costs recorded, so name only those that a rule may
    use; one that nobody has is left out. A request's cost and latency are shared evenly among its questions, so that
    they add up to the request's.

    Raises: InputError for unknown signals, other tiers than are given, or a question that is asked in two ways.
    """
    _check(tiers, requests, ids)
    specs = [parse_signal(name) for name in signals or free_signals("decide", "score")]
    places = _places(requests)
    askings = [Deciding(request) for request in requests]
    seen = [await _ask_all(tier, askings, specs, last=tier is tiers[-1]) for tier in tiers]
    names = tuple(tier.name for tier in tiers)
    tables = {name: _Table(names, rows, seen, _tops(rows, seen)) for name, rows in places.items()}
    outcomes = {name: table.outcomes(specs, ids) for name, table in tables.items()}
    return Recording(outcomes, _failures(tiers, seen))


async def record_texts(
    tiers: Sequence[Tier],
    requests: Sequence[GenerateRequest],
    *,
    signals: Sequence[str] | None = None,
    ids: Sequence[str] = (),
    answer_of: AnswerOf = answer_in,
) -> Recording:
    """As `record`, of prompts: answers are alike in a row where `answer_of` says that two texts answer the same, -1
    where it finds no answer. An answer that its schema does not allow has unknown signals, but for `valid`."""
    _check(tiers, requests, ids)
    specs = [parse_signal(name) for name in signals or free_signals("generate")]
    askings = [Generating(request, answer_of) for request in requests]
    seen = [await _ask_all(tier, askings, specs, last=tier is tiers[-1]) for tier in tiers]
    rows = [(number, 0) for number in range(len(requests))]
    numbers = [_alike([one[row].answers[0] for one in seen], answer_of) for row, _ in rows]
    table = _Table(tuple(tier.name for tier in tiers), rows, seen, _array(numbers, len(tiers)))
    return Recording({TEXT: table.outcomes(specs, ids)}, _failures(tiers, seen))


async def _ask_all(
    tier: Tier, askings: Sequence[Asking[Answer]], specs: Sequence[SignalSpec], *, last: bool
) -> list[_Seen[Answer]]:
    """`concurrency` requests at a time. Calls for signals are not made of the teacher, which no rule judges."""
    found: dict[int, _Seen[Answer]] = {}
    waiting = iter(enumerate(askings))

    async def work() -> None:
        for number, asking in waiting:
            found[number] = await _see(tier, asking, [spec for spec in specs if not (last and spec.costly)])

    await together([work() for _ in range(min(tier.engine.concurrency, len(askings)))])
    return [found[number] for number in range(len(askings))]


async def _see(tier: Tier, asking: Asking[Answer], specs: Sequence[SignalSpec]) -> _Seen[Answer]:
    places = range(len(asking.names))
    try:
        reply = await asking.ask(tier.engine, places)
    except GoldlessError as error:
        nothing: list[Mapping[str, float]] = [{} for _ in places]
        return _Seen([None for _ in places], nothing, math.nan, math.nan, type(error).__name__)
    began = time.perf_counter()
    pairs = list(zip(places, reply.answers, strict=True))
    found = await together([_signals(tier, asking, place, answer, specs) for place, answer in pairs])
    probes = [probe for _, taken in found for probe in taken]
    cost = total([tier.cost(reply.usage, reply.cost), *(tier.cost(probe.usage, probe.cost) for probe in probes)])
    seconds = reply.latency + (time.perf_counter() - began if probes else 0.0)
    refused = "RefusalError" if all(answer is None for answer in reply.answers) else ""
    return _Seen(reply.answers, [values for values, _ in found], math.nan if cost is None else cost, seconds, refused)


async def _signals(
    tier: Tier, asking: Asking[Answer], place: int, answer: Answer | None, specs: Sequence[SignalSpec]
) -> tuple[dict[str, float], list[Probe]]:
    if answer is None:
        return {}, []
    if not asking.valid(answer):
        return asking.free(place, answer, [spec for spec in specs if spec.base == "valid"]), []
    costly = [spec for spec in specs if spec.costly]
    probes = await together([asking.probe(tier.engine, place, answer, spec) for spec in costly])
    values = {spec.name: probe.value for spec, probe in zip(costly, probes, strict=True)}
    return asking.free(place, answer, specs) | values, list(probes)


@dataclass(frozen=True, slots=True)
class _Table(Generic[Answer]):
    """What the tiers `names` answered to one question: `rows` are (request, place in it), `seen` is per tier and
    request, `numbers` (n, t) the answers' numbers."""

    names: tuple[str, ...]
    rows: Sequence[tuple[int, int]]
    seen: Sequence[Sequence[_Seen[Answer]]]
    numbers: Ints

    def outcomes(self, specs: Sequence[SignalSpec], ids: Sequence[str]) -> Outcomes:
        signals = {spec.name: self._signal(spec) for spec in specs}
        return Outcomes(
            tiers=self.names,
            answers=self.numbers,
            signals={name: values for name, values in signals.items() if not np.isnan(values).all()},
            cost=self._shared([[one[row].cost for one in self.seen] for row, _ in self.rows]),
            latency=self._shared([[one[row].latency for one in self.seen] for row, _ in self.rows]),
            quality=np.full(self.numbers.shape, np.nan),
            ids=tuple(ids[row] for row, _ in self.rows) if ids else (),
        )

    def _signal(self, spec: SignalSpec) -> Floats:
        if spec.base == "tier_agreement":
            return tier_agreement(self.numbers)
        values = [[one[row].signals[place].get(spec.name, math.nan) for one in self.seen] for row, place in self.rows]
        return np.array(values, dtype=np.float64).reshape(self.numbers.shape)

    def _shared(self, values: Sequence[Sequence[float]]) -> Floats:
        questions = [len(self.seen[0][row].answers) for row, _ in self.rows]
        whole = np.array(values, dtype=np.float64).reshape(self.numbers.shape)
        result: Floats = whole / np.array(questions, dtype=np.float64)[:, None]
        return result


def _tops(rows: Sequence[tuple[int, int]], seen: Sequence[Sequence[_Seen[Decision]]]) -> Ints:
    found = [[one[row].answers[place] for one in seen] for row, place in rows]
    return _array([[NO_ANSWER if one is None else one.top for one in answers] for answers in found], len(seen))


def _alike(answers: Sequence[Completion | None], answer_of: AnswerOf) -> list[int]:
    """Numbers of one row's answers, in the order in which they first occur."""
    said = [None if answer is None else answer_of(answer.samples[0].text) for answer in answers]
    order = {text: number for number, text in enumerate(dict.fromkeys(text for text in said if text is not None))}
    return [NO_ANSWER if text is None else order[text] for text in said]


def _array(numbers: Sequence[Sequence[int]], tiers: int) -> Ints:
    return np.array(numbers, dtype=np.int64).reshape(-1, tiers)


def _places(requests: Sequence[DecideRequest]) -> dict[str, list[tuple[int, int]]]:
    """Question name -> (request, place in it). Raises: InputError where a name stands for several questions."""
    found: dict[str, list[tuple[int, int]]] = {}
    first: dict[str, str] = {}
    for row, request in enumerate(requests):
        for place, question in enumerate(request.questions):
            mark = question_fingerprint(request, question, ())
            if first.setdefault(question.name, mark) != mark:
                raise InputError(
                    f"request {row} asks {question.name!r} in another way than the first request that asks it",
                    hint="record one wording, one list of options, and the same worked examples at a time",
                )
            found.setdefault(question.name, []).append((row, place))
    return found


def _check(tiers: Sequence[Tier], requests: Sequence[object], ids: Sequence[str]) -> None:
    names = [tier.name for tier in tiers]
    if not names or len(set(names)) < len(names):
        raise InputError(f"tiers must have different names, at least one: {', '.join(names) or 'none given'}")
    if not requests:
        raise InputError("there is nothing to ask the tiers about", hint="give requests made from unlabeled traffic")
    if ids and len(ids) != len(requests):
        raise InputError(f"{len(ids)} ids for {len(requests)} requests")


def _failures(tiers: Sequence[Tier], seen: Sequence[Sequence[_Seen[Answer]]]) -> dict[str, dict[str, int]]:
    return {
        tier.name: dict(Counter(one.error for one in answers if one.error))
        for tier, answers in zip(tiers, seen, strict=True)
    }
