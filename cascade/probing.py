"""Signals that cost calls: other option orders, more samples, and asking the model about its own answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson

from cascade.fingerprint import pinned
from cascade.routed import total
from cascade.signals import SignalSpec
from curator.engines.base import Engine
from curator.engines.exchanges import BILLED
from curator.engines.readout import together
from curator.engines.tries import was_sent
from curator.errors import GoldlessError
from curator.parsing import MISSING, last_object, marked_answer, normalise_number, normalise_text
from curator.types import (
    Completion,
    DecideRequest,
    Decision,
    GenerateRequest,
    Option,
    Question,
    Template,
    Usage,
)

AnswerOf = Callable[[str], str | None]
"""What a generated text answers, in a form in which equal answers are equal; None where it answers nothing."""

TEMPERATURE: Final = 0.7
"""Of further samples, where the request is greedier: greedy samples are all the same."""

VERIFY: Final = Template(order="state_first")


@dataclass(frozen=True, slots=True)
class Probe:
    """A signal's value and what its calls took."""

    value: float
    usage: Usage
    cost: float | None


def failed(error: GoldlessError) -> Probe:
    """A call that failed says nothing; it costs nothing either, unless the model may have read it."""
    if not was_sent(error):
        return Probe(math.nan, Usage(calls=0), 0.0)
    return Probe(math.nan, Usage(), None if isinstance(error, BILLED) else 0.0)


def answer_in(text: str) -> str | None:
    """The answer in a text: its JSON object, else what stands behind `Answer:` (as a number, if it is one), else all
    of it, normalised."""
    if found := last_object(text):
        return orjson.dumps(found, option=orjson.OPT_SORT_KEYS).decode()
    marked = marked_answer(text)
    if marked is not None and (number := normalise_number(marked)) != MISSING:
        return number
    return normalise_text(text if marked is None else marked) or None


async def order_agreement(
    engine: Engine, request: DecideRequest, question: Question, decision: Decision, spec: SignalSpec
) -> Probe:
    """Share of other option orders (those that answered) under which the answer stays.

    Zheng et al. 2024 (arXiv 2309.03882): a small model's choice depends on where an option stands.
    """
    chosen = question.labels[decision.top]
    orders = shuffled(question, spec.count)
    asked = [replace(pinned(request), questions=(replace(question, options=order),)) for order in orders]
    probes = await together([_same(engine, one, chosen) for one in asked])
    known = [probe.value for probe in probes if not math.isnan(probe.value)]
    value = sum(known) / len(known) if known else math.nan
    return Probe(value, sum((probe.usage for probe in probes), Usage(calls=0)), total(probe.cost for probe in probes))


def shuffled(question: Question, count: int) -> list[tuple[Option, ...]]:
    """Up to `count` other orders of the options: reversed, then rotated. A scale is only ever reversed."""
    options = question.options
    orders = [options[::-1]]
    if question.kind != "score":
        orders += [options[turn:] + options[:turn] for turn in range(1, len(options))]
    return [order for order in dict.fromkeys(orders) if order != options][:count]


async def _same(engine: Engine, request: DecideRequest, chosen: str) -> Probe:
    try:
        found = await engine.decide(request)
    except GoldlessError as error:
        return failed(error)
    answer = found.answers[0]
    value = math.nan if answer is None else float(request.questions[0].labels[answer.top] == chosen)
    return Probe(value, found.usage, found.cost)


async def verify_decision(engine: Engine, request: DecideRequest, question: Question, decision: Decision) -> Probe:
    """Probability that the model gives to its own answer being right (Kadavath et al. 2022, arXiv 2207.05221)."""
    label = question.labels[decision.top]
    return await _verify(engine, request.state, f"{question.instructions}\nProposed answer: {label}", request.template)


async def verify_text(engine: Engine, request: GenerateRequest, text: str) -> Probe:
    """The same of a generated answer. NaN from an engine that cannot decide."""
    if "decide" not in engine.capabilities:
        return Probe(math.nan, Usage(calls=0), 0.0)
    state = "\n\n".join(f"{message.role}: {message.content}" for message in request.messages)
    return await _verify(engine, state, f"Proposed answer: {text}", Template())


async def _verify(engine: Engine, state: str, claim: str, template: Template) -> Probe:
    options = (Option("yes"), Option("no"))
    question = Question("self_verification", "predicate", f"{claim}\nIs the proposed answer right?", options)
    wording = replace(VERIFY, system=template.system, state=template.state)
    try:
        found = await engine.decide(DecideRequest(state, (question,), wording))
    except GoldlessError as error:
        return failed(error)
    answer = found.answers[0]
    return Probe(math.nan if answer is None else answer.probabilities[0], found.usage, found.cost)


async def agreement(
    engine: Engine, request: GenerateRequest, completion: Completion, spec: SignalSpec, answer_of: AnswerOf
) -> Probe:
    """Share of `spec.count` samples that answer what the first one does: the one that is served. (The share of the
    most frequent answer, as self-consistency has it, would vouch for an answer that nobody gets.)

    Samples that the request asked for count; the missing ones are drawn, at `TEMPERATURE` at least.
    """
    texts = [sample.text for sample in completion.samples]
    if request.sampling.temperature == 0:
        texts = texts[:1]
    if len(texts) >= spec.count:
        return Probe(share(texts[: spec.count], answer_of), Usage(calls=0), 0.0)
    try:
        drawn = await engine.generate(_more(request, spec.count - len(texts)))
    except GoldlessError as error:
        return failed(error)
    texts += [sample.text for sample in drawn.samples]
    return Probe(share(texts, answer_of), drawn.usage, drawn.cost)


def share(texts: Sequence[str], answer_of: AnswerOf) -> float:
    """Share of the texts that answer what the first one does; 0 where that answers nothing."""
    answers = [answer_of(text) for text in texts]
    return 0.0 if answers[0] is None else answers.count(answers[0]) / len(answers)


def _more(request: GenerateRequest, count: int) -> GenerateRequest:
    sampling = request.sampling
    seed = None if sampling.seed is None else sampling.seed + request.n
    drawn = replace(sampling, temperature=max(sampling.temperature, TEMPERATURE), seed=seed)
    return replace(request, n=count, sampling=drawn)
