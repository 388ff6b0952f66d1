"""Processes that must not outlive this one.

vLLM's engine runs in processes of its own, and a `kill -9` of this one leaves them behind, holding
the model's memory and often a whole core. So a small shell waits on a pipe that only this process
keeps open: however this process ends, the pipe closes, and what is left of them is killed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Collection
from pathlib import Path

_WAIT_THEN_KILL = 'cat > /dev/null; kill -9 "$@" 2> /dev/null'


def descendants(pid: int) -> set[int]:
    """The processes that `pid` has started, and those that these have. Empty where there is no /proc."""
    found: set[int] = set()
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(map(int, file.read_text().split()))
    return found.union(*map(descendants, found))


class Guard:
    """Kills `pids` when this process is gone, unless `release` came first. Does nothing without a POSIX shell."""

    def __init__(self, pids: Collection[int]) -> None:
        self._shell: subprocess.Popen[bytes] | None = None
        if os.name != "posix" or not pids:
            return
        with contextlib.suppress(OSError):
            self._shell = subprocess.Popen(
                ["/bin/sh", "-c", _WAIT_THEN_KILL, "goldless-guard", *map(str, pids)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # A Ctrl-C in the terminal is for this process to handle, not for its guard.
                start_new_session=True,
            )

    def release(self) -> None:
        """The processes have ended in order: watch no longer."""
        if self._shell is not None and self._shell.stdin is not None:
            self._shell.kill()
            self._shell.stdin.close()
            self._shell.wait()
        self._shell = None
