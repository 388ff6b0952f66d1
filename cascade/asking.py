"""What the router and the recorder need to know of a request: asking a tier, and reading its answers' signals.

Two kinds, one interface: questions that are decided, and a prompt that is answered with text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Generic, Protocol

from cascade.fingerprint import pinned
from cascade.probing import AnswerOf, Probe, agreement, answer_in, order_agreement, verify_decision, verify_text
from cascade.routed import Answer
from cascade.signals import SignalSpec, decision_signals, parse_signal, text_signals
from cascade.validity import calls_of, is_valid_reply
from curator.engines.base import Engine
from curator.errors import InvalidOutputError, RefusalError
from curator.types import Capability, Completion, DecideRequest, Decision, Decisions, GenerateRequest, Usage

TEXT: Final = "text"
"""The name of the one question that a prompt is."""

_SEQUENCE: Final = (parse_signal("sequence_probability"),)


@dataclass(frozen=True, slots=True)
class Reply(Generic[Answer]):
    """One tier's answers (None: refused), and what they took. `refusal` is what it said where it declined a prompt."""

    answers: Sequence[Answer | None]
    usage: Usage
    cost: float | None
    latency: float
    refusal: str = ""


def refusal(count: int) -> Reply[Answer]:
    """No answer to any of the questions. It was read, and may be billed like any other; how much is not known."""
    return Reply((None,) * count, Usage(), None, 0.0)


class Asking(Protocol[Answer]):
    """A request of one kind. `place` numbers its questions."""

    @property
    def names(self) -> Sequence[str]:
        """The questions' names."""
        ...

    @property
    def kind(self) -> Capability:
        """What an engine must be able to do to answer."""
        ...

    async def ask(self, engine: Engine, places: Sequence[int]) -> Reply[Answer]:
        """The engine's answers to these questions. Raises: what the engine raises, but for refusals."""
        ...

    def free(self, place: int, answer: Answer, specs: Sequence[SignalSpec]) -> dict[str, float]:
        """Values of those `specs` that need nothing but the answer."""
        ...

    async def probe(self, engine: Engine, place: int, answer: Answer, spec: SignalSpec) -> Probe:
        """The value of a signal that needs more."""
        ...

    def same(self, place: int, one: Answer, other: Answer, tolerance: int = 0) -> bool:
        """Whether two answers say the same; those to a score also where they are at most `tolerance` levels apart."""
        ...

    def valid(self, answer: Answer) -> bool:
        """Whether the answer is what was asked for: else it is escalated, whatever its score."""
        ...

    def raw(self, place: int, answer: Answer) -> float:
        """A confidence that nothing has calibrated; NaN where there is none."""
        ...

    def signed(self, answer: Answer, tier: str) -> Answer:
        """The answer with the name of the tier that gave it."""
        ...

    def said(self, place: int, answer: Answer) -> str:
        """The answer in words: the option's label, or the text."""
        ...

    def whole(self, reply: Reply[Answer]) -> Decisions | Completion | None:
        """A reply as an engine gives it; None for a prompt without an answer."""
        ...


