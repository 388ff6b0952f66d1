"""`generate` over `POST /chat/completions`."""

from __future__ import annotations

from typing import cast

import orjson

from curator.engines.chat import (
    PATH,
    ChatBody,
    ChatChoice,
    chat_messages,
    is_unknown_max_tokens,
    refused,
    response_format,
)
from curator.engines.sampled import sample
from curator.engines.wire import SHAPE_ERRORS, Server, unreadable, usage_of
from curator.errors import RefusalError, RequestRejectedError
from curator.types import GenerateRequest, JsonObject, Sample, Usage


class Generator:
    """Samples texts from one model behind one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._logprobs = True

    async def generate(self, request: GenerateRequest) -> tuple[tuple[Sample, ...], Usage]:
        """`request.n` samples. Servers that give fewer than were asked for (some ignore `n`) are asked
        again for the rest.

        Raises: RefusalError if every sample is a refusal; EngineError's kin.
        """
        samples: list[Sample] = []
        usage = Usage(calls=0)
        while len(samples) < request.n:
            body = await self._post(request, len(samples))
            try:
                found = [_sample(choice) for choice in body["choices"]]
                samples += found[: request.n - len(samples)]
                usage += usage_of(body.get("usage"))
                found[0]
            except SHAPE_ERRORS as error:
                raise unreadable("chat completion", body, error) from None
        if all(sample.finish_reason == "refusal" for sample in samples):
            raise RefusalError(f"the model declined to answer: {samples[0].text[:200]!r}")
        return tuple(samples), usage

    async def _post(self, request: GenerateRequest, done: int) -> ChatBody:
        """Send; learn from a complaint about `max_tokens` or `logprobs` and send again."""
        for _ in range(2):
            try:
                return cast(ChatBody, await self._server.post(PATH, orjson.dumps(self.body(request, done))))
            except RequestRejectedError as error:
                if is_unknown_max_tokens(self._server, error):
                    continue
                if not self._logprobs or "logprob" not in error.message:
                    raise
                self._logprobs = False
        return cast(ChatBody, await self._server.post(PATH, orjson.dumps(self.body(request, done))))

    def body(self, request: GenerateRequest, done: int = 0) -> JsonObject:
        """The request's JSON, when `done` samples are already there: a fixed seed moves on with them."""
        sampling = request.sampling
        body: JsonObject = {
            "model": self._server.model,
            "messages": chat_messages(request.messages),
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
            body["response_format"] = response_format(request.schema)
        return {**body, **self._server.extra}


def _sample(choice: ChatChoice) -> Sample:
    message = choice["message"]
    if refused(choice):
        return Sample(message.get("refusal") or message.get("content") or "", "refusal")
    logprobs = choice.get("logprobs")
    tokens = (logprobs.get("content") or ()) if logprobs else ()
    found = [token["logprob"] for token in tokens]
    return sample(message.get("content") or "", choice.get("finish_reason") or "stop", found)
