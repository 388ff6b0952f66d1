"""One replica of the soak's upstreams: seeded faults, answers that say whom they are for, and books of its own.

    python -m benchmarks.mock_soak_upstream --tier small --first 1 --seed 7

Every call is billed a number of input tokens that no other call of the run is billed: its serial number, from `--first`
on. So a bill can be compared call by call. `--running` tells the usage with every piece of a stream, as vLLM does, else
it stands at its end. `GET /books` lists the calls. Prints its URL.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, cast

import orjson
import uvloop
from aiohttp import web

from benchmarks import _soak_words as words
from curator.types import JsonObject

FAULTS: Final = {
    "rate_limit": 0.005,
    "rate_limit_after": 0.005,
    "server_error": 0.01,
    "hang": 0.002,
    "drop": 0.005,
    "truncated": 0.01,
    "ended": 0.005,
    "invalid_json": 0.005,
}
"""Share of each. `truncated` breaks the connection within an answer, `ended` ends it early as if it were whole."""

OUTAGE: Final = 3.0
"""Seconds for which all calls fail, once in every `--outage` seconds."""


@dataclass(slots=True)
class Call:
    """What a call was billed. `told` says that all of the answer, with its usage, was sent."""

    serial: int
    token: str
    stream: bool
    fault: str
    output: int = 0
    told: bool = False
    limited: bool = False
    """Answered 429: nothing is billed."""


class Upstream:
    """Answers `/v1/decisions` and `/v1/chat/completions`, and keeps books."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.tier: str = given.tier
        self.calls: list[Call] = []
        self._given = given
        self._random = random.Random(given.seed)
        self._began = time.monotonic()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.read()
        if request.path == "/books":
            return web.Response(body=orjson.dumps([asdict(call) for call in self.calls]))
        said = orjson.loads(raw)
        chat = request.path.endswith("/chat/completions")
        hard, slow, token = words.read(said["messages"][-1]["content"] if chat else said["input"])
        call = Call(self._given.first + len(self.calls), token, bool(said.get("stream")), self._fault())
        call.limited = call.fault.startswith("rate_limit")
        self.calls.append(call)
        await asyncio.sleep(0.5 if slow else self._random.uniform(0.5, 1.5) * self._given.latency)
        if call.limited:
            after = {"Retry-After": "1"} if call.fault == "rate_limit_after" else None
            return _json({"error": {"message": "slow down"}}, 429, after)
        if call.fault == "server_error":
            return _json({"error": {"message": "out of luck"}}, 500)
        if call.fault == "hang":
            await asyncio.sleep(3600)
        if call.fault == "drop":
            return _abort(request)
        if call.stream:
            return await self._stream(request, call, hard)
        return await self._whole(request, call, self._chat(call, hard) if chat else self._decision(call, hard))

    def _fault(self) -> str:
        passed = time.monotonic() - self._began
        if self._given.outage and passed % self._given.outage > self._given.outage - OUTAGE:
            return "server_error"
        drawn = self._random.random()
        for name, share in FAULTS.items():
            drawn -= share * self._given.faults
            if drawn < 0:
                return name
        return ""

    async def _whole(self, request: web.BaseRequest, call: Call, body: JsonObject) -> web.StreamResponse:
        raw = orjson.dumps(body)
        if call.fault in ("truncated", "ended"):
            headers = {"Content-Type": "application/json"}
            if call.fault == "truncated":
                headers["Content-Length"] = str(len(raw))
            response = web.StreamResponse(headers=headers)
            await response.prepare(request)
            await response.write(raw[: len(raw) // 2])
            return _abort(request) if call.fault == "truncated" else response
        call.told = not call.fault
        return web.Response(body=raw[:-3] if call.fault else raw, content_type="application/json")

    def _decision(self, call: Call, hard: bool) -> JsonObject:
        found = words.distribution(self.tier, call.token, hard=hard)
        call.output = 1
        answer = {
            "type": "choice",
            "name": "mood",
            "choice": max(found, key=found.__getitem__),
            "confidence": max(found.values()),
            "probabilities": [{"value": name, "probability": found[name]} for name in ("good", "bad")],
        }
        usage = {"input_tokens": call.serial, "output_tokens": 1, "total_tokens": call.serial + 1}
        return cast(JsonObject, {"answers": [answer], "model": self.tier, "usage": usage})

    def _chat(self, call: Call, hard: bool) -> JsonObject:
        said = words.pieces(self.tier, call.token)
        call.output = len(said)
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": "".join(said)},
            "logprobs": {"content": [self._token(hard)] * len(said)},
            "finish_reason": "stop",
        }
        return {**self._head(), "object": "chat.completion", "choices": [choice], "usage": self._usage(call)}

    def _token(self, hard: bool) -> JsonObject:
        return {"token": "t", "logprob": -1.0 if hard and self.tier == "small" else -0.01, "top_logprobs": []}

    def _head(self) -> JsonObject:
        return {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": self.tier}

    def _usage(self, call: Call) -> JsonObject:
        return {
            "prompt_tokens": call.serial,
            "completion_tokens": call.output,
            "total_tokens": call.serial + call.output,
        }

    async def _stream(self, request: web.BaseRequest, call: Call, hard: bool) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        said = words.pieces(self.tier, call.token)
        last = self._random.randrange(1, len(said)) if call.fault else len(said)
        for number, piece in enumerate(said[:last]):
            choice = {"index": 0, "delta": {"content": piece}, "logprobs": {"content": [self._token(hard)]}}
            call.output += 1
            told = {"usage": self._usage(call)} if self._given.running else {}
            await response.write(_event({**self._head(), "choices": [choice], **told}))
            if number % 5 == 0:
                await asyncio.sleep(self._given.latency / 10)
        if call.fault == "truncated":
            return _abort(request)
        if call.fault == "invalid_json":
            await response.write(b'data: {"choices": [{"ind\n\n')
        if call.fault:
            return response
        await response.write(_event({**self._head(), "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        await response.write(_event({**self._head(), "choices": [], "usage": self._usage(call)}) + b"data: [DONE]\n\n")
        call.told = True
        return response


def _event(body: JsonObject) -> bytes:
    return b"data: " + orjson.dumps(body) + b"\n\n"


def _json(body: JsonObject, status: int, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type="application/json")


def _abort(request: web.BaseRequest) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def _silent() -> logging.Logger:
    found = logging.getLogger("mock_soak_upstream")
    found.disabled = True
    return found


async def _serve(given: argparse.Namespace) -> None:
    # Without a log: the gateway hangs up often, which is no error.
    server = web.Server(Upstream(given).answer, handler_cancellation=True, logger=_silent())
    runner = web.ServerRunner(server, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.Event().wait()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", default="small", choices=("small", "strong"))
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--latency", type=float, default=0.02)
    parser.add_argument("--faults", type=float, default=1.0, help="times the usual shares")
    parser.add_argument("--outage", type=float, default=0.0, help="seconds from one outage to the next; 0: none")
    parser.add_argument("--running", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(given))


if __name__ == "__main__":
    main()
