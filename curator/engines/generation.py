"""`generate` and `stream` over `POST /chat/completions`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Final, cast

import orjson

from curator.engines.chat import PATH, ChatBody, ChatChoice, chat_messages, refused, response_format
from curator.engines.chunks import ChunkReader, shown_tokens
from curator.engines.sampled import sample
from curator.engines.sse import Event
from curator.engines.wire import SHAPE_ERRORS, Server, unreadable, usage_of
from curator.errors import RefusalError, RequestRejectedError
from curator.types import ChatRequest, Delta, GenerateRequest, Json, JsonObject, Sample, Usage

TELLS: Final[tuple[JsonObject, ...]] = (
    {"include_usage": True, "continuous_usage_stats": True},
    {"include_usage": True},
    {},
)
"""`stream_options`, the best first: vLLM tells the usage with every piece, so that a stream that is broken off can be
billed exactly; others tell it at the end, or never."""


class Generator:
    """Samples texts from one model behind one server, and remembers which fields that server does not take."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._logprobs = True
        self._tells = 0

    async def generate(self, request: GenerateRequest) -> tuple[tuple[Sample, ...], Usage]:
        """`request.n` samples. Servers that give fewer than were asked for (some ignore `n`) are asked
        again for the rest.

        Raises: RefusalError if every sample is a refusal, but for a `ChatRequest`, whose client is to see what the
        model said; EngineError's kin.
        """
        samples: list[Sample] = []
        usage = Usage(calls=0)
        while len(samples) < request.n:
            body = await self._post(request, len(samples))
            try:
                found = [_sample(choice, request) for choice in body["choices"]]
                samples += found[: request.n - len(samples)]
                usage += usage_of(body.get("usage"))
                found[0]
            except SHAPE_ERRORS as error:
                raise unreadable("chat completion", body, error) from None
        if not isinstance(request, ChatRequest) and all(one.finish_reason == "refusal" for one in samples):
            raise RefusalError(f"the model declined to answer: {samples[0].text[:200]!r}")
        return tuple(samples), usage

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """The pieces of `request.n` samples; a server that ignores `n` is asked again for the rest. A refusal is an
        answer here, with that finish reason.

        Raises: ServerError for a stream that ends before all samples do; EngineError's kin.
        """
        done, usage = 0, Usage(calls=0)
        while done < request.n:
            reader = ChunkReader(self._server.transport, request, done, usage)
            async with aclosing(self._events(request, done)) as events:
                async for event in events:
                    for piece in reader.read(event):
                        yield piece
            done += reader.end()
            usage = reader.usage
        yield Delta(usage=usage)

    async def _post(self, request: GenerateRequest, done: int) -> ChatBody:
        """Send; learn from a complaint about a field and send again."""
        while True:
            body = self.body(request, done)
            try:
                return cast(ChatBody, await self._server.post(PATH, orjson.dumps(body)))
            except RequestRejectedError as error:
                if not self._learns(request, body, error):
                    raise

    async def _events(self, request: GenerateRequest, done: int) -> AsyncGenerator[Event, None]:
        while True:
            body = {**self.body(request, done), "stream": True}
            if self._tells < len(TELLS) - 1:
                body["stream_options"] = TELLS[self._tells]
            begun = False
            try:
                async with aclosing(self._server.events(PATH, orjson.dumps(body))) as events:
                    async for event in events:
                        begun = True
                        yield event
                return
            except RequestRejectedError as error:
                if begun or not self._learns(request, body, error):
                    raise

    def _learns(self, request: GenerateRequest, body: JsonObject, error: RequestRejectedError) -> bool:
        """Whether the next body will be without what this one was rejected for. A field that the caller asked for is
        never left out."""
        asked = isinstance(request, ChatRequest) and request.logprobs is not None
        if "max_tokens" in body and "max_completion_tokens" in error.message:
            self._server.max_tokens = "max_completion_tokens"
        elif "logprobs" in body and not asked and "logprob" in error.message:
            self._logprobs = False
        elif "stream_options" in body and ("stream_options" in error.message or "usage" in error.message):
            self._tells = max(self._tells, 1 + TELLS.index(cast(JsonObject, body["stream_options"])))
        else:
            return False
        return True

    def body(self, request: GenerateRequest, done: int = 0) -> JsonObject:
        """The request's JSON, when `done` samples are already there: a fixed seed moves on with them."""
        sampling = request.sampling
        chat = request if isinstance(request, ChatRequest) else None
        turns: Json = [*chat.turns] if chat and chat.turns else chat_messages(request.messages)
        body: JsonObject = {
            **(chat.extra if chat else {}),
            "model": self._server.model,
            "messages": turns,
            self._server.max_tokens: sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if request.n - done > 1:
            body["n"] = request.n - done
        if sampling.seed is not None:
            body["seed"] = sampling.seed + done
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if self._logprobs:
            body["logprobs"] = True
        if request.schema is not None:
            body.setdefault("response_format", response_format(request.schema))
        return {**body, **(_asked(chat) if chat else {}), **self._server.extra}


def _asked(chat: ChatRequest) -> JsonObject:
    """The fields that only a chat request has."""
    body: JsonObject = {}
    if chat.tools:
        body["tools"] = list(chat.tools)
    if chat.tool_choice is not None:
        body["tool_choice"] = chat.tool_choice
    if chat.logprobs is not None:
        body["logprobs"] = True
        if chat.logprobs:
            body["top_logprobs"] = chat.logprobs
    return body


def _sample(choice: ChatChoice, request: GenerateRequest) -> Sample:
    message, chat = choice["message"], isinstance(request, ChatRequest)
    if message.get("refusal") or (refused(choice) and not chat):
        return Sample(message.get("refusal") or message.get("content") or "", "refusal")
    logprobs = choice.get("logprobs")
    tokens = (logprobs.get("content") or ()) if logprobs else ()
    found = [token["logprob"] for token in tokens]
    plain = sample(message.get("content") or "", choice.get("finish_reason") or "stop", found)
    if not chat:
        return plain
    return replace(plain, tool_calls=tuple(message.get("tool_calls") or ()), tokens=shown_tokens(tokens, request))
