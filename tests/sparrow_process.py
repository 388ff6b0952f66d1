"""`sparrow-decider serve`: a real System One server of 2.2 million parameters, from its wheel."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

GENERAL, ROBOT = "sparrow-nano-general-v1.1", "sparrow-nano-robot-v1.2"

_PROGRAM = """
import http.server, sys, sparrow_decider.cli as cli
class Server(http.server.ThreadingHTTPServer):
    def __init__(self, address, handler):
        super().__init__(address, handler)
        print(self.server_address[1], flush=True)
cli.ThreadingHTTPServer = Server
cli.main(["--model", sys.argv[1], "serve", "--port", "0"])
"""
"""The command, but that it says which free port it took."""


@contextmanager
def serving_sparrow(model: str = GENERAL) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its base URL; killed at the end if it is still there."""
    command = [sys.executable, "-c", _PROGRAM, model]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield process, f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
    finally:
        process.kill()
        process.communicate()
