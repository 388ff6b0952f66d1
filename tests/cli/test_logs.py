"""Spans leave the machine where OTEL_* says so, and only there. Each run is a process of its own,
because OpenTelemetry's providers can be set once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the otel extra is not installed")
ROOT = Path(__file__).parents[2]
CODE = """
import typer
from cli.session import Session, command
from curator.telemetry import stage_span
app = typer.Typer()
def go(session):
    with stage_span("ingest"):
        session.out.text("data")
go.__annotations__["session"] = Session
command(app, "go", shared=())(go)
command(app, "other", shared=())(go)
app(["go"])
"""


class Receiver(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, bytes]] = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert isinstance(self.server, Receiver)
        self.server.seen.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def go(**variables: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    env |= {"PYTHONPATH": str(ROOT), **variables}
    return subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=env, check=False)


def test_an_endpoint_gets_spans_with_our_service_name(receiver: Receiver) -> None:
    address = f"http://127.0.0.1:{receiver.server_address[1]}"
    done = go(OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_EXPORTER_OTLP_COMPRESSION="none")
    assert (done.returncode, done.stdout) == (0, "data\n"), done.stderr
    traces = [body for path, body in receiver.seen if path == "/v1/traces"]
    assert len(traces) == 1
    assert b"goldless" in traces[0]
    assert b"ingest" in traces[0]


def test_the_service_can_be_named(receiver: Receiver) -> None:
    address = f"http://127.0.0.1:{receiver.server_address[1]}/v1/traces"
    done = go(
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=address, OTEL_SERVICE_NAME="my-labels", OTEL_EXPORTER_OTLP_COMPRESSION="none"
    )
    assert done.returncode == 0, done.stderr
    assert [path for path, _ in receiver.seen] == ["/v1/traces"]
    assert b"my-labels" in receiver.seen[0][1]


def test_the_console_exporter_leaves_stdout_to_the_data() -> None:
    done = go(OTEL_TRACES_EXPORTER="console")
    assert done.stdout == "data\n"
    assert '"trace_id"' in done.stderr


def test_an_exporter_that_is_not_there() -> None:
    done = go(OTEL_TRACES_EXPORTER="pigeon")
    assert done.returncode == 2
    assert "OTEL_TRACES_EXPORTER asks for 'pigeon'" in done.stderr


def test_without_variables_the_sdk_is_not_even_loaded() -> None:
    code = CODE.replace(
        'app(["go"])', 'app(["go"], standalone_mode=False)\nimport sys\nprint("opentelemetry.sdk" in sys.modules)'
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**env, "PYTHONPATH": str(ROOT)}, check=True
    )
    assert done.stdout.splitlines() == ["data", "False"]
