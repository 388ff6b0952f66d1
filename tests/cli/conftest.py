"""A mock server of OpenAI's API, and a folder with documents and settings that use it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from benchmarks.mock_server import MockServer
from cli.main import app

Serve = Callable[[MockServer], MockServer]


@contextmanager
def serving(server: MockServer) -> Iterator[MockServer]:
    """Run `server` in a thread of its own."""
    ready, loop = threading.Event(), asyncio.new_event_loop()

    async def run() -> None:
        async with server:
            ready.set()
            await stopped.wait()

    stopped = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
        loop.close()


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(serving(server))


@dataclass
class Project:
    """A folder with goldless.toml and the documents that it names; `run` runs a command in it."""

    folder: Path
    url: str
    texts: list[str]
    runner: CliRunner = field(default_factory=CliRunner)

    @property
    def settings(self) -> Path:
        return self.folder / "goldless.toml"

    def write(self, extra: str = "", **engine: object) -> None:
        """Write documents and settings; `extra` is more TOML."""
        rows = [{"id": f"d{i}", "text": text} for i, text in enumerate(self.texts)]
        (self.folder / "docs.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        lines = "".join(f"{name} = {orjson.dumps(value).decode()}\n" for name, value in engine.items())
        self.settings.write_text(
            '[source]\nuri = "docs.jsonl"\n'
            '[task]\ninstruction = "Good or bad?"\n'
            '[task.fields.label]\nkind = "choice"\nlabels = ["positive", "negative"]\n'
            f'[engine]\nspec = "{self.url}#mock?dialect=chat"\n{lines}'
            f"[dedup]\nnear = false\n{extra}",
            encoding="utf-8",
        )

    def run(self, *arguments: str, stdin: str | None = None) -> Result:
        return self.runner.invoke(app, [arguments[0], "-c", str(self.settings), *arguments[1:]], input=stdin)

    def ok(self, *arguments: str) -> Result:
        done = self.run(*arguments)
        assert done.exit_code == 0, (done.stdout, done.stderr, done.exception)
        return done

    def json(self, *arguments: str) -> list[dict]:
        return [orjson.loads(line) for line in self.ok(*arguments, "--json").stdout.splitlines()]


@pytest.fixture
def project(tmp_path: Path, serve: Serve) -> Project:
    """Forty documents, a server that answers at once."""
    server = serve(MockServer())
    made = Project(tmp_path, server.url, [f"film number {i} was {'good' if i % 3 else 'dull'}" for i in range(40)])
    made.write()
    return made
