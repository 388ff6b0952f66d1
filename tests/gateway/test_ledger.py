from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from killing import killed_beyond

from cascade.gateway.ledger import DAYS, Group, Ledger, LedgerSettings, Total
from cascade.gateway.ledger_files import SCHEMA, SUFFIX, Entry
from curator.errors import ConfigError
from curator.types import Usage

HERE = Path(__file__).parent
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def entry(number: int = 0, **changed: object) -> Entry:
    given = {"time": NOON, "request": f"r{number}", "key": "k", "tier": "small", "model": "m", "kind": "answer"}
    return Entry(**{**given, "usage": Usage(number, 2, 1), "cost": 0.5, "currency": "USD", **changed})


def rows(folder: Path) -> list[dict]:
    return [row for file in sorted(folder.glob(f"*{SUFFIX}")) for row in pq.read_table(file).to_pylist()]


def test_entries_are_written_as_they_are(tmp_path: Path) -> None:
    ledger = Ledger(LedgerSettings(folder=tmp_path / "new" / "ledger"))
    known = entry(7, certified=True, usage=Usage(5, 3, 2), kind="hedge")
    ledger.put(known)
    ledger.put(entry(8, usage=None, cost=None, error="ServerError", request="", key=""))
    ledger.put(entry(9, estimated=True))
    ledger.close()
    ledger.close()
    first, second, third = rows(tmp_path / "new" / "ledger")
    assert first == {
        "time": NOON, "request": "r7", "key": "k", "tier": "small", "model": "m", "kind": "hedge", "input_tokens": 5,
        "output_tokens": 3, "cached_tokens": 2, "estimated": False, "cost": 0.5, "currency": "USD", "certified": True,
        "error": "",
    }  # fmt: skip
    assert (second["input_tokens"], second["cost"], second["error"]) == (None, None, "ServerError")
    assert third["estimated"]
    assert list(first) == SCHEMA.names
    assert ledger.counts.written == 3


def test_totals_are_kept_by_day_tier_key_kind_and_currency() -> None:
    ledger = Ledger()
    for number in range(4):
        ledger.put(entry(number))
    ledger.put(entry(5, usage=None, cost=None))
    ledger.put(entry(6, cost=None))
    ledger.put(entry(1, estimated=True, kind="aborted", time=NOON + timedelta(days=1)))
    assert ledger.totals == {
        Group("2026-11-26", "small", "k", "answer", "USD"): Total(6, 12, 10, 5, 2.0, unknown=1, unpriced=1),
        Group("2026-11-27", "small", "k", "aborted", "USD"): Total(1, 1, 2, 1, 0.5, estimated=1),
    }
    ledger.close()


def test_old_days_are_added_up_so_that_memory_stays_bounded() -> None:
    ledger = Ledger()
    for day in range(3 * DAYS):
        ledger.put(entry(1, time=NOON + timedelta(days=day)))
    totals = ledger.totals
    assert len(totals) == DAYS + 1
    assert sum(total.attempts for total in totals.values()) == 3 * DAYS
    assert totals[Group("", "small", "k", "answer", "USD")].attempts == 2 * DAYS


def test_a_disk_that_takes_nothing_for_a_while_loses_no_entry(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    ledger = Ledger(LedgerSettings(folder=folder, rows=1, seconds=0))
    folder.rmdir()
    for number in range(5):
        ledger.put(entry(number))
    until = time.monotonic() + 10
    while ledger.counts.written == 0 and time.monotonic() < until:
        time.sleep(0.05)
        folder.mkdir(exist_ok=True)
    ledger.close()
    assert [row["request"] for row in rows(folder)] == [f"r{number}" for number in range(5)]
    assert (ledger.counts.written, ledger.counts.failed, ledger.counts.dropped) == (5, 0, 0)


def test_a_disk_that_takes_nothing_at_all_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    ledger = Ledger(LedgerSettings(folder=folder, rows=1, seconds=0, queue=3))
    folder.rmdir()
    for number in range(50):
        ledger.put(entry(number))
    ledger.close()
    counts = ledger.counts
    assert counts.written == 0
    assert counts.failed + counts.dropped == 50
    assert next(iter(ledger.totals.values())).attempts == 50


def test_a_kill_loses_at_most_what_was_not_written(tmp_path: Path) -> None:
    written = killed_beyond(HERE / "killed_ledger.py", tmp_path, 150)
    numbers = [int(row["request"]) for row in rows(tmp_path)]
    assert len(numbers) >= written > 150
    assert numbers == list(range(len(numbers)))


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        Ledger(LedgerSettings(folder=tmp_path / "file" / "ledger"))


METERED = """
from datetime import UTC, datetime, timedelta
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from cascade.gateway.ledger import Ledger, measure
from cascade.gateway.ledger_files import Entry
from curator.types import Usage

reader, ledger, now = InMemoryMetricReader(), Ledger(), datetime.now(UTC)
measure(ledger)
metrics.set_meter_provider(MeterProvider([reader]))
for days in (0, 1, 1):
    ledger.put(Entry(now + timedelta(days=days), "q", "k", "small", "m", "draft", Usage(5, 2), 0.25, "EUR"))
ledger.put(Entry(now, "q", "k", "small", "m", "draft", None, None, "EUR"))
print(reader.get_metrics_data().to_json())
"""


def test_totals_are_metrics() -> None:
    done = subprocess.run(
        [sys.executable, "-c", METERED], capture_output=True, text=True, check=True, cwd=HERE.parents[1]
    )
    (scope,) = json.loads(done.stdout)["resource_metrics"][0]["scope_metrics"]
    found = {
        (metric["name"], point["attributes"].get("gen_ai.token.type", "")): point["value"]
        for metric in scope["metrics"]
        for point in metric["data"]["data_points"]
        if point["attributes"] | {"gen_ai.token.type": ""}
        == {
            "cascade.tier": "small",
            "cascade.key": "k",
            "cascade.kind": "draft",
            "gen_ai.usage.cost.currency": "EUR",
            "gen_ai.token.type": "",
        }
    }
    assert found == {
        ("cascade.ledger.attempts", ""): 4,
        ("cascade.ledger.unknown", ""): 1,
        ("cascade.ledger.tokens", "input"): 15,
        ("cascade.ledger.tokens", "output"): 6,
        ("cascade.ledger.cost", ""): 0.75,
    }
