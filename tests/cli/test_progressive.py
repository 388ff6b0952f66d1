"""`goldless progressive` against mock servers, one for each model."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import orjson
import pytest

from benchmarks.mock_routes import Said
from benchmarks.mock_server import MockServer
from tests.cli.conftest import Project, Serve

COUNT = 24


class Adder(MockServer):
    """Adds the two numbers of a question, except of those in `wrong`; of ten samples every fifth is wrong too."""

    wrong: frozenset[int] = frozenset()

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._routes["/v1/chat/completions"] = lambda said, labels: self.answer(said)
        return self

    def answer(self, said: Said) -> dict:
        first = int(said["messages"][-1]["content"].split("holds ")[1].split(",")[0])
        choices = []
        for number in range(said.get("n") or 1):
            total = 3 * first + (first in self.wrong) + (number % 5 == 4)
            text = f"{type(self).__name__}: {first} + {total - first} = {total}\nAnswer: {total} in all"
            message = {"role": "assistant", "content": text}
            choices.append({"index": number, "message": message, "finish_reason": "stop"})
        usage = {"prompt_tokens": 30, "completion_tokens": 12 * len(choices), "total_tokens": 42}
        return {"object": "chat.completion", "model": said["model"], "choices": choices, "usage": usage}


class Weak(Adder):
    wrong = frozenset(range(0, COUNT, 4))


class Strong(Adder):
    wrong = frozenset({1})


@pytest.fixture
def servers(serve: Serve) -> tuple[MockServer, MockServer]:
    return serve(Weak()), serve(Strong())


@pytest.fixture
def sums(tmp_path: Path, servers: tuple[MockServer, MockServer]) -> Project:
    """Two dozen sums, and settings that name both models."""
    weak, strong = servers
    made = Project(tmp_path, strong.url, [])
    rows = [
        {"id": f"d{i}", "text": f"One box holds {i}, the other {2 * i}. How many do both hold?"} for i in range(COUNT)
    ]
    (tmp_path / "docs.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    made.settings.write_text(
        '[source]\nuri = "docs.jsonl"\n'
        '[task]\ninstruction = "Solve it."\nanswer_format = "text"\n'
        '[task.fields.why]\nkind = "reasoning"\n[task.fields.total]\nkind = "number"\n'
        f'[engine]\nspec = "{strong.url}#strong?dialect=chat"\nprice_input = 1.0\nprice_output = 2.0\n'
        f'[progressive.weak]\nspec = "{weak.url}#weak?dialect=chat"\n'
        "[dedup]\nexact = false\nnear = false\n",
        encoding="utf-8",
    )
    return made


def test_both_stages_and_nothing_twice(sums: Project, servers: tuple[MockServer, MockServer]) -> None:
    (report,) = sums.json("progressive")
    assert report["versions"] == [1, 2]
    assert [found["kept"] for found in report["rounds"]] == [17, 17]
    assert report["rounds"][0]["rows"] == 34
    assert report["pairs"]["version"] == 3
    assert report["pairs"]["outcomes"]["weak_overruled"] == 7
    sent = [len(server.requests) for server in servers]
    assert sent == [COUNT, 3 * COUNT]
    shown = sums.ok("progressive").stdout
    assert "17 (70.8%)" in shown
    assert [len(server.requests) for server in servers] == sent


def test_a_dry_run_sends_nothing_and_says_what_is_left(sums: Project, servers: tuple[MockServer, MockServer]) -> None:
    steps = sums.json("progressive", "--dry-run")
    assert [(step["step"], step["calls"]) for step in steps] == [
        (name, COUNT) for name in ("weak", "round 1", "round 2", "samples")
    ]
    assert steps[0]["cost"] is None
    assert steps[1]["cost"] > 0
    assert not any(server.requests for server in servers)
    sums.ok("progressive", "--stage", "1")
    steps = sums.json("progressive", "--dry-run")
    assert [(step["calls"], step["answered"]) for step in steps] == [(0, COUNT)] * 3 + [(COUNT, 0)]
    assert "samples" in sums.ok("progressive", "--dry-run").stdout
    assert len(sums.json("progressive", "--dry-run", "--stage", "1")) == 3


def test_stage_two_may_sample_some_documents_only(sums: Project, servers: tuple[MockServer, MockServer]) -> None:
    (report,) = sums.json("progressive", "--sampled", "5")
    assert report["pairs"]["questions"] == 5
    assert len(servers[1].requests) == 2 * COUNT + 5


def test_what_is_missing_is_said(sums: Project, project: Project) -> None:
    done = project.run("progressive")
    assert done.exit_code == 2
    assert "[progressive.weak]" in done.stderr
    text = sums.settings.read_text(encoding="utf-8")
    sums.settings.write_text(text + "[progressive]\nleast = 0.9\n", encoding="utf-8")
    assert "overrule is at least least" in sums.run("progressive").stderr


def test_a_budget_stops_all_engines_together(sums: Project, servers: tuple[MockServer, MockServer]) -> None:
    text = sums.settings.read_text(encoding="utf-8")
    sums.settings.write_text(text + f"[budget]\ncalls = {COUNT + 10}\n", encoding="utf-8")
    done = sums.run("progressive")
    assert done.exit_code != 0
    assert "goes on from there" in done.stderr
    assert sum(len(server.requests) for server in servers) <= COUNT + 10
