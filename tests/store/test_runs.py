from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from store_builders import corpus, decided, failed, key_of, link

from curator.errors import StoreCorruptError, StoreError, StoreFullError, StoreLockedError
from curator.journal import DAMAGED, leftover
from curator.store import Run, Store, runs

KILLS = 6
ROWS = 15_000

HOLD = """
import os, sys, time
from curator.store import Store
store = Store(sys.argv[1])
with store.run("hold on", {}) as run:
    child = os.fork() if sys.argv[2] == "fork" else 0
    if sys.argv[2] != "fork" or child:
        print(child, flush=True)
    time.sleep(60)
"""


def start(*arguments: object) -> subprocess.Popen[str]:
    here = Path(__file__)
    environment = {**os.environ, "PYTHONPATH": f"{here.parents[2]}:{here.parent}"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def counts(store: Store) -> tuple[int, int]:
    status = store.status()
    return status.completions, status.annotations.get("task", 0)


def append_unflushed(store: Store, monkeypatch: pytest.MonkeyPatch, *names: object) -> Path:
    """Leave records in the journal as a killed run would, and return their segment."""
    with monkeypatch.context() as patched:
        patched.setattr(runs.Run, "flush", lambda self: None)
        with store.run("killed", {}) as run:
            for name in names:
                run.append(decided(name))
    (path,) = leftover(store.journal_folder)
    return path


def append_and_fail(store: Store) -> None:
    with store.run("test", {}) as run:
        run.append(decided("x"))
        raise ZeroDivisionError


def append_until_it_fails(run: Run) -> None:
    for number in range(1, 10_000):
        run.append(decided(number))
        time.sleep(0.002)


def test_a_run_flushes_while_it_goes(store, monkeypatch):
    monkeypatch.setattr(runs, "FLUSH_SECONDS", 0.01)
    with store.run("test", {}) as run:
        run.append(decided("x"))
        deadline = time.monotonic() + 30
        while not store.known([key_of("x")]) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert store.known([key_of("x")]) == {key_of("x"): None}
    assert leftover(store.journal_folder) == []


def test_a_run_knows_what_is_only_in_its_journal(store):
    with store.run("test", {}) as run:
        run.append(decided("x"))
        run.append(failed("y"))
        keys = [key_of(name) for name in "xyz"]
        assert store.known(keys) == {}
        assert run.known(keys) == {keys[0]: None, keys[1]: "refusal"}
        run.flush()
        assert run.known(keys) == store.known(keys) == {keys[0]: None, keys[1]: "refusal"}


def test_runs_are_recorded_with_how_they_ended(store):
    with store.run("first", {"limit": 3}):
        running = store.running()
        assert running is not None
        assert (running.command, running.pid, running.status) == ("first", os.getpid(), "running")
    for error in (KeyboardInterrupt, asyncio.CancelledError, ZeroDivisionError):
        with pytest.raises(error), store.run(error.__name__, {}):
            raise error
    found = {run.command: run.status for run in store.runs()}
    assert found == {
        "first": "done",
        "KeyboardInterrupt": "interrupted",
        "CancelledError": "interrupted",
        "ZeroDivisionError": "failed",
    }
    assert store.runs()[-1].config == {"limit": 3}
    assert store.running() is None


def test_what_a_failed_run_appended_is_kept(store):
    with pytest.raises(ZeroDivisionError):
        append_and_fail(store)
    assert counts(store) == (1, 0)


def test_a_second_run_is_refused_with_the_first_ones_name_while_readers_go_on(store):
    store.add_documents([corpus("a")], source="s", run_id="r")
    other = start("-c", HOLD, store.path, "plain")
    assert line(other)
    with pytest.raises(StoreLockedError) as caught, store.run("second", {}):
        pass
    assert str(other.pid) in str(caught.value)
    assert "hold on" in str(caught.value)
    running = store.status().running
    assert running is not None
    assert running.pid == other.pid
    assert store.why("a")["document"]
    other.kill()
    other.communicate()
    assert store.running() is None
    with store.run("second", {}):
        pass
    assert [run.status for run in store.runs()] == ["done", "interrupted"]


def test_a_forked_child_does_not_hold_the_lock_of_a_killed_run(store):
    other = start("-c", HOLD, store.path, "fork")
    child = int(line(other))
    try:
        other.kill()
        other.wait()
        with store.run("next", {}):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        other.communicate()


def test_kill_9_loses_nothing_acknowledged_and_doubles_nothing(store):
    store.add_documents([corpus(*(f"doc-{number}" for number in range(ROWS)))], source="s", run_id="r")
    script = Path(__file__).with_name("killed_run.py")
    chooser = random.Random(7)
    killed = 0
    while True:
        worker = start(script, store.path, ROWS)
        assert line(worker) == "begin\n"
        if killed == KILLS:
            worker.communicate()
            break
        time.sleep(chooser.uniform(0.0, 0.25))
        worker.send_signal(signal.SIGKILL)
        acknowledged = [int(number) for number in worker.communicate()[0].split()]
        killed += worker.returncode == -signal.SIGKILL
        with store.run("recover", {}):
            pass
        assert set(store.known([key_of(number) for number in acknowledged])) == {key_of(n) for n in acknowledged}
    assert worker.returncode == 0
    assert counts(store) == (ROWS, ROWS)
    rows = [row for table in store.decisions("task") for row in table.to_pylist()]
    assert [row["document_id"] for row in rows] == [f"doc-{number}" for number in range(ROWS)]
    assert all(row["logprobs"] == [[-0.5, -1.0]] for row in rows)


def test_a_segment_is_loaded_once_even_if_the_kill_came_before_its_removal(store, monkeypatch):
    path = append_unflushed(store, monkeypatch, "x", "y")
    content = path.read_bytes()
    with store.run("next", {}):
        assert counts(store) == (2, 0)
    path.write_bytes(content)
    with store.run("again", {}):
        assert counts(store) == (2, 0)
    assert not path.exists()


def test_a_torn_last_line_is_ignored(store, monkeypatch):
    path = append_unflushed(store, monkeypatch, "x", "y")
    path.write_bytes(path.read_bytes()[:-7])
    with store.run("next", {}):
        pass
    assert counts(store) == (1, 0)
    assert list(store.journal_folder.iterdir()) == []


def test_a_damaged_segment_is_set_aside_and_stops_nothing(store, monkeypatch, caplog):
    path = append_unflushed(store, monkeypatch, "x", "y", "z")
    data = bytearray(path.read_bytes())
    data[data.index(b"\n") + 30] ^= 1
    path.write_bytes(bytes(data))
    with caplog.at_level(logging.WARNING), store.run("next", {}) as run:
        run.append(decided("new"))
    assert counts(store) == (3, 0)
    assert "damaged" in caplog.text
    assert path.with_name(path.name + DAMAGED).read_bytes() == bytes(data)


def test_a_line_of_another_version_is_set_aside_too(store, monkeypatch):
    path = append_unflushed(store, monkeypatch, "x")
    journal = runs.Journal(store.journal_folder, "99990101T000000-later")
    journal.append(b'["c",{"unknown":1}]')
    journal.append(b"not json")
    (first, second) = journal.rotate()
    with store.run("next", {}):
        pass
    assert counts(store) == (1, 0)
    assert (path.exists(), second.exists()) == (False, False)
    assert first == path
    assert second.with_name(second.name + DAMAGED).exists()


def test_status_tells_what_is_still_in_the_journal(store, monkeypatch):
    path = append_unflushed(store, monkeypatch, "x")
    assert store.status().pending_bytes == path.stat().st_size > 0


def test_a_corrupt_store_leaves_the_journal_alone(store, monkeypatch):
    path = append_unflushed(store, monkeypatch, "x")
    content = path.read_bytes()
    good = store.path.read_bytes()
    store.path.write_bytes(good[:12288] + os.urandom(len(good) - 12288))
    with pytest.raises(StoreCorruptError), store.run("next", {}):
        pass
    assert path.read_bytes() == content
    store.path.write_bytes(good)
    with store.run("next", {}):
        pass
    assert counts(store) == (1, 0)


def test_a_key_that_is_none_is_refused_at_once(store):
    with store.run("test", {}) as run:
        record = decided("x")
        with pytest.raises(StoreError, match="request key"):
            run.append(type(record)("short", record.engine, record.kind, record.answer))
    assert counts(store) == (0, 0)


def test_a_flush_that_fails_stops_the_run_until_one_succeeds(store, monkeypatch):
    monkeypatch.setattr(runs, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(runs, "LONGEST_PAUSE", 0.01)
    broken = threading.Event()
    load = runs.load_segments

    def sometimes(*arguments: object) -> int:
        if broken.is_set():
            raise StoreFullError("no space")
        return load(*arguments)

    monkeypatch.setattr(runs, "load_segments", sometimes)
    broken.set()
    with store.run("test", {}) as run:
        run.append(decided(0))
        with pytest.raises(StoreFullError):
            append_until_it_fails(run)
        broken.clear()
        run.flush()
        run.append(decided("after"))
    assert counts(store)[0] >= 2
    assert set(store.known([key_of(0), key_of("after")])) == {key_of(0), key_of("after")}


def test_a_reader_that_takes_long_only_delays_a_flush(store, monkeypatch, caplog):
    monkeypatch.setattr(runs, "FLUSH_SECONDS", 0.01)
    monkeypatch.setattr(store._database, "wait", 0.05)
    # The command line sets the level of our own logger, in this process too where its tests ran before.
    with caplog.at_level(logging.INFO, logger="curator"), store.run("test", {}) as run:
        with store._database.reading():
            run.append(decided("x"))
            deadline = time.monotonic() + 30
            while "later" not in caplog.text and time.monotonic() < deadline:
                time.sleep(0.01)
            run.append(decided("y"))
        monkeypatch.setattr(store._database, "wait", 20)
    assert "loaded later" in caplog.text
    assert counts(store) == (2, 0)


def test_documents_that_are_linked_but_gone_do_no_harm(store):
    with store.run("test", {}) as run:
        run.append(decided("x"))
        run.append(link("nowhere", "x"))
    assert list(store.decisions("task")) == []
    assert store.why("nowhere")["annotations"]


def test_scratch_folders_of_killed_processes_are_removed(store):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old, young, alive = (
        store.path.with_name(f".{store.path.name}.{process}.{name}")
        for process, name in ((gone.pid, "old"), (gone.pid, "young"), (os.getpid(), "alive"))
    )
    for folder in (old, young, alive):
        folder.mkdir()
        (folder / "rows.parquet").write_text("")
    for folder in (old, alive):
        os.utime(folder, (0, 0))
    with store.run("next", {}):
        pass
    assert [folder.exists() for folder in (old, young, alive)] == [False, True, True]
