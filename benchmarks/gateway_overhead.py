"""What the gateway adds to a request: CPU, latency, memory (BENCHMARKS.md, 6).

    python -m benchmarks.gateway_overhead --requests 2000 --json overhead.json

The gateway is `goldless serve` in a process of its own on one core; the upstream, another process, and the load are on
the others. Arms: the upstream asked directly, a bare aiohttp proxy before it, and the gateway with escalations forced
at 0, 30 and 100%, with spans off and on (exported over OTLP: that work is counted too, as it is in production).
The machine's speed changes with its load; compare with the bare proxy of the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import aiohttp
import orjson
import psutil

from cascade.artifact import save, seal
from cascade.fingerprint import question_fingerprint
from cascade.policy import Certificate, Policy, QuestionPolicy, Rule, Scorer, TierRecord, Verdict
from curator.engines import connect
from curator.engines.base import identity_text
from curator.task import DEFAULT_TEMPLATE
from curator.types import DecideRequest, Option, Question

QUESTION = Question("mood", "choice", "Which mood?", (Option("good"), Option("bad")))
ASKED = {
    "type": "choice",
    "name": "mood",
    "instructions": "Which mood?",
    "choices": [{"value": "good"}, {"value": "bad"}],
}
TEXT = "The day was long, the train was late, and in the end everybody laughed about it. " * 3


@dataclass(frozen=True, slots=True)
class Arm:
    """One way of asking: whom, and the share of requests that is escalated."""

    name: str
    via: Literal["upstream", "proxy", "plain", "spans"]
    share: float = 0.0
    kind: Literal["decisions", "chat", "stream"] = "decisions"
    model: str = ""
    """What is asked for; by default the upstream's or the gateway's own."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of an arm took. CPU and memory are the gateway's (of the direct arm: none)."""

    cpu_ms: float
    p50_ms: float
    p99_ms: float
    per_second: float
    rss_growth_kb: float


def policy_file(url: str, path: Path) -> None:
    """A policy whose small tier serves what it is sure of."""
    specs = {name: f"{url}#{name}?dialect=decisions" for name in ("small", "strong")}
    identities = {name: identity_text(connect(spec).identity) for name, spec in specs.items()}
    tiers = tuple(
        TierRecord(name=name, identity=identities[name], spec=spec, price=(1.0, 2.0)) for name, spec in specs.items()
    )
    asked = DecideRequest("", (QUESTION,), DEFAULT_TEMPLATE)
    scorer = Scorer(signals=("top_probability",), weights=(1.0,))
    certificate = Certificate(
        basis="vs_teacher",
        verdict=Verdict.PASS,
        reason="benchmark",
        alpha=0.05,
        delta=0.1,
        rows=500,
        risk=0.02,
        bound=0.04,
        shares=(0.7, 0.3),
    )
    entry = QuestionPolicy(
        name="mood",
        fingerprint=question_fingerprint(asked, QUESTION, list(identities.values())),
        rules=(Rule(tier="small", scorer=scorer, threshold=0.8),),
        certificate=certificate,
    )
    save(seal(Policy(created=datetime.now(UTC), tiers=tiers, questions=(entry,))), path)


@contextlib.contextmanager
def process(command: Sequence[str], cores: Sequence[int], **environment: str) -> Iterator[tuple[int, str]]:
    """A process on `cores`; yields its id and its first line."""
    given = {**os.environ, **environment}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=given) as started:
        try:
            os.sched_setaffinity(started.pid, cores)
            assert started.stdout is not None
            yield started.pid, started.stdout.readline().strip()
        finally:
            started.send_signal(signal.SIGTERM)


def bodies(arm: Arm, count: int) -> list[bytes]:
    """Requests of which the arm's share is escalated, evenly spread."""
    share, model = arm.share, "small" if arm.via in ("upstream", "proxy") else "cascade"
    found = []
    for number in range(count):
        hard = int((number + 1) * share) > int(number * share)
        state = f"{'hard' if hard else 'easy'} {number}: {TEXT}"
        found.append(orjson.dumps({"model": model, "input": state, "questions": [ASKED]}))
    return found


def chat_bodies(arm: Arm, count: int) -> list[bytes]:
    """The same for chats: nothing certifies them, so the last tier answers."""
    model = "strong" if arm.via in ("upstream", "proxy") else "cascade"
    body = {"model": arm.model or model, "max_tokens": 32, "messages": [{"role": "user", "content": TEXT}]}
    return [orjson.dumps({**body, "stream": True} if arm.kind == "stream" else body)] * count


async def load(url: str, path: str, waiting: list[bytes], in_flight: int) -> list[float]:
    """Send all; returns the latencies (s)."""
    latencies: list[float] = []
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def work() -> None:
            while waiting:
                body, began = waiting.pop(), time.perf_counter()
                headers = {"Content-Type": "application/json"}
                async with session.post(url + path, data=body, headers=headers) as response:
                    answer = await response.read()
                assert response.status == 200, answer
                latencies.append(time.perf_counter() - began)

        await asyncio.gather(*(work() for _ in range(in_flight)))
    return latencies


