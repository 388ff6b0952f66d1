"""`goldless bill`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from cascade.gateway.ledger import Ledger, LedgerSettings
from cascade.gateway.ledger_files import SUFFIX, Entry
from cli.main import app
from curator.types import Usage

NIGHT = datetime(2026, 11, 26, 23, 59, tzinfo=UTC)


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["bill", *map(str, arguments)])


def rows(*arguments: str | Path) -> list[dict]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return [orjson.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two days, two tiers, two keys; one attempt that nobody told of, one estimated, one without a price."""
    ledger = Ledger(LedgerSettings(folder=tmp_path / "ledger", rows=3))
    next_day = [NIGHT + timedelta(minutes=minutes) for minutes in (2, 3, 4, 5)]
    given = [
        Entry(NIGHT, "q1", "a", "small", "m1", "draft", Usage(10, 1, 4), 0.1, "USD"),
        Entry(NIGHT, "q1", "a", "strong", "m2", "answer", Usage(10, 2), 1.0, "USD", True),
        Entry(next_day[0], "q2", "b", "small", "m1", "answer", Usage(20, 3), 0.2, "USD", True),
        Entry(next_day[1], "q3", "b", "small", "m1", "aborted", Usage(5, 1), 0.05, "USD", estimated=True),
        Entry(next_day[2], "q3", "b", "strong", "m2", "retry", None, None, "USD", error="ServerError"),
        Entry(next_day[3], "q3", "b", "strong", "m2", "answer", Usage(7, 7), None, "USD", False),
    ]
    for entry in given:
        ledger.put(entry)
    ledger.close()
    return tmp_path / "ledger"


def test_a_bill_by_tier(folder: Path) -> None:
    small, strong = rows(folder)
    assert small == {
        "tier": "small", "attempts": 3, "input_tokens": 35, "output_tokens": 5, "cached_tokens": 4,
        "cost": pytest.approx(0.35), "unknown": 0, "estimated": 1, "unpriced": 0, "currency": "USD",
    }  # fmt: skip
    assert (strong["attempts"], strong["input_tokens"], strong["cost"]) == (3, 17, 1.0)
    assert (strong["unknown"], strong["unpriced"]) == (1, 1)


def test_a_bill_can_be_split_and_narrowed(folder: Path) -> None:
    found = rows(folder, "--by", "key", "--by", "day", "--by", "key")
    assert [(row["key"], row["day"], row["attempts"]) for row in found] == [
        ("a", "2026-11-26", 2),
        ("b", "2026-11-27", 4),
    ]
    assert [row["kind"] for row in rows(folder, "--by", "kind", "--key", "b")] == ["aborted", "answer", "retry"]
    assert [row["model"] for row in rows(folder, "--by", "model", "--until", "2026-11-26")] == ["m1", "m2"]
    assert sum(row["attempts"] for row in rows(folder, "--since", "2026-11-27")) == 4
    assert rows(folder, "--since", "2027-01-01") == []
    assert rows(folder, "--key", "' OR true --") == []


def test_the_table_has_a_total(folder: Path) -> None:
    done = run(folder)
    assert done.exit_code == 0
    last = done.stdout.strip().splitlines()[-1].split()
    assert last == ["total", "6", "52", "14", "4", "1.350", "1", "1", "1", "USD"]


def test_one_file_is_a_ledger_too(folder: Path) -> None:
    assert sum(row["attempts"] for row in rows(min(folder.iterdir()))) == 3


def test_files_that_cannot_be_read_are_said_and_left_out(folder: Path) -> None:
    (folder / f"9{SUFFIX}").write_bytes(b"PAR1 but no more")
    pq.write_table(pa.table({"time": [1]}), folder / f"8{SUFFIX}")
    done = run(folder, "--json")
    assert done.exit_code == 3
    assert sum(orjson.loads(line)["attempts"] for line in done.stdout.splitlines()) == 6
    assert f"9{SUFFIX}" in done.stderr
    assert "it has no column 'cached_tokens'" in done.stderr


def test_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, said in (((), "which ledger?"), ((tmp_path,), "holds no file"), (("nowhere",), "does not exist")):
        done = run(*arguments)
        assert done.exit_code == 2
        assert said in done.stderr
    (tmp_path / "goldless.toml").write_text('[serve]\nledger = "here"\n')
    assert "here does not exist" in run().stderr
