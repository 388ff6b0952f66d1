"""Annotation throughput, end to end and durable, against a bare aiohttp client (BENCHMARKS.md s.1).

    python -m benchmarks.annotation --rows 5000 --repeats 5 --json out.json
    python -m benchmarks.annotation --memory 500000

One mock server in its own process (50 ms fixed latency, 64 in flight). "goldless" is everything that
`curate` does per row: read documents from the store, build and hash the request, look its answer up,
send it, read the answer, write it to the journal and the tables. Arms run interleaved, each repeat on
a new store; CPU is user + system of the client process. `--memory` runs so many rows in one go in a
fresh process and reports the peak of its resident memory beside that of 5,000 rows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.http_client import Run, arms, measure, mock_server, states
from curator.annotate import annotate
from curator.engines.http import HTTPEngine
from curator.engines.wrappers import Budget, wrap
from curator.store import Store
from curator.task import Classification, Task, classify
from curator.types import Document

BARE = "aiohttp, orjson"
OURS = "goldless, durable"
SMALL = 5_000


def task() -> Task[Classification]:
    return classify(["positive", "negative"], "What is the mood of this text?")


def batches(rows: int) -> Iterator[list[Document]]:
    batch: list[Document] = []
    for index, state in enumerate(states(rows)):
        batch.append(Document(f"d{index}", state))
        if len(batch) == 2048:
            yield batch
            batch = []
    yield batch


async def curated(url: str, rows: int, in_flight: int, folder: Path) -> Run:
    """Annotate `rows` documents of a new store."""
    store = Store(folder / "store.duckdb")
    engine = wrap(HTTPEngine(url, "mock", dialect="chat", concurrency=in_flight), budget=Budget(calls=10**9))
    with store.run("benchmark", {}) as run:
        store.add_documents(batches(rows), source="generated", run_id=run.id)

        async def work(_: str) -> None:
            progress = await annotate(store.documents(), task(), engine, run)
            run.flush()
            if (progress.sent, progress.failed) != (rows, 0):
                raise SystemExit(f"{progress.sent} of {rows} rows sent, {progress.failed} failed")

        # One call of `measure` with one worker times the whole of it.
        whole = await measure(work, 1, 1)
    await engine.aclose()
    return Run(whole.rows_per_second * rows, whole.cpu_ms_per_row / rows)


async def compare(url: str, rows: int, in_flight: int, repeats: int) -> dict[str, list[Run]]:
    """Both arms, interleaved, after a warm-up."""
    found: dict[str, list[Run]] = {BARE: [], OURS: []}
    async with arms(url, in_flight) as calls:
        await measure(calls[BARE], 4 * in_flight, in_flight)
        for _ in range(repeats):
            found[BARE].append(await measure(calls[BARE], rows, in_flight))
            with tempfile.TemporaryDirectory() as folder:
                found[OURS].append(await curated(url, rows, in_flight, Path(folder)))
    return found


def report(found: dict[str, list[Run]]) -> list[dict[str, object]]:
    """Print the table; returns its rows. The ratio is the median of the pairs' ratios."""
    pairs = zip(found[OURS], found[BARE], strict=True)
    ratio = statistics.median(ours.rows_per_second / bare.rows_per_second for ours, bare in pairs)
    table: list[dict[str, object]] = []
    print(f"{'client':<22}{'rows/s':>10}{'CPU ms/row':>12}")
    for name, runs in found.items():
        speed = statistics.median(run.rows_per_second for run in runs)
        cpu = statistics.median(run.cpu_ms_per_row for run in runs)
        print(f"{name:<22}{speed:>10.0f}{cpu:>12.3f}")
        table.append({"client": name, "rows_per_second": speed, "cpu_ms_per_row": cpu, "repeats": len(runs)})
    print(f"of bare: {ratio:.1%} (bar: 85%), CPU bar: 0.6 ms/row")
    return [*table, {"of_bare": ratio}]


def peak_memory(url: str, rows: int, in_flight: int) -> int:
    """Peak resident memory in MB of a fresh process that annotates `rows` documents."""
    command = [sys.executable, "-m", "benchmarks.annotation", "--once", url, "--rows", str(rows)]
    done = subprocess.run([*command, "--in-flight", str(in_flight)], check=True, capture_output=True, text=True)
    return int(done.stdout)


def once(url: str, rows: int, in_flight: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(curated(url, rows, in_flight, Path(folder)))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=SMALL)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--memory", type=int, help="compare the peak memory of this many rows with that of 5,000")
    parser.add_argument("--once", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.once:
        return once(given.once, given.rows, given.in_flight)
    with mock_server("--latency", str(0 if given.memory else given.latency)) as url:
        if given.memory:
            table = [{"rows": n, "peak_mb": peak_memory(url, n, given.in_flight)} for n in (SMALL, given.memory)]
            print("\n".join(f"{row['rows']:>9,} rows: {row['peak_mb']} MB" for row in table))
        else:
            table = report(asyncio.run(compare(url, given.rows, given.in_flight, given.repeats)))
    if given.json:
        command = " ".join(["python -m benchmarks.annotation", *sys.argv[1:]])
        given.json.write_text(json.dumps({"command": command, "results": table}, indent=2) + "\n")
    return None


if __name__ == "__main__":
    main()
