"""Arize Phoenix, a tracing backend of other people's, in a process and an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from vllm_process import end_group, free_port

from curator.engines.cache import cache_folder, locked

VERSION = "20.26.1"


def environment() -> Path:
    """The folder of its programs. It is installed once, beside the environments of the checkouts: its more than a
    hundred packages have no place among ours. About a minute, 850 MB."""
    folder = cache_folder("receivers") / f"phoenix-{VERSION}-{sys.version_info.major}.{sys.version_info.minor}"
    with locked(folder.with_suffix(".lock")):
        if not (folder / ".complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            install = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "-q", "install"]
            subprocess.run([*install, f"arize-phoenix=={VERSION}"], check=True)
            (folder / ".complete").touch()
    return folder / "bin"


@contextmanager
def serving_phoenix(folder: Path) -> Iterator[str]:
    """Its URL, which takes OTLP over HTTP, until the end of the block. It keeps what it has in `folder`."""
    port = free_port()
    settings = {
        "PHOENIX_WORKING_DIR": str(folder),
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": str(port),
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_TELEMETRY_ENABLED": "false",
        "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
    }
    log, command = folder / "log", [str(environment() / "phoenix"), "serve"]
    # What is ours to import is not its.
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    with log.open("w") as output:
        server = subprocess.Popen(
            command, env=inherited | settings, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait(server, f"http://127.0.0.1:{port}/healthz", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        end_group(server)


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    pytest.fail(f"Phoenix did not come up:\n{log.read_text()[-3000:]}")
