"""One span and two histogram records per call of a model; next to nothing where nobody looks."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final

import orjson
from yarl import URL

from curator import telemetry
from curator.engines.base import Engine
from curator.engines.wrapper import Request, Result, WrapperEngine
from curator.telemetry import Attribute, Span
from curator.types import Completion, DecideRequest, Decisions, GenerateRequest, Price

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
        failure: dict[str, Attribute] = {}
        with telemetry.span(self._name, {**self._common, **_asked(request)}, client=self._client) as current:
            try:
                result = await call(request)
                tokens = {"input": result.usage.input_tokens, "output": result.usage.output_tokens}
                if current.is_recording():
                    self._describe(current, request, result)
                return result
            except BaseException as error:
                failure = {telemetry.ERROR_TYPE: type(error).__name__}
                raise
            finally:
                telemetry.record_call(time.perf_counter() - start, tokens, {**self._common, **failure})

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
    if isinstance(result, Completion):
        found[telemetry.OUTPUT_MESSAGES] = _messages([("assistant", sample.text) for sample in result.samples])
    return found


def _messages(said: list[tuple[str, str]]) -> str:
    parts = [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in said]
    return orjson.dumps(parts).decode()
