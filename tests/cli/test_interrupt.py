"""Ctrl-C once and twice, with real signals in a real process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.interrupt import run

ROOT = Path(__file__).parents[2]
WORK = """
import asyncio, sys, time
from cli.interrupt import run
async def work():
    print("ready", flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        print("flushing", flush=True)
        {after}
        print("flushed", flush=True)
try:
    run(work(), lambda text: print(text.split(":")[0], flush=True))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def started(after: str) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", WORK.format(after=after)], stdout=subprocess.PIPE, text=True, env=env
    )


def read_until(process: subprocess.Popen[str], wanted: str) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if lines[-1] == wanted:
            break
    return lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_once_finishes_the_flush(number: signal.Signals) -> None:
    with started("await asyncio.sleep(0.2)") as process:
        read_until(process, "ready")
        process.send_signal(number)
        assert sorted(read_until(process, "interrupted")) == ["flushed", "flushing", "interrupted", "stopping"]
        assert process.wait(10) == 0


@pytest.mark.parametrize("after", ["await asyncio.sleep(60)", "time.sleep(60)"], ids=["waiting", "busy"])
def test_twice_leaves_at_once(after: str) -> None:
    with started(after) as process:
        read_until(process, "ready")
        process.send_signal(signal.SIGINT)
        read_until(process, "flushing")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stdout is not None
        assert "flushed" not in process.stdout.read()


def test_without_a_signal_the_result_comes_back_and_the_handlers_too() -> None:
    async def work() -> int:
        return 3

    before = signal.getsignal(signal.SIGINT)
    assert run(work(), print) == 3
    assert signal.getsignal(signal.SIGINT) is before


def test_a_cancellation_from_within_is_no_interruption() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run(work(), print)
