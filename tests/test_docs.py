"""What README.md and docs/ show is run: every Python block, every shell line, every settings block.

Blocks of one page run in order, in one temporary folder that holds a small corpus (`reviews.jsonl` and
its kin), Python blocks in one namespace. `http://localhost:8000/v1` is a mock server, and
`http://127.0.0.1:8080` is `goldless serve` in front of it, with the page's own policy.json if it made one. In a page:

- `<!-- not run: reason -->` directly above a block leaves it out; `NOT_RUN` below counts them;
- `<!-- prints -->` directly above a `text` block: the block before it prints exactly that;
- a block whose first line is a comment with a file name is written to that file, and not run.

Lines that begin with `make` are left out: CI itself is `make test`.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import importlib.util
import io
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from docs_server import serving
from route_builders import MOOD
from serving_process import cascade_of, saved, started

from cli.settings import Settings
from curator.types import DecideRequest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SERVER = "http://localhost:8000/v1"
GATEWAY = "http://127.0.0.1:8080"
NOT_RUN = {
    "README.md": 1,
    "benchmarks.md": 28,
    "cli.md": 1,
    "engines.md": 1,
    "gateway.md": 1,
    "methods.md": 1,
    "preferences.md": 1,
    "reasoning.md": 1,
    "training.md": 1,
}
"""Page -> how many of its blocks are not run. Raise a number only with a reason in the page."""
_FENCE = re.compile(r"^```(\w*)\s*$")
_FILE = re.compile(r"^# ([\w./-]+\.(?:py|toml))$")


@dataclass(frozen=True)
class Block:
    """A fenced block. `line` is that of its first line, `above` the comment directly above its fence."""

    page: str
    language: str
    text: str
    line: int
    above: str

    @property
    def reason(self) -> str:
        """Why it is not run, if so."""
        found = re.fullmatch(r"<!-- not run: (.+) -->", self.above)
        return found[1] if found else ""

    @property
    def file(self) -> str:
        """The file that it is the content of, if so."""
        found = _FILE.match(self.text.partition("\n")[0])
        return found[1] if found else ""

    @property
    def commands(self) -> list[str]:
        """Shell lines to run, continued ones joined."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [line for line in map(str.strip, lines) if line and not line.startswith(("#", "make"))]

    @property
    def runs(self) -> bool:
        return self.language in ("python", "bash", "toml") and not self.reason

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    found, lines = [], page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        if fence := _FENCE.match(lines[number]):
            end = lines.index("```", number + 1)
            text = "\n".join(lines[number + 1 : end])
            above = lines[number - 1].strip() if number else ""
            found.append(Block(page.name, fence[1], text, number + 2, above))
            number = end
        number += 1
    return found


