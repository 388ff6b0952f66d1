"""The chunks of a streamed chat completion, read as pieces of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from curator.engines.chat import PATH, ChatBody, ChatChoice, ChatMessage
from curator.engines.matching import TokenChance
from curator.engines.sse import Event
from curator.engines.transport import DONE, Transport
from curator.engines.wire import SHAPE_ERRORS, unreadable, usage_of
from curator.errors import ServerError
from curator.types import ChatRequest, Delta, GenerateRequest, Json, JsonObject, Usage


def shown_tokens(tokens: Sequence[TokenChance], request: GenerateRequest) -> tuple[JsonObject, ...]:
    """The tokens with their log-probabilities, where the request asked to see them."""
    asked = isinstance(request, ChatRequest) and request.logprobs is not None
    return tuple(cast(Sequence[JsonObject], tokens)) if asked else ()


class ChunkReader:
    """Reads one stream: that of the samples of `request` from number `first` on, where what came before took `before`.
    `usage` is that of all so far."""

    def __init__(self, transport: Transport, request: GenerateRequest, first: int, before: Usage) -> None:
        self._transport = transport
        self._request = request
        self._first = first
        self._before = before
        self._wanted = request.n - first
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self._refusals: dict[int, str] = {}
        self._done = False
        self.usage = before + Usage()

    def read(self, event: Event) -> list[Delta]:
        """The pieces of one event.

        Raises: the error that the server reports in it; ServerError for what is no JSON; InvalidOutputError.
        """
        if event.data == DONE:
            self._done = True
            return []
        body = self._transport.parsed(event.data, PATH)
        if event.name == "error" or (isinstance(body, dict) and body.get("error")):
            raise self._transport.reported(_status(body), event.data, PATH)
        whole = event.name == "whole"
        self._done = self._done or whole
        try:
            return self._pieces(cast(ChatBody, body), whole)
        except SHAPE_ERRORS as error:
            raise unreadable("chat completion's stream", body, error) from None

    def end(self) -> int:
        """How many samples there were. Raises: ServerError where one has no end."""
        missing = self._seen - self._finished
        if missing or not self._finished or (not self._done and len(self._finished) < self._wanted):
            raise ServerError(f"{self._transport.base}{PATH} ended the stream in the middle of an answer")
        return len(self._finished)

    def _pieces(self, body: ChatBody, whole: bool) -> list[Delta]:
        told = body.get("usage")
        if told:
            self.usage = self._before + usage_of(told)
        pieces = []
        for choice in body["choices"]:
            said = choice["message"] if whole else choice.get("delta") or {}
            piece = self._piece(choice, said, "stop" if whole else None)
            if piece is not None:
                pieces.append(piece)
        return pieces

    def _piece(self, choice: ChatChoice, said: ChatMessage, end: str | None) -> Delta | None:
        """What one choice of a chunk adds; None where that is nothing, or a sample that nobody asked for."""
        index = choice.get("index", 0)
        if index >= self._wanted:
            return None
        text, finish = said.get("content") or "", choice.get("finish_reason") or end
        if not isinstance(text, str) or not isinstance(index, int):
            raise TypeError(f"content {text!r} of sample {index!r}")
        if refusal := said.get("refusal"):
            self._refusals[index] = self._refusals.get(index, "") + refusal
        calls = tuple(said.get("tool_calls") or ())
        if index in self._finished:
            if text or calls:
                raise ValueError(f"sample {index} goes on after its end")
            return None
        if finish:
            self._finished.add(index)
            if declined := self._refusals.get(index):
                text, finish = declined, "refusal"
        logprobs = choice.get("logprobs")
        tokens = (logprobs.get("content") or ()) if logprobs else ()
        self._seen.add(index)
        if not (text or calls or tokens or finish):
            return None
        chances = tuple(float(token["logprob"]) for token in tokens)
        usage = self.usage if self.usage.input_tokens > self._before.input_tokens else None
        return Delta(self._first + index, text, chances, calls, shown_tokens(tokens, self._request), finish, usage)


def _status(body: Json) -> int:
    """The HTTP status that an error event stands for."""
    error = body.get("error") if isinstance(body, dict) else None
    found = error.get("code") or error.get("status") if isinstance(error, dict) else None
    try:
        code = int(found) if isinstance(found, int | str) else 500
    except ValueError:
        return 500
    return code if 400 <= code < 600 else 500
