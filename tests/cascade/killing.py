"""A process that says how far it has come, killed on its way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def killed_beyond(script: Path, argument: Path, least: int) -> int:
    """Run `script argument`, which prints growing numbers, and kill it at one beyond `least`. The last that it said."""
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    process = subprocess.Popen(
        [sys.executable, str(script), str(argument)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert process.stdout is not None
    said = 0
    for line in process.stdout:
        said = int(line)
        if said > least:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    said = max([said, *map(int, process.stdout.read().split())])
    process.stdout.close()
    return said
