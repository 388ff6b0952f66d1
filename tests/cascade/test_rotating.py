from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascade.rotating import Layout, RotatingWriter, Rotation, files_in
from curator.errors import SourceError

SUFFIX = ".numbers.parquet"


def row(number: int) -> Mapping[str, object]:
    if number < 0:
        raise TypeError("no such number")
    return {"number": number}


def writer(folder: Path, *, keep: bool = False, **rotation: float) -> RotatingWriter[int]:
    schema = pa.schema([("number", pa.int64())])
    layout = Layout("number", SUFFIX, row, lambda rows: pa.Table.from_pylist(list(rows), schema), keep)
    return RotatingWriter(Rotation(folder=folder, **rotation), layout)


def files(folder: Path) -> list[list[int]]:
    return [pq.read_table(file)["number"].to_pylist() for file in files_in(folder, SUFFIX, "number")]


def numbers(folder: Path) -> list[int]:
    return [number for file in files(folder) for number in file]


def waits_for(done: object) -> None:
    until = time.monotonic() + 10
    while not done() and time.monotonic() < until:  # type: ignore[operator]
        time.sleep(0.01)


def test_full_files_are_written_at_once_and_the_rest_at_the_end(tmp_path: Path) -> None:
    made = writer(tmp_path, rows=3, seconds=3600)
    for number in range(8):
        made.put(number)
    waits_for(lambda: made.counts.written >= 6)
    assert made.counts.written == 6
    made.close()
    found = files(tmp_path)
    assert numbers(tmp_path) == list(range(8))
    assert max(map(len, found)) == 3


def test_nobody_is_woken_for_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[int] = []
    made = writer(tmp_path, rows=1000, seconds=3600)
    due = made._due.set
    monkeypatch.setattr(made._due, "set", lambda: (woken.append(1), due()))
    for number in range(1002):
        made.put(number)
    assert len(woken) <= 3
    made.close()
    assert numbers(tmp_path) == list(range(1002))


@pytest.mark.parametrize("bad", [-1, 1 << 70])
def test_what_cannot_be_written_stops_nothing(tmp_path: Path, bad: int) -> None:
    made = writer(tmp_path, rows=1, seconds=3600)
    for number in (1, bad, 2):
        made.put(number)
    made.close()
    assert numbers(tmp_path) in ([1, 2], [2], [1])
    assert made.counts.failed >= 1
    assert made.counts.failed + made.counts.written == 3


def test_a_disk_that_comes_back_gets_what_was_kept_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "numbers"
    made = writer(folder, keep=True, rows=2, seconds=0)
    folder.rmdir()
    for number in range(4):
        made.put(number)
    waits_for(lambda: made._kept)
    folder.mkdir()
    made.put(4)
    waits_for(lambda: made.counts.written == 5)
    made.close()
    assert numbers(folder) == [0, 1, 2, 3, 4]
    assert (made.counts.failed, made.counts.dropped) == (0, 0)


def test_what_is_lost_in_the_end_is_counted(tmp_path: Path) -> None:
    folder = tmp_path / "numbers"
    made = writer(folder, keep=True, rows=10, seconds=3600)
    folder.rmdir()
    made.put(1)
    made.close()
    assert (made.counts.failed, made.counts.written) == (1, 0)
    assert not any(thread.name == "goldless-numbers" for thread in threading.enumerate())


def test_there_must_be_something_to_read(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds no file named \*\.numbers\.parquet"):
        files_in(tmp_path, SUFFIX, "number")
    with pytest.raises(SourceError, match="does not exist"):
        files_in(tmp_path / "none", SUFFIX, "number")
    (tmp_path / "one").write_text("")
    assert files_in(tmp_path / "one", SUFFIX, "number") == [tmp_path / "one"]
