"""curator/engines/guard.py: what was guarded ends with this process, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from curator.engines.guard import Guard, descendants

PARENT = """
import subprocess, sys, time
from curator.engines.guard import Guard
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
guard = Guard([child.pid])
print(child.pid, flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_process_takes_its_engine_along(number):
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert alive(child)
        os.kill(parent.pid, number)
        parent.wait()
    deadline = time.monotonic() + 20
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)


def test_released_processes_are_left_alone():
    with subprocess.Popen(["sleep", "600"]) as process:
        Guard([process.pid]).release()
        time.sleep(0.2)
        assert alive(process.pid)
        process.kill()


def test_descendants_are_found_at_any_depth():
    before = descendants(os.getpid())
    with subprocess.Popen(["sh", "-c", "sleep 600 & wait"]) as shell:
        deadline = time.monotonic() + 10
        while len(descendants(os.getpid()) - before) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        started = descendants(os.getpid()) - before
        assert shell.pid in started
        assert len(started) == 2
        for pid in started:
            os.kill(pid, signal.SIGKILL)


def test_nothing_to_guard():
    Guard([]).release()
