"""The demo's server: the real gateway, the real client, the real SDK; only the models are scripted."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import duckdb
import pytest

pytest.importorskip("opentelemetry.sdk", reason="the otel extra is not installed")
pytest.importorskip("openai")

from cli.demo_serving import Billed, Demonstrated

ROOT = Path(__file__).parents[2]


def served(folder: Path, *words: str) -> dict:
    command = [sys.executable, str(ROOT / "tests" / "cli" / "served_demo.py"), str(folder), *words]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "cascade")))
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths}, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


def test_requests_trace_bill_and_a_clean_stop(tmp_path: Path) -> None:
    found = served(tmp_path)
    assert (found["decisions"], found["chat"], found["escalated"]) == (40, "it says much", True)
    heads = [line.split("  ")[0] for line in found["trace"]]
    assert heads == ["invoke_workflow cascade", "├─ chat small", "├─ cascade.decide", "└─ chat strong"]
    assert "served by strong, teacher, certified" in found["trace"][0]
    assert "escalate: " in found["trace"][2]
    assert "score 0.600, threshold 0.800" in found["trace"][2]
    # What is shown is what the ledger on disk adds up to: audits, too.
    sums = duckdb.sql(
        f"SELECT tier, count(*), sum(input_tokens), sum(cost) FROM '{tmp_path}/ledger/*.parquet' GROUP BY tier"
    ).fetchall()
    assert {name: (sum(one["calls"].values()), one["input_tokens"]) for name, one in found["bill"].items()} == {
        name: (count, tokens) for name, count, tokens, _ in sums
    }
    assert found["cost"] == pytest.approx(sum(cost for *_, cost in sums))
    assert found["bill"]["small"]["calls"] == {"answer": 39, "draft": 1}
    assert found["bill"]["strong"]["calls"]["answer"] == 2
    assert [row["tier"] for row in found["rows"]] == ["small", "strong"]
    address = urlsplit(found["address"])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.hostname, address.port), timeout=5)


def test_tiers_that_do_not_chat_are_no_failure(tmp_path: Path) -> None:
    found = served(tmp_path, "mute")
    assert (found["chat"], found["decisions"]) == ("", 40)
    assert "chat" not in found["said"]


@pytest.mark.parametrize(
    ("baseline", "said"),
    [
        (None, "3 decisions and a chat: 0.0300 USD"),
        (0.06, "3 decisions and a chat: 0.0300 USD, the last tier alone 0.0600 USD (50% saved)"),
        (0.02, "3 decisions and a chat: 0.0300 USD, the last tier alone 0.0200 USD (50% more)"),
    ],
)
def test_the_bill_in_a_sentence(baseline: float | None, said: str) -> None:
    bill = [Billed("small", {"answer": 2}, 10, 0, 0.01), Billed("strong", {"answer": 1, "audit": 1}, 5, 7, 0.02)]
    assert Demonstrated("", 3, "hm", (), True, bill, baseline, "USD").said == said
