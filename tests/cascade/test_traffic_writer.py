from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from killing import killed_beyond
from traffic_builders import decided, generated

from cascade.traffic_files import SUFFIX, read_traffic
from cascade.traffic_writer import TrafficSettings, TrafficWriter
from curator.errors import ConfigError

HERE = Path(__file__).parent


def ids(folder: Path) -> list[str]:
    found = list(read_traffic(folder))
    assert all(row.record for row in found), found
    return [row.record.id for row in found if row.record]


def test_files_end_by_rows_and_at_closing(tmp_path: Path) -> None:
    writer = TrafficWriter(TrafficSettings(folder=tmp_path / "new" / "traffic", rows=4))
    assert all(writer.put(decided(number)) for number in range(10))
    writer.close()
    writer.close()
    assert len(list((tmp_path / "new" / "traffic").glob(f"*{SUFFIX}"))) == 3
    assert ids(tmp_path / "new" / "traffic") == [f"q{number}" for number in range(10)]
    assert (writer.counts.written, writer.counts.dropped, writer.counts.failed) == (10, 0, 0)


def test_a_file_ends_by_time(tmp_path: Path) -> None:
    writer = TrafficWriter(TrafficSettings(folder=tmp_path, seconds=0.05))
    writer.put(decided(1))
    until = time.monotonic() + 10
    while not writer.counts.written and time.monotonic() < until:
        time.sleep(0.01)
    assert ids(tmp_path) == ["q1"]
    writer.close()


def test_content_is_kept_only_where_it_was_asked_for(tmp_path: Path) -> None:
    for content in (False, True):
        folder = tmp_path / str(content)
        writer = TrafficWriter(TrafficSettings(folder=folder, content=content))
        for record in (decided(1, text="secret text"), generated(2)):
            writer.put(record)
        writer.close()
        records = [row.record for row in read_traffic(folder) if row.record]
        assert [item.request is not None for item in records] == [content, content]
        assert all(answer.key for item in records for answer in item.answers)
        assert any(b"secret" in file.read_bytes() for file in folder.iterdir()) is content


def test_the_request_path_never_waits(tmp_path: Path) -> None:
    """Records are dropped and counted where the disk is slower than the traffic."""
    writer = TrafficWriter(TrafficSettings(folder=tmp_path, rows=1, queue=10))
    record, longest = decided(1), 0.0
    for _ in range(3000):
        started = time.perf_counter()
        writer.put(record)
        longest = max(longest, time.perf_counter() - started)
    assert writer.counts.dropped > 0
    writer.close()
    assert writer.counts.written + writer.counts.dropped == 3000
    assert longest < 0.5


def test_a_record_that_cannot_be_written_costs_no_other(tmp_path: Path) -> None:
    writer = TrafficWriter(TrafficSettings(folder=tmp_path, content=True))
    for record in (decided(1), decided(2, text="half a pair \ud800"), decided(3)):
        writer.put(record)
    writer.close()
    assert ids(tmp_path) == ["q1", "q3"]
    assert writer.counts.failed == 1


def test_a_disk_that_takes_nothing_stops_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "traffic"
    writer = TrafficWriter(TrafficSettings(folder=folder, rows=1))
    folder.rmdir()
    writer.put(decided(1))
    until = time.monotonic() + 10
    while not writer.counts.failed and time.monotonic() < until:
        time.sleep(0.01)
    folder.mkdir()
    writer.put(decided(2))
    writer.close()
    assert ids(folder) == ["q2"]
    assert writer.counts.failed == 1


def test_many_threads_may_put(tmp_path: Path) -> None:
    writer = TrafficWriter(TrafficSettings(folder=tmp_path, rows=64))
    threads = [
        threading.Thread(target=lambda base=base: [writer.put(decided(base + n)) for n in range(200)])
        for base in range(0, 1000, 200)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert sorted(ids(tmp_path)) == sorted(f"q{number}" for number in range(1000))


def test_a_kill_leaves_no_half_file(tmp_path: Path) -> None:
    for _ in range(3):
        written = killed_beyond(HERE / "killed_writer.py", tmp_path, 150)
        assert len(ids(tmp_path)) >= written > 0


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        TrafficWriter(TrafficSettings(folder=tmp_path / "file" / "traffic"))
