"""Whether the gateway's memory grows with what it has served (BENCHMARKS.md, 6).

    python -m benchmarks.gateway_memory --requests 100000 --json memory.json

`goldless serve` with spans over OTLP and a ledger, 30% of the requests escalated, `--every` different bodies. Its
own memory (private pages, swapped ones too: where memory is short, the resident part shrinks by itself) is read after
each `--every` requests; what was found so far is written each time.

The slope is that of a straight line through the second half of the series, where whatever fills up at first (caches,
queues of the ledger and the spans) is full.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson
import psutil

from benchmarks.gateway_overhead import Arm, bodies, gateway, load, policy_file, process

ARM = Arm("30% escalated, spans", "spans", 0.3)


def slope(series: Sequence[tuple[int, float]]) -> float:
    """kB per 1,000 requests, of (requests, kB)."""
    requests, memory = zip(*series, strict=True)
    return 1000 * statistics.linear_regression(requests, memory).slope


def measure(count: int, every: int, in_flight: int) -> Iterator[tuple[int, float]]:
    """(requests so far, kB)."""
    cores = sorted(os.sched_getaffinity(0))
    others = cores[1:] or cores
    os.sched_setaffinity(0, others)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        (folder / "goldless.toml").write_text("[serve.live]\nshare = 0\n")
        upstream = [sys.executable, "-m", "benchmarks.mock_gateway_upstream"]
        _, url = stack.enter_context(process(upstream, others))
        policy_file(url, folder / "policy.json")
        pid, address = stack.enter_context(gateway(folder, cores[0], url.removesuffix("/v1") + "/sink"))
        for served in range(every, count + 1, every):
            asyncio.run(load(address, "/decisions", bodies(ARM, every), in_flight))
            found = psutil.Process(pid).memory_full_info()
            yield served, (found.uss + found.swap) / 1024


def main() -> None:
    """The series, and its slope."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--every", type=int, default=2500)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    series: list[tuple[int, float]] = []
    for served, memory in measure(given.requests, given.every, given.in_flight):
        series.append((served, memory))
        found = slope(series[len(series) // 2 :]) if len(series) > 3 else None
        print(f"{served:>9,} requests {memory / 1024:8.1f} MB; slope {found} kB per 1,000", flush=True)
        if given.json:
            command = f"python -m benchmarks.gateway_memory --requests {given.requests} --every {given.every}"
            run = {"command": command, "slope_kb_per_1000": found, "series": series}
            given.json.write_bytes(orjson.dumps(run, option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    main()
