"""What the wire dialects share: request bodies with the state cut out, and JSON shapes read safely."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypedDict, TypeVar

import orjson

from curator.engines.base import Preview
from curator.engines.transport import Transport
from curator.errors import InvalidOutputError, RequestRejectedError
from curator.types import DecideRequest, Decision, Json, JsonObject, Readout, Usage

MARK: Final = "\ue000goldless.state\ue000"
"""Stands for the state while a body is prepared (private-use characters, in no sane template)."""

LEAST: Final = 1e-6
"""Probability of an option to which a server gives 0: they round, and a logarithm must be finite."""

Made = TypeVar("Made")


class Frame:
    """A JSON body with the state cut out: the constant part is serialised once, a row costs one JSON
    string and a join."""

    def __init__(self, body: JsonObject) -> None:
        self.parts = orjson.dumps(body).split(MARK.encode())

    def fill(self, state: str) -> bytes:
        """The body for `state`. Raises: RequestRejectedError for a text that is no valid Unicode."""
        try:
            return orjson.dumps(state)[1:-1].join(self.parts)
        except TypeError:
            raise RequestRejectedError(
                "the text holds half of a surrogate pair", hint="decode the source with the right encoding"
            ) from None


class Memo(Generic[Made]):
    """What is prepared once per (questions, template, demonstrations) and used for every row.

    Looked up by identity first, as the rows of a run share these objects; then by value. Entries keep
    what they are keyed by alive, so an identity is never reused while it is known.
    """

    def __init__(self, make: Callable[[DecideRequest], Made], size: int = 64) -> None:
        self._make = make
        self._size = size
        self._by_id: dict[tuple[int, int, int], tuple[DecideRequest, Made]] = {}
        self._by_value: dict[Hashable, Made] = {}

    def __call__(self, request: DecideRequest) -> Made:
        key = (id(request.questions), id(request.template), id(request.demonstrations))
        if (found := self._by_id.get(key)) is not None:
            return found[1]
        shown = tuple((d.state, tuple(sorted(d.answers.items()))) for d in request.demonstrations)
        value = (request.questions, request.template, shown)
        self._trim()
        if (made := self._by_value.get(value)) is None:
            made = self._by_value[value] = self._make(request)
        blank = DecideRequest("", request.questions, request.template, request.demonstrations)
        self._by_id[key] = (blank, made)
        return made

    def _trim(self) -> None:
        if len(self._by_value) >= self._size:
            self._by_value.clear()
        if len(self._by_id) >= self._size:
            self._by_id.clear()


@dataclass(slots=True)
class Server:
    """One model behind one server, and what was learnt about it."""

    transport: Transport
    model: str
    max_tokens: str = "max_tokens"
    logprobs: bool = True
    top_logprobs: int = 20
    extra: JsonObject = field(default_factory=dict)

    async def post(self, path: str, body: bytes) -> Json:
        """See `Transport.post`."""
        return await self.transport.post(path, body)


@dataclass(slots=True)
class Answered:
    """The decisions of one request, None where refused, and the usage."""

    answers: tuple[Decision | None, ...]
    usage: Usage


class Dialect(Protocol):
    """One way of asking a server for decisions."""

    name: str

    async def probe(self) -> Usage | None:
        """Whether this server speaks the dialect: the tokens that asking took, or None for no.

        Raises: what says nothing about the dialect (credentials, overload, no connection).
        """
        ...

    def fits(self, request: DecideRequest) -> bool:
        """Whether the dialect can express the request."""
        ...

    async def decide(self, request: DecideRequest) -> Answered:
        """Ask. Raises: EngineError's kin."""
        ...

    async def preview(self, request: DecideRequest) -> tuple[Preview, ...]:
        """What would be sent, per question."""
        ...


class UsageBody(TypedDict, total=False):
    """`usage` of chat completions (prompt_*, completion_*) and of decisions (input_*, output_*)."""

    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: dict[str, int] | None
    input_tokens: int
    output_tokens: int
    input_tokens_details: dict[str, int] | None


def usage_of(body: UsageBody | None) -> Usage:
    """Tokens of one answer; 0 where the server does not tell."""
    if not body:
        return Usage()
    details = body.get("prompt_tokens_details") or body.get("input_tokens_details")
    return Usage(
        body.get("prompt_tokens") or body.get("input_tokens") or 0,
        body.get("completion_tokens") or body.get("output_tokens") or 0,
        (details.get("cached_tokens") or 0) if details else 0,
    )


def from_probabilities(values: list[float], readout: Readout, label_mass: float | None = None) -> Decision:
    """A decision from a server's probabilities, which it may have rounded.

    Raises: InvalidOutputError for what cannot be a distribution.
    """
    if not all(isinstance(p, int | float) and -1e-6 <= p <= 1 + 1e-6 for p in values) or sum(values) < 0.5:
        raise InvalidOutputError(f"the server sent {values} as probabilities")
    shift = math.log(max(label_mass, LEAST)) if label_mass is not None else 0.0
    return Decision(tuple(math.log(max(p, LEAST)) + shift for p in values), label_mass, readout)


def unreadable(what: str, body: object, error: Exception) -> InvalidOutputError:
    """The error for an answer that is JSON but not of the promised shape."""
    text = orjson.dumps(body, default=str)[:300].decode("utf-8", "replace")
    return InvalidOutputError(f"cannot read the server's {what} ({type(error).__name__}: {error}): {text}")


SHAPE_ERRORS: Final = (KeyError, IndexError, TypeError, ValueError, AttributeError)
"""What reading a wrong shape raises."""
