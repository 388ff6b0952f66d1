"""The upstream of the gateway's benchmark: answers at once, or after a fixed time, with as little work as possible.

    python -m benchmarks.mock_gateway_upstream --latency 0.05

The model `small` answers decisions surely unless the state begins with "hard"; `strong` always does. `/sink/...` takes
spans and metrics, and forgets them; `/v1/calls` says how many chats there were. With `--proxy URL` it is a bare proxy
of another one, the least that a gateway in Python can cost. Prints its URL.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
import orjson
import uvloop
from aiohttp import web

SESSION: Final = web.AppKey("session", aiohttp.ClientSession)

USAGE = {
    "input_tokens": 30,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 1,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 31,
}


def _body(top: float) -> bytes:
    chances = [{"value": "good", "probability": top}, {"value": "bad", "probability": 1 - top}]
    answer = {"type": "choice", "name": "mood", "choice": "good", "confidence": top, "probabilities": chances}
    return orjson.dumps({"answers": [answer], "model": "mock", "usage": USAGE})


SURE, UNSURE = _body(0.97), _body(0.55)
CHUNKS = 20


def _chunk(delta: object, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    head = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "mock", "choices": [choice]}
    return b"data: " + orjson.dumps(head) + b"\n\n"


PIECES = [_chunk({"role": "assistant", "content": "word "})] * CHUNKS + [_chunk({}, "stop")]
LAST = (
    b'data: {"id":"x","object":"chat.completion.chunk","created":0,"model":"mock","choices":[],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":20,"total_tokens":29}}\n\ndata: [DONE]\n\n'
)
CHAT = orjson.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "mock",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "word"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
    }
)


def app(latency: float) -> web.Application:
    """`/v1/decisions` and `/v1/chat/completions`, streamed or not."""

    async def decide(request: web.Request) -> web.Response:
        said = orjson.loads(await request.read())
        if latency:
            await asyncio.sleep(latency)
        unsure = said["model"] == "small" and said["input"].startswith("hard")
        return web.Response(body=UNSURE if unsure else SURE, content_type="application/json")

    chats = [0]

    async def calls(request: web.Request) -> web.Response:
        return web.Response(text=str(chats[0]))

    async def chat(request: web.Request) -> web.StreamResponse:
        said = orjson.loads(await request.read())
        chats[0] += 1
        if latency:
            await asyncio.sleep(latency)
        if not said.get("stream"):
            return web.Response(body=CHAT, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in PIECES:
            await response.write(piece)
        await response.write(LAST)
        return response

    async def sink(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(content_type="application/x-protobuf")

    made = web.Application(client_max_size=2**26)
    made.router.add_post("/v1/decisions", decide)
    made.router.add_post("/v1/chat/completions", chat)
    made.router.add_get("/v1/calls", calls)
    made.router.add_post("/sink/{path:.*}", sink)
    return made


def proxy(target: str) -> web.Application:
    """Reads a body as JSON, writes it again, asks `target`, and does the same with the answer."""

    async def session(made: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as made[SESSION]:
            yield

    async def passed(request: web.Request) -> web.Response:
        body = orjson.dumps(orjson.loads(await request.read()))
        headers = {"Content-Type": "application/json"}
        address = f"{target}/{request.match_info['path']}"
        async with request.app[SESSION].post(address, data=body, headers=headers) as response:
            said = orjson.dumps(orjson.loads(await response.read()))
        return web.Response(body=said, content_type="application/json")

    made = web.Application()
    made.cleanup_ctx.append(session)
    made.router.add_post("/v1/{path:.*}", passed)
    return made


async def _serve(made: web.Application) -> None:
    runner = web.AppRunner(made, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}/v1", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--proxy", metavar="URL")
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(proxy(given.proxy) if given.proxy else app(given.latency)))


if __name__ == "__main__":
    main()