def run(pid: int | None, url: str, arm: Arm, count: int, in_flight: int) -> Run:
    """One run: latency at one request at a time, the rest at `in_flight`."""
    path = "/decisions" if arm.kind == "decisions" else "/chat/completions"
    make = bodies if arm.kind == "decisions" else chat_bodies
    asyncio.run(load(url, path, make(arm, 50), 4))
    alone = sorted(asyncio.run(load(url, path, make(arm, max(count // 5, 20)), 1)))
    gateway = None if pid is None else psutil.Process(pid)
    before, memory, began = _cpu(gateway), _rss(gateway), time.perf_counter()
    asyncio.run(load(url, path, make(arm, count), in_flight))
    seconds = time.perf_counter() - began
    return Run(
        cpu_ms=1000 * (_cpu(gateway) - before) / count,
        p50_ms=1000 * statistics.median(alone),
        p99_ms=1000 * alone[int(0.99 * (len(alone) - 1))],
        per_second=count / seconds,
        rss_growth_kb=(_rss(gateway) - memory) / 1024,
    )


def _cpu(found: psutil.Process | None) -> float:
    if found is None:
        return 0.0
    times = found.cpu_times()
    return times.user + times.system


def _rss(found: psutil.Process | None) -> int:
    return 0 if found is None else found.memory_info().rss


@contextlib.contextmanager
def gateway(folder: Path, core: int, sink: str = "") -> Iterator[tuple[int, str]]:
    """`goldless serve` on one core, exporting to `sink` if there is one; yields its process and its API's base URL."""
    code = "from cli.main import main; main()"
    command = [sys.executable, "-c", code, "serve", str(folder / "policy.json"), "--port", "0", "--json"]
    command += ["-c", str(folder / "goldless.toml"), "--ledger", str(folder / "ledger")]
    traced = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": sink} if sink else {}
    with process(command, [core], **traced) as (pid, line):
        yield pid, json.loads(line)["url"] + "/v1"


ARMS = (
    Arm("upstream itself", "upstream"),
    Arm("bare proxy", "proxy"),
    Arm("no escalation", "plain"),
    Arm("30% escalated", "plain", 0.3),
    Arm("100% escalated", "plain", 1.0),
    Arm("no escalation, spans", "spans"),
    Arm("30% escalated, spans", "spans", 0.3),
    Arm("100% escalated, spans", "spans", 1.0),
    Arm("stream, upstream itself", "upstream", kind="stream"),
    Arm("stream, 20 chunks", "plain", kind="stream"),
    Arm("stream, 20 chunks, spans", "spans", kind="stream"),
)


def measure(given: argparse.Namespace) -> dict[str, list[Run]]:
    """All arms, in turn, `repeats` times."""
    found: dict[str, list[Run]] = {arm.name: [] for arm in ARMS}
    cores = sorted(os.sched_getaffinity(0))
    others = cores[1:] or cores
    os.sched_setaffinity(0, others)
    upstream = [sys.executable, "-m", "benchmarks.mock_gateway_upstream", "--latency", str(given.latency)]
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        (folder / "goldless.toml").write_text("[serve.live]\nshare = 0\n")
        _, url = stack.enter_context(process(upstream, others))
        policy_file(url, folder / "policy.json")
        bare = [sys.executable, "-m", "benchmarks.mock_gateway_upstream", "--proxy", url]
        found_at: dict[str, tuple[int | None, str]] = {
            "upstream": (None, url),
            "proxy": stack.enter_context(process(bare, cores[:1])),
            "plain": stack.enter_context(gateway(folder, cores[0])),
            "spans": stack.enter_context(gateway(folder, cores[0], url.removesuffix("/v1") + "/sink")),
        }
        arms = [arm for arm in ARMS if given.streams or arm.kind != "stream"]
        for repeat in range(given.repeats):
            for arm in arms[repeat % len(arms) :] + arms[: repeat % len(arms)]:
                pid, address = found_at[arm.via]
                found[arm.name].append(run(pid, address, arm, given.requests, given.in_flight))
    return {name: runs for name, runs in found.items() if runs}


def report(found: Mapping[str, Sequence[Run]]) -> list[dict[str, object]]:
    """Print the table of medians; returns its rows."""
    head = f"{'arm':<28}{'CPU ms':>8}{'p50 ms':>8}{'p99 ms':>8}{'req/s':>8}{'RSS kB':>8}"
    print(head)
    rows: list[dict[str, object]] = []
    for name, runs in found.items():
        row = {field: statistics.median(getattr(one, field) for one in runs) for field in asdict(runs[0])}
        print(
            f"{name:<28}{row['cpu_ms']:>8.3f}{row['p50_ms']:>8.2f}{row['p99_ms']:>8.2f}"
            f"{row['per_second']:>8.0f}{row['rss_growth_kb']:>8.0f}"
        )
        rows.append({"arm": name, **row})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--latency", type=float, default=0.0, help="of the upstream, in seconds")
    parser.add_argument("--streams", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = report(measure(given))
    if given.json:
        streams = "" if given.streams else " --no-streams"
        command = (
            f"python -m benchmarks.gateway_overhead --requests {given.requests} --repeats {given.repeats}{streams}"
        )
        found = {"command": command, "rows": rows}
        given.json.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    main()
