"""kill -9 at random points (BENCHMARKS.md s.2): what is missing, doubled or sent again afterwards.

    python -m benchmarks.crash --kills 20 --json out.json
    python -m benchmarks.crash --engine transformers:wheel:smollm2-135m --rows 600 --kills 20

A child process curates; it is killed a random number of answers after it began, and started again, until
it has been killed `--kills` times; then it may finish. Every request is noted in a file
before it is sent. A kill may cost what was in flight (`--in-flight`), and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.http_client import mock_server, states
from curator.engines import connect
from curator.engines.wrapper import WrapperEngine
from curator.pipeline import Plan, curate
from curator.screening import Screening
from curator.sources import open_source
from curator.store import Store
from curator.task import Classification, Task, classify
from curator.types import DecideRequest, Decisions

PLAN = Plan(screening=Screening(exact=False, near=None))
PATIENCE = 600.0
"""Seconds without a request after which a child counts as hung."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a child works on."""

    engine: str
    folder: Path
    in_flight: int

    @property
    def sent(self) -> Path:
        return self.folder / "sent.log"

    @property
    def store(self) -> Path:
        return self.folder / "store.duckdb"


class Noting(WrapperEngine):
    """Notes each request in a file before it is sent."""

    log: int
    limit: int

    @property
    def concurrency(self) -> int:
        return self.limit

    async def decide(self, request: DecideRequest) -> Decisions:
        os.write(self.log, request.state.partition(":")[0].encode() + b"\n")
        return await self.inner.decide(request)


def task() -> Task[Classification]:
    return classify(["positive", "negative"], "What is the mood of this text?")


async def child(job: Job) -> None:
    """Curate until done, or until killed."""
    async with aclosing(connect(job.engine)) as engine:
        noting = Noting(engine)
        noting.log = os.open(job.sent, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        noting.limit = job.in_flight
        source = open_source(str(job.folder / "corpus.jsonl"))
        await curate(task(), noting, Store(job.store, wait=60), source=source, plan=PLAN)


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@contextlib.contextmanager
def started(job: Job) -> Iterator[subprocess.Popen[bytes]]:
    """A child in a session of its own, so that whatever it starts dies with it."""
    command = [sys.executable, "-m", "benchmarks.crash", "--child", str(job.folder), "--engine", job.engine]
    process = subprocess.Popen([*command, "--in-flight", str(job.in_flight)], start_new_session=True)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def kill_after(job: Job, requests: int) -> tuple[bool, int]:
    """Run a child and kill it `requests` requests later. Returns whether it was killed in time, and
    how many requests it repeated that an earlier child had sent."""
    before = lines(job.sent)
    with started(job) as process:
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and len(lines(job.sent)) < len(before) + requests:
            if time.monotonic() > deadline:
                raise SystemExit(f"{job.engine}: no progress for {PATIENCE:.0f} s")
            time.sleep(random.uniform(0.0, 0.02))
        killed = process.poll() is None
    seen = set(before)
    return killed, sum(name in seen for name in lines(job.sent)[len(before) :])


def check(job: Job, rows: int, repeats: list[int]) -> dict[str, object]:
    """Count what is missing and doubled in the finished store."""
    store = Store(job.store)
    (version,) = store.datasets()
    ids = Counter(row["document_id"] for table in store.dataset_rows(version.version) for row in table.to_pylist())
    (name,) = store.status().annotations
    answers = Counter(row for table in store.decisions(name) for row in table["document_id"].to_pylist())
    status = store.status()
    return {
        "engine": job.engine,
        "rows": rows,
        "kills": len(repeats),
        "missing": rows - len(ids),
        "duplicates": sum((ids - Counter(set(ids))).values()) + sum((answers - Counter(set(answers))).values()),
        "extra completions": status.completions - rows,
        "repeated calls, worst kill": max(repeats, default=0),
        "repeated calls, all": sum(repeats),
        "in flight": job.in_flight,
    }


def crash(job: Job, rows: int, kills: int) -> dict[str, object]:
    """Kill `kills` times, finish, count."""
    corpus = (json.dumps({"id": f"d{i}", "text": state}) for i, state in enumerate(states(rows)))
    (job.folder / "corpus.jsonl").write_text("\n".join(corpus))
    repeats: list[int] = []
    share = max(2, rows // (kills + 1))
    while len(repeats) < kills:
        # As many as may be in flight are noted before the first answer: a kill among them would hit the start only.
        killed, again = kill_after(job, job.in_flight + random.randint(1, share))
        if not killed:
            raise SystemExit(f"{job.engine} finished after {len(repeats)} kills: more --rows")
        repeats.append(again)
    with started(job) as process:
        if process.wait() != 0:
            raise SystemExit(f"{job.engine}: the last run failed with {process.returncode}")
    return check(job, rows, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="", help="engine spec; by default a mock server over HTTP")
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.child:
        return asyncio.run(child(Job(given.engine, given.child, given.in_flight)))
    with contextlib.ExitStack() as stack:
        engine = given.engine or stack.enter_context(mock_server("--latency", "0.05")) + "#mock?dialect=chat"
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = crash(Job(engine, folder, given.in_flight), given.rows, given.kills)
    print("\n".join(f"{name:<28}{value}" for name, value in found.items()))
    if given.json:
        command = " ".join(["python -m benchmarks.crash", *sys.argv[1:]])
        given.json.write_text(json.dumps({"command": command, "results": found}, indent=2) + "\n")
    return None


if __name__ == "__main__":
    main()
