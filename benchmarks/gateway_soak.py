"""The gateway under load and faults for minutes: is any answer wrong, mixed or lost, is any attempt not billed?

    python -m benchmarks.gateway_soak --minutes 10 --json soak.json

`goldless serve` with a policy, API keys, ledger, traffic, hedges and audits runs in a process of its own, before two
replicas per tier in processes of theirs. These fail in every way, seeded (`mock_soak_upstream.FAULTS`), and one of them
is down for 3 s in every minute. First a ramp measures how many requests per second there can be (decisions, chat,
streams, System One), then the soak sends 80% of that for `--minutes`. Some clients leave in the middle. At the end the
gateway gets SIGTERM with requests in flight. Every prompt carries a token that the answer must repeat together with the
tier's name; every call is billed a number of tokens of its own, so the ledger is compared with the upstreams' books
call by call (`_soak_bill.Audit`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import aiohttp
import orjson
import psutil

from benchmarks._soak_bill import Audit, audit, ledger_rows
from benchmarks._soak_load import PATIENCE, Clients, Sent, ramp, steady
from benchmarks._soak_setup import COMMAND, SETTINGS, TIERS, api_keys, policy_file, process, spec, upstreams
from benchmarks.mock_soak_upstream import Call
from cascade.traffic_files import read_traffic


@dataclass
class Found:
    """What a soak came to."""

    ramp: list[tuple[int, float]] = field(default_factory=list)
    saturation: float = 0.0
    rate: float = 0.0
    late: float = 0.0
    seconds: float = 0.0
    rss: list[tuple[float, float]] = field(default_factory=list)
    """Seconds since the soak began, and the gateway's memory in MB."""
    sent: list[Sent] = field(default_factory=list)
    drained: list[Sent] = field(default_factory=list)
    drain_seconds: float = 0.0
    exit_code: int | None = None
    unrecorded: int = 0
    """Right answers that are not in the recorded traffic."""
    bill: Audit = field(default_factory=Audit)

    @property
    def growth(self) -> float:
        """MB per minute by which memory grew over the second half, by least squares."""
        half = self.rss[len(self.rss) // 2 :]
        if len(half) < 2:
            return 0.0
        return 60 * statistics.linear_regression(*zip(*half, strict=True)).slope

    @property
    def clean(self) -> bool:
        """Whether there is nothing that must not be."""
        bad = {"wrong", "mixed", "lost"} & {one.outcome for one in self.sent}
        return not bad and self.bill.clean and not self.unrecorded and self.exit_code == 0


async def soak(given: argparse.Namespace, gateway: subprocess.Popen[str], url: str, keys: Sequence[str]) -> Found:
    """Ramp, soak, drain."""
    found, memory = Found(), psutil.Process(gateway.pid)
    timeout = aiohttp.ClientTimeout(total=PATIENCE)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        clients = Clients(session, f"{url}/v1", keys, given.seed)
        found.ramp = await ramp(clients, given.ramp_seconds)
        found.saturation = max(rate for _, rate in found.ramp)
        found.rate = given.share * found.saturation

        def tell(seconds: float) -> None:
            found.rss.append((round(seconds, 1), round(memory.memory_info().rss / 1e6, 2)))

        began = time.monotonic()
        found.late = await steady(clients, found.rate, 60 * given.minutes, tell)
        found.seconds = time.monotonic() - began
        found.drained = await drain(clients, gateway, found)
    found.sent = clients.sent
    return found


async def drain(clients: Clients, gateway: subprocess.Popen[str], found: Found) -> list[Sent]:
    """SIGTERM while slow requests are on their way: all of them must be answered, and the process end in order."""
    tasks = [asyncio.create_task(clients.ask(slow=True)) for _ in range(64)]
    await asyncio.sleep(0.3)
    gateway.send_signal(signal.SIGTERM)
    began = time.monotonic()
    drained = await asyncio.gather(*tasks)
    found.exit_code = await asyncio.to_thread(gateway.wait, 60)
    found.drain_seconds = time.monotonic() - began
    return drained


async def read_books(urls: dict[str, list[str]]) -> dict[str, list[Call]]:
    """The upstreams' own lists of calls, by tier."""
    books: dict[str, list[Call]] = {}
    async with aiohttp.ClientSession() as session:
        for tier, replicas in urls.items():
            for url in replicas:
                async with session.get(url.removesuffix("/v1") + "/books") as response:
                    calls = orjson.loads(await response.read())
                books.setdefault(tier, []).extend(Call(**call) for call in calls)
    return books


def measure(given: argparse.Namespace) -> Found:
    """The whole soak, in a folder of its own."""
    with tempfile.TemporaryDirectory() as name, upstreams(given) as urls:
        folder = Path(name)
        policy_file(urls, folder / "policy.json")
        second = {tier: spec(urls[tier][1], tier) for tier in TIERS}
        (folder / "goldless.toml").write_text(SETTINGS.format(**second))
        keys = api_keys(folder)
        command = [*COMMAND, "serve", str(folder / "policy.json"), "--port", "0", "--json"]
        with process([*command, "-c", str(folder / "goldless.toml")]) as (gateway, line):
            found = asyncio.run(soak(given, gateway, json.loads(line)["url"], keys))
        books = asyncio.run(read_books(urls))
        found.bill = audit(books, ledger_rows(folder / "ledger"), found.sent)
        recorded = {row.record.id for row in read_traffic(folder / "traffic") if row.record is not None}
        found.unrecorded = len({one.request for one in found.sent if one.outcome == "right"} - recorded)
    return found


def report(found: Found) -> dict[str, object]:
    """Print what was found; returns it for JSON."""
    print(f"saturation {found.saturation:.0f} requests/s; {found.rate:.0f}/s for {found.seconds:.0f} s, ", end="")
    print(f"{found.late:.1%} of them late; exit code {found.exit_code} after {found.drain_seconds:.1f} s")
    heads = ("sent", "right", "wrong", "mixed", "lost", "left", "error")
    print(f"{'requests':<12}" + "".join(f"{head:>8}" for head in (*heads, "p50 s")))
    kinds = {
        kind: [one for one in found.sent if one.kind == kind] for kind in ("decisions", "chat", "stream", "systemone")
    }
    for name, some in {**kinds, "all": found.sent, "drained": found.drained}.items():
        outcomes = Counter(one.outcome.partition(":")[0].partition(" ")[0] for one in some)
        cells = "".join(f"{outcomes[head]:>8}" for head in heads[1:])
        median = statistics.median(one.seconds for one in some) if some else 0.0
        print(f"{name:<12}{len(some):>8}{cells}{median:>8.3f}")
    errors = Counter(one.outcome for one in found.sent if one.outcome.startswith("error"))
    routes = Counter(f"{one.tier} {one.route}" for one in found.sent if one.route)
    print("errors:", dict(errors), "\nserved:", dict(routes))
    bill = {key: value for key, value in asdict(found.bill).items() if key != "examples"}
    print("bill:", bill)
    bad = [one for one in found.sent if one.outcome in ("wrong", "mixed", "lost")]
    for line in [*(str(one) for one in bad[:20]), *found.bill.examples[:20]]:
        print(line)
    print(f"memory: {found.rss[0][1]} MB at first, {found.rss[-1][1]} at last; {found.growth:.2f} MB a minute")
    by_kind = {kind: dict(Counter(one.outcome for one in some)) for kind, some in kinds.items()}
    numbers = (
        "ramp",
        "saturation",
        "rate",
        "late",
        "seconds",
        "drain_seconds",
        "exit_code",
        "unrecorded",
        "growth",
        "rss",
    )
    return {
        **{name: getattr(found, name) for name in numbers},
        "rss": found.rss[::10],
        "outcomes": by_kind,
        "drained": dict(Counter(one.outcome for one in found.drained)),
        "served": dict(routes),
        "bill": bill,
        "clean": found.clean,
        "examples": [asdict(one) for one in bad[:20]] + found.bill.examples[:20],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--share", type=float, default=0.8, help="of saturation")
    parser.add_argument("--ramp-seconds", type=float, default=8.0, help="of each step of the ramp")
    parser.add_argument("--latency", type=float, default=0.02, help="of the upstreams, in seconds, on average")
    parser.add_argument("--faults", type=float, default=1.0, help="times the usual shares of faults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    found = measure(given)
    command = f"python -m benchmarks.gateway_soak --minutes {given.minutes:g} --ramp-seconds {given.ramp_seconds:g}"
    rows = {"command": command, **report(found)}
    if given.json:
        given.json.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
    sys.exit(0 if found.clean else 1)


if __name__ == "__main__":
    main()
