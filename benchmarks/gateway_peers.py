"""The gateway beside two others, in one run: what each takes for a chat that a model behind it answers.

    python -m benchmarks.gateway_peers --requests 1000 --repeats 5 --json peers.json

LiteLLM's proxy (`litellm[proxy]`) and cascadeflow's gateway, each in an environment of its own below the cache folder,
which is made where it is missing. All stand before the same mock upstream, on the same core, and are asked in turn.
LiteLLM passes the chat on to one model; goldless, for which nothing certifies a chat, to its last tier; cascadeflow
drafts with its first model and lets its own rules decide, so `calls` says how often the
upstream was asked per request.
Peers run as they come, but for their telemetry, which is off; goldless also with its spans exported.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import orjson
import psutil

from benchmarks.gateway_overhead import Arm, gateway, policy_file, process, run
from curator.engines.cache import cache_folder

PACKAGES = {"litellm": "litellm[proxy]", "cascadeflow": "cascadeflow"}
UP_WITHIN = 600.0
"""Seconds that a peer has to start."""

QUIET = {
    "LITELLM_TELEMETRY": "False",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOG": "ERROR",
    # All are asked without keys; LiteLLM would not start without one.
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
}


def installed(name: str) -> Path:
    """The folder of a peer's programs."""
    folder = cache_folder("peers") / name
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "-q", PACKAGES[name]], check=True)
        (folder / "ready").touch()
    return folder / "bin"


def litellm(folder: Path, url: str, port: int) -> tuple[list[str], str]:
    """Its command, and the model to ask for."""
    parameters = {"model": "openai/strong", "api_base": url, "api_key": "none"}
    told = {"model_list": [{"model_name": "strong", "litellm_params": parameters}]}
    (folder / "litellm.yaml").write_text(json.dumps(told))
    given = ["--config", str(folder / "litellm.yaml"), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    return [str(installed("litellm") / "litellm"), *given], "strong"


def cascadeflow(folder: Path, url: str, port: int) -> tuple[list[str], str]:
    """Its command, and the model to ask for."""
    models = [
        {"name": name, "provider": "vllm", "base_url": url, "cost": cost}
        for name, cost in (("small", 1), ("strong", 9))
    ]
    (folder / "cascadeflow.json").write_text(json.dumps({"models": models}))
    given = ["--mode", "agent", "--config", str(folder / "cascadeflow.json"), "--port", str(port)]
    return [str(installed("cascadeflow") / "cascadeflow-gateway"), *given], "cascadeflow"


PEERS = {"litellm": litellm, "cascadeflow": cascadeflow}


@contextlib.contextmanager
def peer(name: str, folder: Path, url: str, core: int) -> Iterator[tuple[int, str, str]]:
    """A peer that is up; yields its process, its API's base URL, and its model."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, model = PEERS[name](folder, url, port)
    with (folder / f"{name}.log").open("w") as log:
        started = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env={**os.environ, **QUIET})
        try:
            os.sched_setaffinity(started.pid, [core])
            _wait(started, f"http://127.0.0.1:{port}", folder / f"{name}.log")
            yield started.pid, f"http://127.0.0.1:{port}/v1", model
        finally:
            started.terminate()
            started.wait()


def _wait(started: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + UP_WITHIN
    while time.monotonic() < until and started.poll() is None:
        with contextlib.suppress(OSError):
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.5)
    raise SystemExit(f"{url} did not start:\n{log.read_text()[-2000:]}")


def calls(url: str) -> int:
    """Chats that the upstream has answered."""
    with urllib.request.urlopen(f"{url}/calls") as answer:
        return int(answer.read())


def measure(given: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """All arms, in turn, `repeats` times."""
    cores = sorted(os.sched_getaffinity(0))
    others = cores[1:] or cores
    os.sched_setaffinity(0, others)
    chat, found = Arm("", "plain", kind="chat"), dict[str, list[dict[str, float]]]()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        (folder / "goldless.toml").write_text("[serve.live]\nshare = 0\n")
        upstream = [sys.executable, "-m", "benchmarks.mock_gateway_upstream"]
        _, url = stack.enter_context(process(upstream, others))
        policy_file(url, folder / "policy.json")
        bare = stack.enter_context(process([*upstream, "--proxy", url], cores[:1]))
        plain = stack.enter_context(gateway(folder, cores[0]))
        spans = stack.enter_context(gateway(folder, cores[0], url.removesuffix("/v1") + "/sink"))
        arms: dict[str, tuple[int | None, str, str]] = {
            "upstream itself": (None, url, "strong"),
            "bare proxy": (*bare, "strong"),
            "goldless": (*plain, "cascade"),
            "goldless, spans": (*spans, "cascade"),
        }
        for one in given.peers:
            arms[one] = stack.enter_context(peer(one, folder, url, cores[0]))
        for repeat in range(given.repeats):
            for arm in _turned(list(arms), repeat):
                pid, address, model = arms[arm]
                before = calls(url)
                row = run(pid, address, replace(chat, name=arm, model=model), given.requests, given.in_flight)
                sent = given.requests + max(given.requests // 5, 20) + 50
                found.setdefault(arm, []).append({**asdict(row), "calls": (calls(url) - before) / sent, **_memory(pid)})
    return {arm: found[arm] for arm in arms}


def _turned(names: Sequence[str], by: int) -> list[str]:
    return [*names[by % len(names) :], *names[: by % len(names)]]


def _memory(pid: int | None) -> dict[str, float]:
    """Resident megabytes."""
    return {"rss_mb": 0.0 if pid is None else psutil.Process(pid).memory_info().rss / 2**20}


def main() -> None:
    """The table of medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", nargs="*", choices=[*PEERS], default=[*PEERS])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = []
    print(f"{'arm':<20}{'CPU ms':>8}{'p50 ms':>8}{'p99 ms':>8}{'req/s':>8}{'MB':>8}{'calls':>7}")
    for arm, runs in measure(given).items():
        row = {key: statistics.median(one[key] for one in runs) for key in runs[0]}
        print(
            f"{arm:<20}{row['cpu_ms']:>8.2f}{row['p50_ms']:>8.2f}{row['p99_ms']:>8.2f}{row['per_second']:>8.0f}"
            f"{row['rss_mb']:>8.0f}{row['calls']:>7.2f}"
        )
        rows.append({"arm": arm, **row, "runs": runs})
    if given.json:
        command = f"python -m benchmarks.gateway_peers --requests {given.requests} --repeats {given.repeats}"
        given.json.write_bytes(orjson.dumps({"command": command, "arms": rows}, option=orjson.OPT_INDENT_2) + b"\n")


if __name__ == "__main__":
    main()
