"""The soak's clients: they ask, look at every answer, and some of them leave before it is there."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypedDict, cast

import aiohttp
import orjson

from benchmarks import _soak_words as words
from curator.types import JsonObject

Kind = Literal["decisions", "chat", "stream", "systemone"]
MIX: Final[Mapping[Kind, int]] = {"decisions": 40, "chat": 20, "stream": 25, "systemone": 15}
"""Of a hundred requests."""

PATHS: Final[Mapping[Kind, str]] = {
    "decisions": "/decisions",
    "chat": "/chat/completions",
    "stream": "/chat/completions",
    "systemone": "/systemone",
}
HARD, LEAVES = 0.3, 0.03
"""Shares of the requests that the small tier is unsure of, and whose client goes away."""

STEPS: Final = (8, 16, 32, 64, 128)
"""Requests at once, while saturation is looked for."""

PATIENCE: Final = 60.0
"""Seconds after which a request without an end is lost; the gateway's own limit is far below."""

DOCUMENTED: Final = {"rate_limit_exceeded": 429, "upstream_failed": 503, "overloaded": 503, "timeout": 504}
"""Codes of docs/gateway-api.md that faults of upstreams may lead to, and their statuses (upstream_failed: 502 too)."""

QUESTION: Final[JsonObject] = {
    "type": "choice",
    "name": "mood",
    "instructions": "Which mood?",
    "choices": [{"value": "good"}, {"value": "bad"}],
}
JUDGED: Final[JsonObject] = {
    "type": "choice",
    "instructions": "Which mood?",
    "criteria": {"good": "bright", "bad": "dark"},
}


@dataclass(slots=True)
class Sent:
    """One request and what became of it. `outcome` is right, wrong, mixed, lost, left (by its client), or error:<code>;
    `request` is the gateway's id of it, empty where its client left before it was told."""

    token: str
    kind: Kind
    hard: bool
    outcome: str = "lost"
    request: str = ""
    tier: str = ""
    route: str = ""
    seconds: float = 0.0
    detail: str = ""


class _Block(TypedDict, total=False):
    tier: str
    outcome: str
    answers: list[_Block]


def body_of(kind: Kind, text: str) -> bytes:
    """The request's body."""
    if kind == "decisions":
        return orjson.dumps({"model": "cascade", "input": text, "questions": [QUESTION]})
    if kind == "systemone":
        return orjson.dumps({"model": "cascade", "state": text, "questions": {"mood": JUDGED}})
    messages = [{"role": "user", "content": text}]
    said = {"model": "cascade", "messages": messages, "max_tokens": 32, "temperature": 0, "stream": kind == "stream"}
    return orjson.dumps(said)


class Clients:
    """Send requests to the gateway at `url`, with the API `keys` in turn; `sent` has them all."""

    def __init__(self, session: aiohttp.ClientSession, url: str, keys: Sequence[str], seed: int) -> None:
        self.sent: list[Sent] = []
        self._session = session
        self._url = url
        self._keys = keys
        self._random = random.Random(seed)

    async def ask(self, *, slow: bool = False) -> Sent:
        """One request as chance has it."""
        kind = self._random.choices(list(MIX), list(MIX.values()))[0]
        one = Sent(f"t{len(self.sent):07}", kind, self._random.random() < HARD)
        self.sent.append(one)
        leaves = None if slow or self._random.random() >= LEAVES else self._random.random()
        began = time.perf_counter()
        try:
            async with asyncio.timeout(None if leaves is None or kind == "stream" else leaves / 10):
                await self._exchange(one, words.prompt(one.token, hard=one.hard, slow=slow), leaves)
        except TimeoutError:
            one.outcome = "lost" if leaves is None else "left"
        except (aiohttp.ClientError, OSError) as error:
            one.outcome, one.detail = "lost", f"{type(error).__name__}: {error}"
        one.seconds = time.perf_counter() - began
        return one

    async def _exchange(self, one: Sent, text: str, leaves: float | None) -> None:
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {self._keys[len(self.sent) % len(self._keys)]}",
        }
        async with self._session.post(
            self._url + PATHS[one.kind], data=body_of(one.kind, text), headers=headers
        ) as response:
            one.request = response.headers.get("x-request-id", "")
            if response.status != 200 or one.kind != "stream":
                read(one, response.status, await response.read())
                return
            await read_stream(one, response, None if leaves is None else int(leaves * words.PIECES))


