"""The public test double: an engine whose answers are written down beforehand.

    engine = ScriptedEngine(decide={"great film": "positive", "dull": {"positive": 0.2, "negative": 0.8}})
    engine = ScriptedEngine(decide=lambda request: "positive" if "good" in request.state else "negative")
    engine = ScriptedEngine(generate=["42", "41"], faults=[RateLimitError("slow down"), None])

An answer is a label, a mapping of label to probability, a sequence of probabilities in option
order, `True`/`False` for a predicate, or None for a refusal. A request with several questions is
answered by a mapping of question name to answer. A text streams word by word, `Streamed` piece by piece
as it says. No network, no model; `requests` holds all that was asked, in order.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from curator.engines.base import EngineIdentity, Preview, render_messages, scored_texts
from curator.engines.pieces import Collector, pieces_of
from curator.errors import ConfigError
from curator.types import (
    Capability,
    Completion,
    DecideRequest,
    Decision,
    Decisions,
    Delta,
    GenerateRequest,
    Question,
    Sample,
    Usage,
)

Answer = str | bool | Mapping[str, float] | Sequence[float] | None
DecideReply = Answer | Mapping[str, "Answer"] | Decisions


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that comes in `pieces`: texts or whole deltas, `delay` seconds before each. An exception among them is
    raised there. `generate` puts them together, or fails alike.

        Streamed(["It is ", "42"])
        Streamed([Delta(text="It", logprobs=(-0.1,)), ServerError("it broke")], delay=0.01)

    A sample without a finish reason ends with `stop`.
    """

    pieces: Sequence[str | Delta | Exception]
    delay: float = 0.0


GenerateReply = str | Sequence[str] | Completion | Streamed
DecideScript = Callable[[DecideRequest], DecideReply] | Mapping[str, DecideReply] | Sequence[DecideReply]
GenerateScript = Callable[[GenerateRequest], GenerateReply] | Mapping[str, GenerateReply] | Sequence[GenerateReply]
Faults = Mapping[int, Exception] | Sequence[Exception | None]

Request = TypeVar("Request")
Reply = TypeVar("Reply")

FLOOR = 1e-9
"""The least probability that a script can give to an option, so that logarithms stay finite."""


