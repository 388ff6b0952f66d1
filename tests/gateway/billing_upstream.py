"""A real server on loopback that writes down what it bills, and fails in every way after that."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import orjson
from aiohttp import web

Body = dict[str, object]

FAULTS = ("rate_limit", "rejected", "error", "wrong_shape", "half", "drop", "hang")
BILLED = ("error", "wrong_shape", "half", "drop", "hang")
"""Faults after which the tokens are counted all the same. Only `wrong_shape` tells them."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt was billed, and whether the caller was told."""

    input_tokens: int
    output_tokens: int
    told: bool
    fault: str


@dataclass
class BillingUpstream:
    """`faults` is the share of each fault; `hung` is called with the prompt of an attempt that will never be answered.
    A prompt is so many tokens as it has words; the answer is drawn with `seed`."""

    faults: float = 0.0
    seed: int = 0
    hung: Callable[[str], None] = lambda prompt: None
    attempts: list[Attempt] = field(default_factory=list)
    closed: int = 0
    """Streams that their readers closed."""

    async def __aenter__(self) -> Self:
        self._random = random.Random(self.seed)
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=1024).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    def told(self) -> tuple[int, int]:
        """Input and output tokens of all attempts whose caller was told."""
        known = [attempt for attempt in self.attempts if attempt.told]
        return sum(a.input_tokens for a in known), sum(a.output_tokens for a in known)

    @property
    def untold(self) -> int:
        """Attempts that were billed and not told."""
        return sum(attempt.fault in BILLED and not attempt.told for attempt in self.attempts)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        prompt = body["messages"][-1]["content"]
        fault = self._random.choice(FAULTS) if self._random.random() < self.faults else ""
        count = self._random.randint(1, 5)
        if fault not in ("rate_limit", "rejected"):
            told = fault in ("", "wrong_shape") and not body.get("stream")
            self.attempts.append(Attempt(len(prompt.split()), count, told, fault))
        if fault:
            return await self._fail(request, fault, prompt, self._usage(prompt, count))
        if body.get("stream"):
            return await self._stream(request, prompt, count)
        return _json(_completion("word " * count, self._usage(prompt, count)))

    async def _stream(self, request: web.BaseRequest, prompt: str, count: int) -> web.StreamResponse:
        """One piece per token, then the usage; a prompt with `slow` in it never gets so far."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for _ in range(count):
                await response.write(_event({"choices": [{"index": 0, "delta": {"content": "word "}}]}))
            if "slow" in prompt:
                await asyncio.sleep(30)
            await response.write(_event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
            await response.write(_event({"choices": [], "usage": self._usage(prompt, count)}))
            await response.write(b"data: [DONE]\n\n")
            self.attempts[-1] = Attempt(len(prompt.split()), count, True, "")
        except (ConnectionError, asyncio.CancelledError):
            self.closed += 1
            raise
        return response

    async def _fail(self, request: web.BaseRequest, fault: str, prompt: str, usage: Body) -> web.StreamResponse:
        match fault:
            case "rate_limit":
                return _json({"error": {"message": "slow down"}}, 429, {"Retry-After": "0"})
            case "rejected":
                return _json({"error": {"message": "no such thing"}}, 400)
            case "error":
                return _json({"error": {"message": "out of luck"}}, 500)
            case "wrong_shape":
                return _json({"choices": [], "usage": usage})
            case "half":
                response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
                await response.prepare(request)
                await response.write(b'{"choices": [{"ind')
            case "hang":
                self.hung(prompt)
                await asyncio.sleep(3600)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    def _usage(self, prompt: str, count: int) -> Body:
        return {"prompt_tokens": len(prompt.split()), "completion_tokens": count}


def _completion(text: str, usage: Body) -> Body:
    token = {"token": "word", "logprob": -0.1, "top_logprobs": []}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
        "logprobs": {"content": [token]},
    }
    return {"choices": [choice], "usage": usage}


def _event(body: Body) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type="application/json")
