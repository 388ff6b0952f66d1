"""Files of a ledger merged: no entry lost, none twice, also where a merge was cut short."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cascade.gateway.ledger import Ledger, LedgerSettings
from cascade.gateway.ledger_files import SUFFIX, Entry, to_row, to_table
from cascade.gateway.ledger_merge import ledger_files, merge
from cascade.rotating import EVERY
from curator.types import Usage

START = datetime(2026, 11, 26, 12, tzinfo=UTC)


def entry(number: int) -> Entry:
    usage = None if number % 7 == 0 else Usage(number, number % 3)
    cost = None if usage is None else number * 1e-7
    return Entry(START + timedelta(seconds=number), f"r{number}", "k", "small", "m", "answer", usage, cost, "USD")


def write(folder: Path, file: int, *numbers: int) -> Path:
    path = folder / f"20261126T1200{file:02d}000000-1-abc-{file:06d}{SUFFIX}"
    pq.write_table(to_table([to_row(entry(number)) for number in numbers]), path)
    return path


def requests(folder: Path) -> list[str]:
    """In the order in which they are read."""
    return [name for file in ledger_files(folder) for name in pq.read_table(file)["request"].to_pylist()]


def test_small_files_become_one_with_all_entries_in_order(tmp_path: Path) -> None:
    tables = [pq.read_table(write(tmp_path, file, 2 * file, 2 * file + 1)) for file in range(10)]
    assert merge(tmp_path, fewest=11) == 0
    assert merge(tmp_path, fewest=10) == 10
    (merged,) = ledger_files(tmp_path)
    assert list(tmp_path.glob(f"*{SUFFIX}*")) == [merged]
    assert pq.read_table(merged).to_pylist() == [row for table in tables for row in table.to_pylist()]
    # Again, with what has come since; a large file is left alone.
    for file in range(20, 24):
        write(tmp_path, file, 2 * file, 2 * file + 1)
    assert merge(tmp_path, fewest=2, large=20) == 4
    assert len(ledger_files(tmp_path)) == 2
    assert merge(tmp_path, fewest=2) == 2
    assert requests(tmp_path) == [f"r{number}" for number in (*range(20), *range(40, 48))]


def test_a_merge_that_was_cut_short_counts_nothing_twice(tmp_path: Path) -> None:
    folder, kept = tmp_path / "ledger", tmp_path / "kept"
    folder.mkdir()
    for file in range(4):
        write(folder, file, file)
    shutil.copytree(folder, kept)
    merge(folder, fewest=2)
    # As after a kill before the first was removed, and before the last was.
    for left in (slice(0, 4), slice(3, 4)):
        for file in sorted(kept.glob(f"*{SUFFIX}"))[left]:
            shutil.copy(file, folder)
        assert requests(folder) == ["r0", "r1", "r2", "r3"]
        assert merge(folder, fewest=99) == 0
        assert len(list(folder.glob(f"*{SUFFIX}"))) == 1
    # As after one in the middle of writing: the file has not got its name yet.
    write(folder, 9, 9)
    (folder / f"20261126T120000-merged-0{SUFFIX}.writing").write_bytes(b"PAR1 half")
    assert requests(folder) == ["r0", "r1", "r2", "r3", "r9"]


def test_what_is_no_ledger_file_stays_and_one_merges_at_a_time(tmp_path: Path) -> None:
    for file in range(3):
        write(tmp_path, file, file)
    broken = tmp_path / f"20261126T120001000000-x{SUFFIX}"
    broken.write_bytes(b"PAR1 half")
    lock = os.open(tmp_path / ".merging", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert merge(tmp_path, fewest=2) == 0
    os.close(lock)
    assert merge(tmp_path, fewest=2) == 3
    assert broken.read_bytes() == b"PAR1 half"
    assert len(ledger_files(tmp_path)) == 2


def test_a_ledger_that_writes_much_keeps_few_files_and_its_totals(tmp_path: Path) -> None:
    count = 0
    for _ in range(2):
        ledger = Ledger(LedgerSettings(folder=tmp_path, rows=1, seconds=0))
        for _ in range(2 * EVERY):
            ledger.put(entry(count))
            count += 1
        ledger.close()
        assert ledger.counts.written == 2 * EVERY
    assert len(ledger_files(tmp_path)) < 3 * EVERY, "it was merged at the start at the latest"
    assert Counter(requests(tmp_path)) == Counter(f"r{number}" for number in range(count))
    rows = [row for file in ledger_files(tmp_path) for row in pq.read_table(file).to_pylist()]
    known = [entry(number).cost or 0.0 for number in range(count)]
    assert sum(row["cost"] or 0.0 for row in rows) == pytest.approx(sum(known), rel=1e-12)