class ScriptedEngine:
    """Answers from `decide` and `generate`: each a callable of the request, a mapping from the
    state (or the last message) to the answer, or a sequence of answers used up in call order.

    `faults[i]` is raised instead of answering call number i (from 0, both kinds counted together).
    `latency` is slept before every answer. Usage is counted in whitespace-separated words, of a stream in
    pieces. `aborted` counts the streams that were closed before their end.
    """

    def __init__(
        self,
        decide: DecideScript | None = None,
        generate: GenerateScript | None = None,
        *,
        latency: float = 0.0,
        faults: Faults = (),
        identity: EngineIdentity | None = None,
        concurrency: int = 64,
    ) -> None:
        if decide is None and generate is None:
            raise ConfigError("a ScriptedEngine needs answers", hint="pass decide=..., generate=... or both")
        self._decide = decide
        self._generate = generate
        self._latency = latency
        self._faults = faults
        self.identity = identity or EngineIdentity("scripted", "scripted")
        self.concurrency = concurrency
        self.requests: list[DecideRequest | GenerateRequest] = []
        self.closed = False
        self.aborted = 0
        self._answered = {"decide": 0, "generate": 0}

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What there is a script for."""
        decides: frozenset[Capability] = frozenset({"decide"} if self._decide is not None else ())
        generates: frozenset[Capability] = frozenset({"generate"} if self._generate is not None else ())
        return decides | generates

    async def decide(self, request: DecideRequest) -> Decisions:
        """The scripted decisions.

        Raises: the scripted fault; ConfigError if the script has no answer for this request.
        """
        if self._decide is None:
            raise ConfigError("this ScriptedEngine has no script for decide")
        number = await self._turn(request)
        reply = _pick(self._decide, request, request.state, number)
        if isinstance(reply, Decisions):
            return reply
        answers = tuple(_decision(q, _answer_of(reply, q, len(request.questions))) for q in request.questions)
        return Decisions(answers, Usage(_words(request.state), len(answers)), latency=self._latency)

    async def generate(self, request: GenerateRequest) -> Completion:
        """The scripted texts; one text is repeated `request.n` times.

        Raises: as `decide`.
        """
        if self._generate is None:
            raise ConfigError("this ScriptedEngine has no script for generate")
        number = await self._turn(request)
        reply = _pick(self._generate, request, request.messages[-1].content, number)
        if isinstance(reply, Completion):
            return reply
        if isinstance(reply, Streamed):
            collector = Collector()
            async for piece in _play(reply, request):
                collector.add(piece)
            return collector.completion(self._latency)
        texts = [reply] * request.n if isinstance(reply, str) else list(reply)
        usage = Usage(_asked(request), sum(map(_words, texts)))
        return Completion(tuple(Sample(text) for text in texts), usage, latency=self._latency)

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """The same in pieces.

        Raises: as `decide`; what the script raises in the middle.
        """
        if self._generate is None:
            raise ConfigError("this ScriptedEngine has no script for generate")
        number = await self._turn(request)
        reply = _pick(self._generate, request, request.messages[-1].content, number)
        if isinstance(reply, Completion):
            pieces = _play(Streamed(list(pieces_of(reply))), request)
        else:
            pieces = _play(reply if isinstance(reply, Streamed) else _spoken(reply, request.n), request)
        try:
            async for piece in pieces:
                yield piece
        except (GeneratorExit, asyncio.CancelledError):
            self.aborted += 1
            raise
        finally:
            await pieces.aclose()

    async def preview(self, request: DecideRequest) -> tuple[Preview, ...]:
        """The prompt that a chat model would see, and what it would answer with."""
        return tuple(_preview(request, question) for question in request.questions)

    async def aclose(self) -> None:
        """Sets `closed`."""
        self.closed = True

    async def _turn(self, request: DecideRequest | GenerateRequest) -> int:
        """Record the request, fail if the script says so; returns which answer of its kind is due."""
        call = len(self.requests)
        self.requests.append(request)
        fault = self._faults.get(call) if isinstance(self._faults, Mapping) else _at(self._faults, call)
        kind = "decide" if isinstance(request, DecideRequest) else "generate"
        number = self._answered[kind]
        self._answered[kind] += fault is None
        await asyncio.sleep(self._latency)
        if fault is not None:
            raise fault
        return number


def _at(faults: Sequence[Exception | None], call: int) -> Exception | None:
    return faults[call] if call < len(faults) else None


def _pick(
    script: Callable[[Request], Reply] | Mapping[str, Reply] | Sequence[Reply], request: Request, key: str, number: int
) -> Reply:
    if isinstance(script, Mapping):
        if key not in script:
            raise ConfigError(f"the script has no answer for {key[:80]!r}")
        return script[key]
    if callable(script):
        return script(request)
    if number >= len(script):
        raise ConfigError(f"the script has only {len(script)} answers, and this is request {number + 1}")
    return script[number]


def _answer_of(reply: DecideReply, question: Question, questions: int) -> Answer:
    """The part of `reply` that answers `question`: a mapping whose keys are not all labels is keyed by
    question names."""
    if (
        isinstance(reply, Mapping)
        and (questions > 1 or question.name in reply)
        and question.name not in question.labels
    ):
        if question.name not in reply:
            raise ConfigError(f"the script does not answer the question {question.name!r}")
        return cast(Answer, reply[question.name])
    return cast(Answer, reply)


def _decision(question: Question, answer: Answer) -> Decision | None:
    if answer is None:
        return None
    probabilities = _probabilities(question, answer)
    return Decision(tuple(math.log(max(p, FLOOR)) for p in probabilities), None, "scripted")


def _probabilities(question: Question, answer: Answer) -> Sequence[float]:
    labels = question.labels
    if isinstance(answer, bool):
        answer = labels[0] if answer else labels[1]
    if isinstance(answer, str):
        answer = {answer: 1.0}
    if isinstance(answer, Mapping):
        if unknown := set(answer) - set(labels):
            raise ConfigError(f"the script answers {sorted(unknown)[0]!r}, which is no option of {question.name!r}")
        return [answer.get(label, 0.0) for label in labels]
    if answer is None or len(answer) != len(labels):
        raise ConfigError(f"the script must give {question.name!r} {len(labels)} probabilities, not {answer!r}")
    return answer


def _words(text: str) -> int:
    return len(text.split())


def _asked(request: GenerateRequest) -> int:
    return sum(_words(message.content) for message in request.messages)


def _spoken(reply: str | Sequence[str], count: int) -> Streamed:
    """Texts word by word, each sample after the other."""
    pieces: list[Delta] = []
    for index, text in enumerate([reply] * count if isinstance(reply, str) else reply):
        pieces += [Delta(index, word) for word in re.findall(r"\s*\S+(?:\s+$)?", text)]
        pieces.append(Delta(index, finish_reason="stop"))
    return Streamed(pieces)


async def _play(script: Streamed, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
    """The pieces of a script; then the ends that it leaves out, and the usage."""
    open_, told, count = set[int](), False, 0
    for said in script.pieces:
        await asyncio.sleep(script.delay)
        if isinstance(said, Exception):
            raise said
        piece = Delta(text=said) if isinstance(said, str) else said
        (open_.discard if piece.finish_reason else open_.add)(piece.index)
        told, count = told or piece.usage is not None, count + bool(piece.text)
        yield piece
    for index in sorted(open_):
        yield Delta(index, finish_reason="stop")
    if not told:
        yield Delta(usage=Usage(_asked(request), count))


def _preview(request: DecideRequest, question: Question) -> Preview:
    prompt = "\n\n".join(message.content for message in render_messages(request, question))
    scored = tuple(
        (label, (text,)) for label, text in zip(question.labels, scored_texts(question, request.template), strict=True)
    )
    return Preview(question.name, prompt, _words(prompt), scored, "scripted")
