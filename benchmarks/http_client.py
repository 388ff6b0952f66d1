"""Client side of annotation throughput: bare aiohttp against the HTTP engine and its wrappers.

    python -m benchmarks.http_client --rows 5000 --in-flight 64 --repeats 5 --json out.json

One mock server in its own process (50 ms fixed latency, one label per row); the arms run interleaved in
one client process. Reported: median rows/s, user + system CPU per row, and the median ratio to the faster
of the two bare clients of the same repeat (`json=`/`.json()`, and orjson both ways). Then once more
against a server with seeded faults. BENCHMARKS.md, section 1, without the store.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson

from curator.engines.base import render_messages
from curator.engines.http import HTTPEngine
from curator.engines.wrappers import Budget, wrap
from curator.types import DecideRequest, GenerateRequest, Option, Question, Sampling

QUESTION = Question("mood", "choice", "What is the mood of this text?", (Option("positive"), Option("negative")))
QUESTIONS = (QUESTION,)
Call = Callable[[str], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Run:
    """One repeat of one arm."""

    rows_per_second: float
    cpu_ms_per_row: float


def states(count: int) -> Iterator[str]:
    """Texts of about 300 characters, all different."""
    return (f"Document {i}: " + "the quick brown fox jumps over the lazy dog, " * 6 for i in range(count))


def bare_body(state: str) -> dict[str, object]:
    """What the engine sends, made by hand."""
    message = render_messages(DecideRequest(state, QUESTIONS), QUESTION)[0].content
    return {
        "model": "mock",
        "messages": [{"role": "user", "content": message}],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 20,
    }


PATTERN = bare_body("\0")


def filled(state: str) -> dict[str, object]:
    """The body with the state put in, as a hand-written client would."""
    content = f"{state}\n\n{QUESTION.instructions}\n- positive\n- negative\nAnswer with one of the options only."
    return {**PATTERN, "messages": [{"role": "user", "content": content}]}


@contextlib.asynccontextmanager
async def arms(url: str, in_flight: int) -> AsyncIterator[dict[str, Call]]:
    """The clients under test."""
    address = f"{url}/chat/completions"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)) as session:

        async def bare(state: str) -> object:
            async with session.post(address, json=filled(state)) as response:
                return (await response.json())["choices"][0]["message"]["content"]

        async def bare_orjson(state: str) -> object:
            async with session.post(
                address, data=orjson.dumps(filled(state)), headers={"Content-Type": "application/json"}
            ) as response:
                return orjson.loads(await response.read())["choices"][0]["message"]["content"]

        engine = HTTPEngine(url, "mock", dialect="chat", concurrency=in_flight)
        wrapped = wrap(engine, budget=Budget(calls=10**9))

        async def decide(state: str) -> object:
            return await wrapped.decide(DecideRequest(state, QUESTIONS))

        async def decide_unwrapped(state: str) -> object:
            return await engine.decide(DecideRequest(state, QUESTIONS))

        sampling = Sampling(max_tokens=1)

        async def generate(state: str) -> object:
            messages = render_messages(DecideRequest(state, QUESTIONS), QUESTION)
            return await wrapped.generate(GenerateRequest(messages, sampling))

        yield {
            "aiohttp, json": bare,
            "aiohttp, orjson": bare_orjson,
            "HTTPEngine.decide": decide_unwrapped,
            "wrap(HTTPEngine).decide": decide,
            "wrap(HTTPEngine).generate": generate,
        }
        await engine.aclose()


async def measure(call: Call, rows: int, in_flight: int) -> Run:
    """`rows` calls, `in_flight` at a time."""
    waiting = states(rows)

    async def work() -> None:
        for state in waiting:
            await call(state)

    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(rows / seconds, 1000 * cpu / rows)


async def compare(url: str, rows: int, in_flight: int, repeats: int) -> dict[str, list[Run]]:
    """All arms, interleaved in rotating order, after a warm-up of each."""
    found: dict[str, list[Run]] = {}
    async with arms(url, in_flight) as calls:
        for call in calls.values():
            await measure(call, 4 * in_flight, in_flight)
        order = list(calls)
        for repeat in range(repeats):
            for name in order[repeat % len(order) :] + order[: repeat % len(order)]:
                found.setdefault(name, []).append(await measure(calls[name], rows, in_flight))
    return found


@contextlib.contextmanager
def mock_server(*arguments: str) -> Iterator[str]:
    """The mock server in a process of its own; yields its URL."""
    command = [sys.executable, "-m", "benchmarks.mock_server", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


FAULTS = ("--rate-limit", "0.02", "--invalid-json", "0.01", "--hang", "0.005", "--drop", "0.005")


async def with_faults(url: str, rows: int, in_flight: int) -> dict[str, object]:
    """`wrap(HTTPEngine).decide` against a server that rate-limits, garbles, hangs and drops: every row
    must come through. Hangs cost the timeout of 1 s."""
    engine = HTTPEngine(url, "mock", dialect="chat", timeout=1.0, concurrency=in_flight)
    wrapped = wrap(engine)
    done: list[int] = []

    async def decide(state: str) -> object:
        result = await wrapped.decide(DecideRequest(state, QUESTIONS))
        done.append(result.usage.calls)
        return result

    run = await measure(decide, rows, in_flight)
    await engine.aclose()
    print(f"with faults: {len(done)} of {rows} rows, {sum(done) - len(done)} failed attempts, ", end="")
    print(f"{run.rows_per_second:.0f} rows/s, {run.cpu_ms_per_row:.3f} CPU ms/row")
    return {
        "client": "wrap(HTTPEngine).decide, faults",
        "rows": len(done),
        "failed_attempts": sum(done) - len(done),
        "rows_per_second": run.rows_per_second,
        "cpu_ms_per_row": run.cpu_ms_per_row,
    }


def report(found: dict[str, list[Run]]) -> list[dict[str, object]]:
    """Print the table; returns its rows. Ratios are taken within a repeat, where the machine is the same."""
    repeats = len(next(iter(found.values())))
    bare = [max(found[name][i].rows_per_second for name in found if name.startswith("aiohttp")) for i in range(repeats)]
    table: list[dict[str, object]] = []
    print(f"{'client':<28}{'rows/s':>10}{'CPU ms/row':>12}{'of bare':>10}")
    for name, runs in found.items():
        speed = statistics.median(run.rows_per_second for run in runs)
        cpu = statistics.median(run.cpu_ms_per_row for run in runs)
        share = statistics.median(run.rows_per_second / best for run, best in zip(runs, bare, strict=True))
        print(f"{name:<28}{speed:>10.0f}{cpu:>12.3f}{share:>10.1%}")
        table.append({"client": name, "rows_per_second": speed, "cpu_ms_per_row": cpu, "of_bare": share})
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with mock_server("--latency", str(given.latency)) as url:
        table = report(asyncio.run(compare(url, given.rows, given.in_flight, given.repeats)))
    with mock_server("--latency", str(given.latency), *FAULTS) as url:
        table.append(asyncio.run(with_faults(url, given.rows, given.in_flight)))
    if given.json:
        given.json.write_bytes(orjson.dumps(table, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