def read(one: Sent, status: int, raw: bytes) -> None:
    """Judge a whole answer."""
    try:
        body = orjson.loads(raw)
        if status != 200:
            one.outcome = _refusal(one, status, body)
            return
        block: _Block = body["goldless"]
        if one.kind == "chat":
            _serve(one, block)
            said = body["choices"][0]["message"]["content"]
            one.outcome = words.judge_text(said, one.tier, one.token, whole=True)
        else:
            _serve(one, block["answers"][0])
            one.outcome = _decision(one, body)
    except (ValueError, LookupError, TypeError) as error:
        one.outcome, one.detail = "lost", f"{type(error).__name__}: {raw[:300]!r}"
    if one.outcome in ("wrong", "mixed"):
        one.detail = repr(raw[:600])


def _serve(one: Sent, block: _Block) -> None:
    one.tier, one.route = block["tier"], block["outcome"]


def _decision(one: Sent, body: dict[str, object]) -> str:
    if one.kind == "systemone":
        answer = cast(dict[str, dict[str, object]], body["answers"])["mood"]
        said = cast(dict[str, float], answer["probabilities"])
    else:
        answer = cast(list[dict[str, object]], body["answers"])[0]
        pairs = cast(list[dict[str, object]], answer["probabilities"])
        said = {cast(str, pair["value"]): cast(float, pair["probability"]) for pair in pairs}
    return words.judge_decision(said, answer["choice"], one.tier, one.token, hard=one.hard)


def _refusal(one: Sent, status: int, body: dict[str, object]) -> str:
    """A documented error by its code; System One's shape has none, there the status stands for it."""
    if one.kind == "systemone":
        if isinstance(body["detail"], str) and status in (429, 502, 503, 504):
            return f"error:{status}"
    else:
        code = cast(dict[str, str], body["error"])["code"]
        if DOCUMENTED.get(code) == status or (code, status) == ("upstream_failed", 502):
            return f"error:{code}"
    one.detail = f"{status}: {body}"
    return "lost"


async def read_stream(one: Sent, response: aiohttp.ClientResponse, leaves_after: int | None) -> None:
    """Judge a streamed answer; leave after so many of its pieces."""
    said, finish, count = "", None, 0
    async for event in _events(response.content):
        if event == b"[DONE]":
            one.outcome = words.judge_text(said, one.tier, one.token, whole=True) if finish and one.tier else "lost"
            break
        body = orjson.loads(event)
        if "error" in body:
            one.outcome = "error event:" + body["error"]["code"]
            break
        if "goldless" in body:
            _serve(one, body["goldless"])
        for choice in body["choices"]:
            said += choice["delta"].get("content") or ""
            count += bool(choice["delta"].get("content"))
            finish = choice["finish_reason"] or finish
        if leaves_after is not None and count > leaves_after:
            response.close()
            one.outcome = "left"
            break
    if one.outcome != "right" and words.judge_text(said, "", one.token, whole=False) != "right":
        one.outcome = words.judge_text(said, one.tier, one.token, whole=True)
    if one.outcome in ("wrong", "mixed", "lost"):
        one.detail = f"{said!r} finish={finish} tier={one.tier}"


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    async for line in content:
        if line.startswith(b"data: "):
            yield line[6:].strip()


async def ramp(clients: Clients, seconds: float) -> list[tuple[int, float]]:
    """Pairs of requests at once and answers per second. The first step is for connections and caches to warm up."""
    await _closed(clients, STEPS[0], seconds)
    return [(at_once, await _closed(clients, at_once, seconds)) for at_once in STEPS]


async def _closed(clients: Clients, at_once: int, seconds: float) -> float:
    began, before = time.monotonic(), len(clients.sent)

    async def work() -> None:
        while time.monotonic() - began < seconds:
            await clients.ask()

    await asyncio.gather(*(work() for _ in range(at_once)))
    return (len(clients.sent) - before) / (time.monotonic() - began)


async def steady(
    clients: Clients, rate: float, seconds: float, tell: Callable[[float], None], most: int = 200
) -> float:
    """`rate` requests per second on average (Poisson), whatever the gateway does, but never more than `most` at once;
    `tell` is called every second with the seconds so far. Returns the share that had to wait for that."""
    places, clock, coin = asyncio.Semaphore(most), asyncio.get_running_loop().time, random.Random(1)
    began = due = told = clock()
    late = count = 0
    tasks: set[asyncio.Task[Sent]] = set()
    while due - began < seconds:
        await asyncio.sleep(max(0.0, due - clock()))
        late, count = late + places.locked(), count + 1
        await places.acquire()
        task = asyncio.create_task(clients.ask())
        tasks.add(task)
        task.add_done_callback(lambda done: (tasks.discard(done), places.release()))
        due += coin.expovariate(rate)
        if clock() - told >= 1:
            told = clock()
            tell(told - began)
    await asyncio.gather(*tasks)
    return late / max(count, 1)