class Deciding:
    """Questions about one state. Those that a tier is not asked do not change how the others are put."""

    kind: Capability = "decide"

    def __init__(self, request: DecideRequest) -> None:
        self.request = request
        self.names = tuple(question.name for question in request.questions)

    async def ask(self, engine: Engine, places: Sequence[int]) -> Reply[Decision]:
        try:
            found = await engine.decide(self._part(places))
        except RefusalError:
            return refusal(len(places))
        if len(found.answers) != len(places):
            raise InvalidOutputError(f"{engine.identity} gave {len(found.answers)} answers to {len(places)} questions")
        for place, answer in zip(places, found.answers, strict=True):
            question = self.request.questions[place]
            if answer is not None and len(answer.logprobs) != len(question.options):
                counts = f"{len(answer.logprobs)} probabilities for the {len(question.options)} options"
                raise InvalidOutputError(f"{engine.identity} gave {counts} of {question.name!r}")
        return Reply(found.answers, found.usage, found.cost, found.latency)

    def free(self, place: int, answer: Decision, specs: Sequence[SignalSpec]) -> dict[str, float]:
        return decision_signals(specs, answer, self.request.questions[place])

    async def probe(self, engine: Engine, place: int, answer: Decision, spec: SignalSpec) -> Probe:
        question = self.request.questions[place]
        if spec.base == "order_agreement":
            return await order_agreement(engine, self.request, question, answer, spec)
        if spec.base == "self_verification":
            return await verify_decision(engine, self.request, question, answer)
        return Probe(math.nan, Usage(calls=0), 0.0)

    def same(self, place: int, one: Decision, other: Decision, tolerance: int = 0) -> bool:
        return abs(one.top - other.top) <= tolerance

    def valid(self, answer: Decision) -> bool:
        return True

    def raw(self, place: int, answer: Decision) -> float:
        return max(answer.probabilities)

    def signed(self, answer: Decision, tier: str) -> Decision:
        return Decision(answer.logprobs, answer.label_mass, answer.readout, _path(tier, answer.served_by))

    def said(self, place: int, answer: Decision) -> str:
        return self.request.questions[place].options[answer.top].label

    def whole(self, reply: Reply[Decision]) -> Decisions:
        return Decisions(tuple(reply.answers), reply.usage, reply.cost, reply.latency)

    def _part(self, places: Sequence[int]) -> DecideRequest:
        if len(places) == len(self.names):
            return self.request
        return replace(pinned(self.request), questions=tuple(self.request.questions[place] for place in places))


class Generating:
    """A prompt that is answered with text; `answer_of` says which texts answer the same."""

    kind: Capability = "generate"
    names = (TEXT,)

    def __init__(self, request: GenerateRequest, answer_of: AnswerOf = answer_in) -> None:
        self.request = request
        self.answer_of = answer_of

    async def ask(self, engine: Engine, places: Sequence[int]) -> Reply[Completion]:
        try:
            return self.reply(await engine.generate(self.request))
        except RefusalError:
            return refusal(1)

    def reply(self, found: Completion) -> Reply[Completion]:
        """What an engine said, as a reply: a refusal is no answer."""
        if not found.samples or found.samples[0].finish_reason == "refusal":
            said = found.samples[0].text if found.samples else ""
            return Reply((None,), found.usage, found.cost, found.latency, said)
        return Reply((found,), found.usage, found.cost, found.latency)

    def free(self, place: int, answer: Completion, specs: Sequence[SignalSpec]) -> dict[str, float]:
        return text_signals(specs, answer, self.request)

    async def probe(self, engine: Engine, place: int, answer: Completion, spec: SignalSpec) -> Probe:
        if spec.base == "agreement":
            return await agreement(engine, self.request, answer, spec, self.answer_of)
        if spec.base == "self_verification":
            return await verify_text(engine, self.request, answer.samples[0].text)
        return Probe(math.nan, Usage(calls=0), 0.0)

    def same(self, place: int, one: Completion, other: Completion, tolerance: int = 0) -> bool:
        first, second = one.samples[0], other.samples[0]
        if first.tool_calls or second.tool_calls:
            return calls_of(first) == calls_of(second)
        said = self.answer_of(first.text)
        return said is not None and said == self.answer_of(second.text)

    def valid(self, answer: Completion) -> bool:
        return all(is_valid_reply(sample, self.request) for sample in answer.samples)

    def raw(self, place: int, answer: Completion) -> float:
        return self.free(place, answer, _SEQUENCE)["sequence_probability"]

    def signed(self, answer: Completion, tier: str) -> Completion:
        return replace(answer, served_by=_path(tier, answer.served_by))

    def said(self, place: int, answer: Completion) -> str:
        return answer.samples[0].text

    def whole(self, reply: Reply[Completion]) -> Completion | None:
        (answer,) = reply.answers
        if answer is None:
            return None
        return replace(answer, usage=reply.usage, cost=reply.cost, latency=reply.latency)


def _path(tier: str, inner: str) -> str:
    """A tier that is a cascade itself says which of its own tiers answered."""
    return f"{tier}/{inner}" if inner else tier
