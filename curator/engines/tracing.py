"""One span and two histogram records per call of a model; next to nothing where nobody looks."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Final

import orjson
from yarl import URL

from curator import telemetry
from curator.engines.base import Engine
from curator.engines.pieces import Collector, Tally, streamed
from curator.engines.wrapper import Request, Result, WrapperEngine
from curator.telemetry import Attribute, Span
from curator.types import Completion, DecideRequest, Decisions, Delta, GenerateRequest, Price, Sample, Usage

PROVIDERS: Final = {"http": "openai"}
"""`gen_ai.provider.name` per provider of ours: the conventions say `openai` for all that speaks its API."""


class TracingEngine(WrapperEngine):
    """`chat {model}` spans, CLIENT over HTTP and INTERNAL in process, and the GenAI metrics.

    `content` puts the texts themselves into the spans; off by default, as they may be private. `price`
    tells the currency of costs.
    """

    def __init__(self, inner: Engine, *, content: bool = False, price: Price | None = None) -> None:
        super().__init__(inner)
        self._content = content
        self._price = price
        self._common, self._client = _common(inner)
        self._name = f"chat {inner.identity.model}"

    async def around(self, call: Callable[[Request], Awaitable[Result]], request: Request) -> Result:
        if not telemetry.recording():
            return await call(request)
        start = time.perf_counter()
        tokens: dict[str, int] = {}
        attributes = self._common
        with telemetry.span(self._name, {**self._common, **_asked(request)}, client=self._client) as current:
            try:
                result = await call(request)
                tokens = {"input": result.usage.input_tokens, "output": result.usage.output_tokens}
                if current.is_recording():
                    self._describe(current, request, result)
                return result
            except BaseException as error:
                attributes = {**self._common, telemetry.ERROR_TYPE: type(error).__name__}
                raise
            finally:
                telemetry.record_call(time.perf_counter() - start, tokens, attributes)

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """The span is open until the stream ends or is closed, with the time to the first piece."""
        if not telemetry.recording():
            async with aclosing(streamed(self.inner, request)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        asked = {**self._common, **_asked(request), telemetry.REQUEST_STREAM: True}
        watch = _Watch(self._common, self._content)
        with telemetry.held_span(self._name, asked, client=self._client) as current:
            try:
                async with aclosing(streamed(self.inner, request)) as pieces:
                    with telemetry.active(current):  # the request goes out now, and takes the span along
                        found = await anext(pieces, None)
                    while found is not None:
                        watch.see(found)
                        yield found
                        found = await anext(pieces, None)
            except BaseException as error:
                watch.fail(error)
                raise
            finally:
                self._tell(current, request, watch)

    def _tell(self, current: Span, request: GenerateRequest, watch: _Watch) -> None:
        watch.record()
        if current.is_recording() and watch.first is not None:
            current.set_attribute(telemetry.FIRST_CHUNK, watch.first)
            self._describe(current, request, watch.seen())

    def _describe(
        self, current: Span, request: DecideRequest | GenerateRequest, result: Decisions | Completion
    ) -> None:
        found = _answered(result)
        if result.cost is not None:
            found[telemetry.COST_AMOUNT] = result.cost
            if self._price:
                found |= {telemetry.COST_CURRENCY: self._price.currency, telemetry.COST_SOURCE: self._price.source}
        if self._content:
            found |= _content(request, result)
        current.set_attributes(found)


class _Watch:
    """What a stream shows from the outside; its texts only where `content` is wanted."""

    def __init__(self, common: Mapping[str, Attribute], content: bool) -> None:
        self._common = common
        self._start = time.perf_counter()
        self._collector = Collector() if content else None
        self._ends: dict[int, str] = {}
        self._failure: dict[str, Attribute] = {}
        self.tally = Tally()
        self.first: float | None = None

    def see(self, piece: Delta) -> None:
        if self.first is None:
            self.first = time.perf_counter() - self._start
        self.tally.add(piece)
        if piece.finish_reason:
            self._ends[piece.index] = piece.finish_reason
        if self._collector is not None:
            self._collector.add(piece)

    def fail(self, error: BaseException) -> None:
        name = telemetry.ABORTED if isinstance(error, GeneratorExit) else type(error).__name__
        self._failure = {telemetry.ERROR_TYPE: name}

    def record(self) -> None:
        """Into the metrics. Tokens only where the engine told them."""
        usage = self.tally.usage
        tokens = {"input": usage.input_tokens, "output": usage.output_tokens} if usage else {}
        telemetry.record_call(time.perf_counter() - self._start, tokens, {**self._common, **self._failure})
        if self.first is not None:
            telemetry.record_first_chunk(self.first, self._common)

    def seen(self) -> Completion:
        """As far as it came."""
        if self._collector is not None:
            return self._collector.so_far()
        ends = tuple(Sample("", end) for _, end in sorted(self._ends.items()))
        return Completion(ends, self.tally.usage or Usage(), self.tally.cost)


def _common(inner: Engine) -> tuple[dict[str, Attribute], bool]:
    """The attributes of every call, and whether calls leave the process."""
    identity = inner.identity
    found: dict[str, Attribute] = {
        telemetry.OPERATION: "chat",
        telemetry.PROVIDER: PROVIDERS.get(identity.provider, identity.provider),
        telemetry.REQUEST_MODEL: identity.model,
    }
    if not identity.endpoint.startswith(("http://", "https://")):
        return found, False
    url = URL(identity.endpoint)
    return {**found, telemetry.SERVER_ADDRESS: url.host or "", telemetry.SERVER_PORT: url.port or 0}, True


def _asked(request: DecideRequest | GenerateRequest) -> dict[str, Attribute]:
    if isinstance(request, DecideRequest):
        return {telemetry.QUESTIONS: len(request.questions)}
    sampling = request.sampling
    found: dict[str, Attribute] = {
        telemetry.REQUEST_TEMPERATURE: sampling.temperature,
        telemetry.REQUEST_TOP_P: sampling.top_p,
        telemetry.REQUEST_MAX_TOKENS: sampling.max_tokens,
    }
    if sampling.seed is not None:
        found[telemetry.REQUEST_SEED] = sampling.seed
    if request.n > 1:
        found[telemetry.REQUEST_CHOICES] = request.n
    return found


def _answered(result: Decisions | Completion) -> dict[str, Attribute]:
    found: dict[str, Attribute] = {
        telemetry.INPUT_TOKENS: result.usage.input_tokens,
        telemetry.OUTPUT_TOKENS: result.usage.output_tokens,
    }
    if isinstance(result, Completion):
        found[telemetry.RESPONSE_FINISH] = tuple(sample.finish_reason for sample in result.samples)
    else:
        found[telemetry.READOUT] = tuple("refusal" if d is None else d.readout for d in result.answers)
    return found


def _content(request: DecideRequest | GenerateRequest, result: Decisions | Completion) -> dict[str, Attribute]:
    """The texts, in the conventions' JSON form."""
    if isinstance(request, DecideRequest):
        said = [("user", request.state), *(("user", q.instructions) for q in request.questions)]
    else:
        said = [(message.role, message.content) for message in request.messages]
    found: dict[str, Attribute] = {telemetry.INPUT_MESSAGES: _messages(said)}
    found[telemetry.OUTPUT_MESSAGES] = _messages([("assistant", text) for text in _texts(request, result)])
    return found


def _texts(request: DecideRequest | GenerateRequest, result: Decisions | Completion) -> list[str]:
    """What the model said; of decisions the likeliest option per question, null where it declined, as JSON."""
    if isinstance(result, Completion):
        return [sample.text for sample in result.samples]
    questions = request.questions if isinstance(request, DecideRequest) else ()
    pairs = zip(questions, result.answers, strict=True)
    chosen = {asked.name: None if said is None else asked.labels[said.top] for asked, said in pairs}
    return [orjson.dumps(chosen).decode()]


def _messages(said: list[tuple[str, str]]) -> str:
    parts = [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in said]
    return orjson.dumps(parts).decode()
