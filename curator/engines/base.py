"""What an engine is: the protocol, its identity, and the prompt that a question becomes."""

from __future__ import annotations

import hashlib
import string
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import orjson

from curator.errors import TaskError
from curator.types import (
    Capability,
    Completion,
    DecideRequest,
    Decisions,
    Delta,
    GenerateRequest,
    Message,
    Question,
    Template,
)


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """Who answers. Every part enters the completion key, so that another model, endpoint, weights
    file or adapter never returns this one's answers."""

    provider: str
    model: str
    endpoint: str = ""
    revision: str = ""
    adapter: str = ""

    def __str__(self) -> str:
        return f"{self.provider}:{self.model}" + (f"+{self.adapter}" if self.adapter else "")


def identity_text(identity: EngineIdentity) -> str:
    """Who answers, in full: `provider:model[+adapter][@revision][ at endpoint]`, as a policy's tiers and a lesson
    record it.

    The endpoint belongs to it: behind another address the same name may be another model.
    """
    revision = f"@{identity.revision}" if identity.revision else ""
    endpoint = f" at {identity.endpoint}" if identity.endpoint else ""
    return f"{identity}{revision}{endpoint}"


@dataclass(frozen=True, slots=True)
class Preview:
    """Exactly what a question becomes: the prompt text, its token count (0 where the engine cannot
    count), and per option the tokens that are scored."""

    question: str
    prompt: str
    tokens: int
    scored: tuple[tuple[str, tuple[str, ...]], ...]
    readout: str


@runtime_checkable
class Engine(Protocol):
    """A model that decides, generates, or both. Async only; safe for many calls at once."""

    @property
    def identity(self) -> EngineIdentity: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def concurrency(self) -> int:
        """How many requests in flight keep this engine busy."""
        ...

    async def decide(self, request: DecideRequest) -> Decisions:
        """Answer every question with a probability per option.

        Raises: EngineError and its kin; never returns a made-up answer.
        """
        ...

    async def generate(self, request: GenerateRequest) -> Completion:
        """Sample `request.n` texts."""
        ...

    async def preview(self, request: DecideRequest) -> tuple[Preview, ...]:
        """What `decide` would send, per question. Nothing is run."""
        ...

    async def aclose(self) -> None:
        """Free the model, its processes and connections. Calling twice is fine."""
        ...


@runtime_checkable
class StreamingEngine(Engine, Protocol):
    """An engine that also hands out a completion piece by piece."""

    def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """The pieces of `generate`'s answer as they come. Closing the generator stops the work behind it.

        Raises: as `generate`, also in the middle; then what came before is no answer.
        """
        ...


async def close_all(engines: Iterable[Engine]) -> None:
    """Close each, also where closing one fails. Raises: the first failure."""
    failures = []
    for engine in engines:
        try:
            await engine.aclose()
        except Exception as error:
            failures.append(error)
    if failures:
        raise failures[0]


def codes(count: int) -> tuple[str, ...]:
    """Letter codes A..Z, then AA, AB, ..."""
    letters = string.ascii_uppercase
    if count <= len(letters):
        return tuple(letters[:count])
    return tuple((letters[i // 26 - 1] if i >= 26 else "") + letters[i % 26] for i in range(count))


def scored_texts(question: Question, template: Template) -> tuple[str, ...]:
    """What the model answers with, per option: its label, or its letter code."""
    return codes(len(question.options)) if template.letters else question.labels


def render_question(question: Question, template: Template) -> str:
    """The question part of the user's turn."""
    lines = []
    for code, option in zip(codes(len(question.options)), question.options, strict=True):
        line = template.described if option.description else template.option
        lines.append(fill(line, code=code, label=option.label, description=option.description))
    return fill(template.question, instructions=question.instructions, options="\n".join(lines))


def fill(template: str, **values: str) -> str:
    """Replace {name} by its value in one pass, so that braces in a text are never read as a field.

    Raises: TaskError if the template names a field that does not exist.
    """
    parts = []
    try:
        for literal, name, _, _ in string.Formatter().parse(template):
            parts.append(literal)
            if name is not None:
                parts.append(values[name])
    except (KeyError, ValueError) as error:
        raise TaskError(
            f"the template {template!r} cannot be filled: {error}",
            hint=f"known fields: {', '.join('{' + name + '}' for name in values)}; write {{{{ for a brace",
        ) from None
    return "".join(parts)


def render_messages(request: DecideRequest, question: Question) -> tuple[Message, ...]:
    """The chat messages that ask one question.

    What many prompts have in common stands first, so that engines compute it once: the question and
    the demonstrations where a request asks one question, else the state that the questions share.
    """
    template = request.template
    asked = render_question(question, template)
    leads = question_leads(request)
    by_label = dict(zip(question.labels, scored_texts(question, template), strict=True))
    messages = [Message("system", template.system)] if template.system else []
    for shown in request.demonstrations:
        if (answer := shown.answers.get(question.name)) is not None:
            messages.append(Message("user", _turn(template, asked, shown.state, leads)))
            messages.append(Message("assistant", template.answer_prefix + by_label[answer]))
            asked = "" if leads else asked
    messages.append(Message("user", _turn(template, asked, request.state, leads)))
    return tuple(messages)


def question_leads(request: DecideRequest) -> bool:
    """Whether the question stands before the state. Then it is asked once, before the first text."""
    order = request.template.order
    return order == "question_first" or (order == "auto" and len(request.questions) == 1)


def _turn(template: Template, asked: str, state: str, leads: bool) -> str:
    shown = fill(template.state, state=state)
    if not leads:
        return f"{shown}\n\n{asked}"
    return f"{asked}\n\n{shown}" if asked else shown


def request_key(identity: EngineIdentity, request: DecideRequest | GenerateRequest) -> str:
    """Hash (hex, 128 bit) of all that decides the answer: what is sent, and who answers."""
    content = orjson.dumps((identity, type(request).__name__, request), default=dict)
    return hashlib.blake2b(content, digest_size=16).hexdigest()
