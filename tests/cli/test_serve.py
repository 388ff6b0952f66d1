"""`goldless serve` as people run it: a process of its own, real upstreams on loopback."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx
import openai
import pytest
from route_builders import row
from serving_process import ROOT, cascade_of, ended, started

from benchmarks.mock_server import MockServer
from cascade.artifact import save, seal
from cascade.policy import Policy
from cascade.traffic_files import read_traffic
from curator.task import DEFAULT_TEMPLATE

BODY = {
    "type": "choice",
    "name": "mood",
    "instructions": "Which mood?",
    "choices": [{"value": "good"}, {"value": "bad"}],
}


def certified(url: str, **changed: object) -> Policy:
    """A cascade of two models of the server at `url`."""
    specs = {name: f"{url}#{name}?dialect=decisions" for name in ("small", "strong")}
    return cascade_of(specs, {replace(row(""), template=DEFAULT_TEMPLATE): {"mood": [0.6]}}, **changed)


@pytest.fixture
def upstream(serve) -> MockServer:
    return serve(MockServer(speaks=["decisions", "chat"], labels=["good", "bad"]))


def test_it_serves_and_leaves_in_order(tmp_path: Path, upstream: MockServer) -> None:
    save(certified(upstream.url), tmp_path / "policy.json")
    with started(tmp_path, "--ledger", "ledger", "--traffic", "traffic") as (process, url):
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
            found = client.decisions.create(model="cascade", input="a fine day", questions=[BODY])
            said = client.chat.completions.create(model="cascade", messages=[{"role": "user", "content": "Well?"}])
        metrics = httpx.get(f"{url}/metrics").text
        assert httpx.get(f"{url}/readyz").json() == {"status": "ready", "tiers": {"small": True, "strong": True}}
        code, _ = ended(process)
    assert code == 0
    assert found.answers[0].choice in ("good", "bad")
    assert found.goldless["cost"]["amount"] > 0
    assert said.choices[0].message.content
    assert "cascade_overhead_duration_seconds_bucket" in metrics
    assert "cascade_requests_total" in metrics
    assert len(list(read_traffic(tmp_path / "traffic"))) == 2
    assert list((tmp_path / "ledger").glob("*.ledger.parquet"))


def test_what_is_in_flight_is_finished(tmp_path: Path, serve) -> None:
    upstream = serve(MockServer(speaks=["decisions"], labels=["good", "bad"], latency=1.0))
    save(certified(upstream.url), tmp_path / "policy.json")
    with started(tmp_path) as (process, url), socket.create_connection(_place(url)) as slow:
        body = json.dumps({"model": "cascade:small", "input": "x", "questions": [BODY]}).encode()
        head = f"POST /v1/decisions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        slow.sendall(head.encode() + body)
        while not upstream.counts["/v1/decisions"]:
            time.sleep(0.02)
        code, _ = ended(process)
        answer = slow.makefile("rb").read()
    assert code == 0
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b'"choice"' in answer


def _place(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("http://").rpartition(":")
    return host, int(port)


def complains(folder: Path, *arguments: str) -> str:
    """What it says where it cannot start."""
    command = [sys.executable, "-c", "from cli.main import main; main()", "serve", *arguments]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_it_says_why_it_cannot_start(tmp_path: Path, upstream: MockServer) -> None:
    assert "cannot be read" in complains(tmp_path, "nothing.json")
    (tmp_path / "broken.json").write_text("{}")
    assert "is no policy" in complains(tmp_path, "broken.json")
    path = tmp_path / "policy.json"
    save(certified(upstream.url), path)
    assert "the policy is for" in complains(tmp_path, "--tier", f"small={upstream.url}#other")
    assert "'tiny' is no tier" in complains(tmp_path, "--tier", f"tiny={upstream.url}#other")
    assert "without API keys" in complains(tmp_path, "--host", "0.0.0.0")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = complains(tmp_path, "--port", str(taken.getsockname()[1]))
    assert "ddress already in use" in said


def test_a_policy_without_prices_cannot_hold_a_money_cap(tmp_path: Path, upstream: MockServer) -> None:
    found = certified(upstream.url)
    tiers = tuple(tier.model_copy(update={"price": None}) for tier in found.tiers)
    save(seal(found.model_copy(update={"tiers": tiers})), tmp_path / "policy.json")
    (tmp_path / "goldless.toml").write_text("[serve.resilience]\nescalation_money = 1.0\n")
    assert "has no price" in complains(tmp_path)
