from __future__ import annotations

import logging
import os
import threading

import pytest

from curator import journal as module
from curator.errors import StoreError
from curator.journal import DAMAGED, Journal, leftover, read_segment, retire


def test_rotated_segments_hold_every_line_in_order(tmp_path):
    journal = Journal(tmp_path / "j", "run")
    journal.append(b"one")
    journal.append(b"two")
    first = journal.rotate()
    journal.append(b"three")
    both = journal.rotate()
    assert [read_segment(path).lines for path in first] == [(b"one", b"two")]
    assert [read_segment(path).lines for path in both] == [(b"one", b"two"), (b"three",)]
    assert leftover(tmp_path / "j") == both


def test_nothing_appended_leaves_no_file(tmp_path):
    journal = Journal(tmp_path / "j", "run")
    assert journal.rotate() == []
    assert not (tmp_path / "j").exists()


def test_a_line_is_on_disk_when_append_returns(tmp_path):
    journal = Journal(tmp_path / "j", "run")
    journal.append(b"payload")
    (path,) = leftover(tmp_path / "j")
    assert read_segment(path).lines == (b"payload",)


def test_a_full_segment_is_closed_by_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SEGMENT_BYTES", 50)
    journal = Journal(tmp_path / "j", "run")
    for number in range(10):
        journal.append(b"line %d" % number)
    paths = journal.rotate()
    assert len(paths) > 1
    assert [line for path in paths for line in read_segment(path).lines] == [b"line %d" % n for n in range(10)]


@pytest.mark.parametrize("kept", range(1, 16))
def test_a_torn_end_is_ignored_and_is_no_damage(tmp_path, kept):
    journal = Journal(tmp_path / "j", "run")
    journal.append(b"whole")
    journal.append(b"torn")
    (path,) = journal.rotate()
    whole = len(b"00000000 whole\n")
    data = path.read_bytes()
    path.write_bytes(data[: min(whole + kept, len(data) - 1)])
    segment = read_segment(path)
    assert segment.lines == (b"whole",)
    assert segment.damaged == 0


@pytest.mark.parametrize("damage", [b"X", b"\x00", b"\n"])
def test_a_damaged_line_is_left_out_and_the_others_are_read(tmp_path, damage):
    journal = Journal(tmp_path / "j", "run")
    for line in (b"first", b"second", b"third"):
        journal.append(line)
    (path,) = journal.rotate()
    data = bytearray(path.read_bytes())
    data[20:21] = damage
    path.write_bytes(bytes(data))
    segment = read_segment(path)
    assert segment.lines == (b"first", b"third")
    assert segment.damaged >= 1


def test_a_damaged_segment_is_set_aside_with_a_warning(tmp_path, caplog):
    journal = Journal(tmp_path / "j", "run")
    journal.append(b"line")
    (path,) = journal.rotate()
    data = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        retire(path, damaged=1)
    aside = path.with_name(path.name + DAMAGED)
    assert aside.read_bytes() == data
    assert leftover(tmp_path / "j") == []
    assert aside.name in caplog.text


def test_a_sound_segment_is_removed_and_removing_twice_is_fine(tmp_path):
    journal = Journal(tmp_path / "j", "run")
    journal.append(b"line")
    (path,) = journal.rotate()
    retire(path, damaged=0)
    retire(path, damaged=0)
    assert list((tmp_path / "j").iterdir()) == []


def test_an_unreadable_segment_counts_as_damage(tmp_path, caplog):
    folder = tmp_path / "run-00000001.journal"
    folder.mkdir()
    assert read_segment(folder).damaged == 1
    assert folder.name in caplog.text


def test_threads_append_while_another_rotates(tmp_path):
    journal = Journal(tmp_path / "j", "run")

    def write(name: int) -> None:
        for number in range(500):
            journal.append(b"%d:%d" % (name, number))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        journal.rotate()
    lines = [line for path in journal.rotate() for line in read_segment(path).lines]
    assert sorted(lines) == sorted(b"%d:%d" % (name, n) for name in range(3) for n in range(500))


def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as caught:
        Journal(tmp_path / "file" / "j", "run").append(b"line")
    assert "file" in str(caught.value)


def test_a_failed_write_leaves_no_half_line(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "j", "run")
    journal.append(b"first")
    write = os.write
    calls = iter([lambda file, data: write(file, data[:5]), _no_space])
    monkeypatch.setattr(module.os, "write", lambda file, data: next(calls)(file, data))
    with pytest.raises(StoreError, match="No space left"):
        journal.append(b"second")
    monkeypatch.undo()
    journal.append(b"third")
    (path,) = journal.rotate()
    assert read_segment(path).lines == (b"first", b"third")
    assert read_segment(path).damaged == 0


def _no_space(file: int, data: bytes) -> int:
    raise OSError(28, "No space left on device")
