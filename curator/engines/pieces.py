"""Completions in pieces: from a whole one, back to one, and what one that was broken off took."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, cast

import orjson

from curator.engines.base import Engine, StreamingEngine
from curator.engines.sampled import sample
from curator.errors import ServerError
from curator.types import ChatRequest, Completion, Delta, GenerateRequest, Json, JsonObject, Sample, Usage

BYTES_PER_TOKEN: Final = 4
"""Of prompts, where nobody counted their tokens: English text has about so many."""


def streamed(engine: Engine, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
    """The engine's answer in pieces; from one that does not stream, `generate`'s as one piece per sample.

    Raises: as the engine's own method.
    """
    return engine.stream(request) if isinstance(engine, StreamingEngine) else _at_once(engine, request)


async def _at_once(engine: Engine, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
    for piece in pieces_of(await engine.generate(request)):
        yield piece


def pieces_of(completion: Completion) -> Iterator[Delta]:
    """A whole completion as one piece per sample, and a last one with what it took. The log-probabilities of single
    tokens are not known any more."""
    for index, one in enumerate(completion.samples):
        yield Delta(index, one.text, (), one.tool_calls, one.tokens, one.finish_reason, whole=one)
    yield Delta(usage=completion.usage, cost=completion.cost)


@dataclass
class Tally:
    """What the pieces of a completion say of its usage and cost so far; `output` counts tokens where nobody tells."""

    usage: Usage | None = None
    cost: float | None = None
    output: int = 0

    def add(self, piece: Delta) -> None:
        """The next piece. One without log-probabilities counts as a token: most servers send one per token."""
        if piece.usage is not None:
            self.usage, self.cost = piece.usage, piece.cost
        if piece.text or piece.tool_calls or piece.logprobs:
            self.output += len(piece.logprobs) or 1

    def taken(self, input_tokens: int) -> tuple[Usage, bool]:
        """What it took so far, and whether that is an estimate: it is unless the engine tells with every piece.
        `input_tokens` is what the prompt may have taken."""
        if self.usage is not None and self.usage.input_tokens:
            return self.usage, False
        return Usage(input_tokens, self.output), True


@dataclass
class _Gathered:
    """One sample so far."""

    text: list[str] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    tokens: list[JsonObject] = field(default_factory=list)
    calls: dict[int, JsonObject] = field(default_factory=dict)
    finish_reason: str | None = None
    whole: Sample | None = None

    def add(self, piece: Delta) -> None:
        self.whole = piece.whole
        if piece.finish_reason == "refusal":
            self.text.clear()
        self.text.append(piece.text)
        self.logprobs += piece.logprobs
        self.tokens += piece.tokens
        for fragment in piece.tool_calls:
            _merge(self.calls, fragment)
        self.finish_reason = piece.finish_reason or self.finish_reason

    def sample(self) -> Sample:
        if self.whole is not None:
            return self.whole
        plain = sample("".join(self.text), self.finish_reason or "", self.logprobs)
        calls = tuple(self.calls[place] for place in sorted(self.calls))
        return replace(plain, tool_calls=calls, tokens=tuple(self.tokens))


class Collector:
    """Puts the pieces of a completion together again."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._samples: dict[int, _Gathered] = {}

    def add(self, piece: Delta) -> None:
        """The next piece."""
        self.tally.add(piece)
        if piece.text or piece.finish_reason or piece.tool_calls or piece.logprobs or piece.tokens:
            self._samples.setdefault(piece.index, _Gathered()).add(piece)

    def logprobs(self, index: int = 0) -> Sequence[float]:
        """Of the tokens of one sample so far, where known."""
        found = self._samples.get(index)
        return [] if found is None else found.logprobs

    def finish_reason(self, index: int = 0) -> str | None:
        """Of one sample; None while it goes on."""
        found = self._samples.get(index)
        return None if found is None else found.finish_reason

    def completion(self, latency: float = 0.0) -> Completion:
        """The whole. Raises: ServerError where a sample has no end."""
        found = self.so_far(latency)
        if not found.samples or not all(one.finish_reason for one in found.samples):
            raise ServerError("the stream ended in the middle of an answer")
        return found

    def so_far(self, latency: float = 0.0) -> Completion:
        """As much as there is; the finish reason of a sample that goes on is empty."""
        samples = tuple(self._samples[index].sample() for index in sorted(self._samples))
        return Completion(samples, self.tally.usage or Usage(), self.tally.cost, latency)


def prompt_tokens(request: GenerateRequest) -> int:
    """About how many tokens a prompt takes, where nobody counted them."""
    return prompt_bytes(request) // BYTES_PER_TOKEN


def prompt_bytes(request: GenerateRequest) -> int:
    """Bytes of the texts that a prompt is made of: messages, tools and schema."""
    size = len(orjson.dumps(request.schema)) if request.schema else 0
    if isinstance(request, ChatRequest) and (request.turns or request.tools):
        return size + len(orjson.dumps(request.turns or request.messages)) + len(orjson.dumps(request.tools))
    return size + sum(len(message.content.encode()) for message in request.messages)


def _merge(calls: dict[int, JsonObject], fragment: JsonObject) -> None:
    """Add a fragment of a tool call to the call that it belongs to: names come once, arguments bit by bit."""
    place = fragment.get("index")
    place = place if isinstance(place, int) else len(calls)
    call = calls.setdefault(place, {})
    for name, value in fragment.items():
        if name == "function" and isinstance(value, dict):
            said = cast(JsonObject, call.setdefault("function", {}))
            for part, text in value.items():
                said[part] = _joined(said.get(part), text) if part == "arguments" else said.get(part) or text
        elif name != "index" and (value is not None or name not in call):
            call[name] = call.get(name) or value


def _joined(before: Json, text: Json) -> Json:
    return before + text if isinstance(before, str) and isinstance(text, str) else before or text