class Reader:
    """Somebody who does all that a page says, in `folder`. What they start ends with `stack`."""

    def __init__(self, folder: Path, server: str, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.server = server
        self._stack = stack
        self._gateway = ""
        self.names: dict[str, object] = {"__name__": "__main__"}
        self.printed = ""

    def follow(self, block: Block) -> None:
        text = self._here(block.text) if block.runs else block.text
        if block.above == "<!-- prints -->":
            assert self.printed.strip() == block.text.strip(), f"{block} shows what is not printed:\n{self.printed}"
        elif not block.runs:
            return
        elif block.file:
            (self.folder / block.file).write_text(text + "\n", encoding="utf-8")
            if block.language == "toml":
                Settings.model_validate(tomllib.loads(text))
        elif block.language == "toml":
            Settings.model_validate(tomllib.loads(text))
        elif block.language == "python":
            self.printed = self._python(block, text)
        else:
            self.printed = "".join(self._shell(block, self._here(line)) for line in block.commands)

    def _here(self, text: str) -> str:
        """The text with the addresses of the servers that run."""
        if GATEWAY in text and not self._gateway:
            if not (self.folder / "policy.json").exists():
                specs = {name: f"{self.server}#{name}?dialect=decisions" for name in ("small", "strong")}
                saved(self.folder, cascade_of(specs, {DecideRequest("", (MOOD,)): {"mood": [0.8]}}))
            _, self._gateway = self._stack.enter_context(started(self.folder))
        return text.replace(SERVER, self.server).replace(GATEWAY, self._gateway or GATEWAY)

    def _python(self, block: Block, text: str) -> str:
        # Blank lines in front: a traceback then names the line of the page.
        code = compile("\n" * (block.line - 1) + text, block.page, "exec", dont_inherit=True)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(code, self.names)
        return out.getvalue()

    def _shell(self, block: Block, line: str) -> str:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", f"set -e -o pipefail; {line}"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PATH": path},
        )
        assert done.returncode == 0, f"{block}: {line}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with small stand-ins for a reader's own corpora."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = [orjson.loads(line) for line in (ROOT / "examples" / "reviews.jsonl").read_bytes().splitlines()]
    rows = [*rows[:24], rows[-2]]
    (tmp_path / "reviews.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    pq.write_table(pa.Table.from_pylist([{**row, "stars": 3} for row in rows]), tmp_path / "reviews.parquet")
    with (tmp_path / "reviews.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["review", "stars"])
        writer.writerows([row["text"], 3] for row in rows)
    (tmp_path / "notes").mkdir()
    for row in rows[:3]:
        (tmp_path / "notes" / f"{row['id']}.txt").write_text(row["text"], encoding="utf-8")
    yield tmp_path
    for name in [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]:
        del sys.modules[name]


def _marks(page: Path) -> list[pytest.MarkDecorator]:
    local = re.compile(r"(transformers|wheel):")
    real = any(block.runs and local.search(block.text) and not block.file for block in blocks(page))
    return [pytest.mark.engine, pytest.mark.timeout(1800)] if real else []


@pytest.mark.parametrize("page", [pytest.param(page, marks=_marks(page), id=page.name) for page in PAGES])
def test_what_a_page_shows_runs(page: Path, folder: Path) -> None:
    with contextlib.ExitStack() as stack:
        reader = Reader(folder, stack.enter_context(serving(speaks=("decisions", "chat"))), stack)
        for block in blocks(page):
            reader.follow(block)


def test_what_is_not_run_is_counted() -> None:
    """CI shows the list with `-rP`; a block more needs a number more in this file."""
    left_out = [block for page in PAGES for block in blocks(page) if block.reason]
    for block in left_out:
        print(f"{block}: {block.reason}: {block.text.splitlines()[0]}")
    assert dict(Counter(block.page for block in left_out)) == NOT_RUN


def test_every_block_says_its_language() -> None:
    known = {"python", "bash", "toml", "text", "json", "sql"}
    assert [str(block) for page in PAGES for block in blocks(page) if block.language not in known] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which does not exist"


def test_every_benchmark_has_its_section() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    programs = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if not path.stem.startswith(("_", "mock_"))}
    absent = {name for name in programs if f"python -m benchmarks.{name} " not in page}
    assert not absent, f"docs/benchmarks.md has no command for {sorted(absent)}"


def _benchmark_lines() -> list[str]:
    found = [line for block in blocks(ROOT / "docs" / "benchmarks.md") for line in block.commands]
    return [line for line in found if line.startswith("python -m benchmarks.")]


@pytest.mark.parametrize("line", _benchmark_lines())
def test_benchmarks_have_the_options_that_are_shown(line: str) -> None:
    """They take too long to run here; their options can be looked up."""
    command = line.split()
    said = _help(command[2])
    shown = {word for word in command if word.startswith("--")}
    assert {option for option in shown if not re.search(rf"{option}\b", said)} == set()


@functools.cache
def _help(module: str) -> str:
    command = [sys.executable, "-m", module, "--help"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout


def test_the_reference_is_up_to_date() -> None:
    found = importlib.util.spec_from_file_location("reference", ROOT / "docs" / "reference.py")
    assert found is not None
    assert found.loader is not None
    reference = importlib.util.module_from_spec(found)
    found.loader.exec_module(reference)
    text = reference.PAGE.read_text(encoding="utf-8")
    assert reference.renewed(text) == text, "docs/cli.md is out of date: python docs/reference.py writes it anew"
