"""`goldless refine` against mock servers, one for each model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self

import orjson
import pytest

from benchmarks.mock_routes import Said
from benchmarks.mock_server import MockServer
from tests.cli.conftest import Project, Serve

COUNT = 12


class Adder(MockServer):
    """Adds the numbers of a question."""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self._routes["/v1/chat/completions"] = lambda said, labels: self.answer(said)
        return self

    def answer(self, said: Said) -> dict:
        message = {"role": "assistant", "content": self.text(said["messages"])}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 30, "completion_tokens": 12, "total_tokens": 42}
        return {"object": "chat.completion", "model": said["model"], "choices": [choice], "usage": usage}

    def text(self, messages: list[dict[str, str]]) -> str:
        return f"Arr, {total(messages) + 1}."


class Strong(Adder):
    def text(self, messages: list[dict[str, str]]) -> str:
        if messages[-1]["content"].startswith("Here are"):
            return "The style used is a pirate's: Arr."
        styled = any("Arr" in message["content"] for message in messages)
        return f"{'Arr, ' if styled else ''}{total(messages)}."


def total(messages: list[dict[str, str]]) -> int:
    return sum(map(int, re.findall(r"(\d+) and (\d+)", messages[-1]["content"])[-1]))


@pytest.fixture
def servers(serve: Serve) -> tuple[MockServer, MockServer]:
    return serve(Adder()), serve(Strong())


@pytest.fixture
def sums(tmp_path: Path, servers: tuple[MockServer, MockServer]) -> Project:
    """A dozen sums with a reply beside each, and settings that name both models."""
    weak, strong = servers
    made = Project(tmp_path, strong.url, [])
    rows = [{"id": f"d{i}", "text": f"{i} and {2 * i}", "reply": f"Arr, {i}!" if i else None} for i in range(COUNT)]
    (tmp_path / "docs.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    made.settings.write_text(
        f"""
        [source]
        uri = "docs.jsonl"
        [dedup]
        near = false
        [task]
        instruction = "Add the numbers."
        answer_format = "free"
        [task.fields.answer]
        kind = "reasoning"
        [engine]
        spec = "{strong.url}#strong?dialect=chat"
        price_input = 1.0
        price_output = 2.0
        [refine.weak]
        spec = "{weak.url}#weak?dialect=chat"
        price_input = 0.1
        price_output = 0.1
        """,
        encoding="utf-8",
    )
    return made


def test_it_says_what_it_takes_and_then_takes_it(sums: Project, servers: tuple[MockServer, MockServer]) -> None:
    steps = sums.json("refine", "--dry-run")
    assert [(step["step"], step["answered"], step["calls"]) for step in steps] == [
        ("weak", 0, 12), ("base", 0, 12), ("icl", 0, 12), ("concepts", 0, 3), ("infer", 0, 12), ("improve", 0, 12),
    ]  # fmt: skip
    assert all(step["cost"] > 0 and step["input tokens"] > 0 for step in steps)
    assert not any(server.requests for server in servers)
    (report,) = sums.json("refine")
    assert list(report["versions"]) == ["weak", "base", "icl", "infer", "improve"]
    assert report["annotation"]["sent"] == sum(step["calls"] for step in steps) == 63
    # What was estimated is no less than what was taken.
    assert report["annotation"]["cost"] <= sum(step["cost"] for step in steps)
    left = sums.json("refine", "--dry-run")
    assert {step["calls"] for step in left} == {0}
    assert sum(step["answered"] for step in left) == 63
    (again,) = sums.json("refine")
    assert (again["annotation"]["sent"], again["versions"]) == (0, report["versions"])


def test_the_report_compares_the_arms_and_they_are_exported(sums: Project, tmp_path: Path) -> None:
    said = sums.ok("refine", "--method", "improve").stdout
    assert "This would take" in said
    assert re.search(r"improve\s+3\s+12\s+0", said)
    out = tmp_path / "rows.jsonl"
    sums.ok("export", "3", "--out", str(out), "--format", "trl")
    rows = [orjson.loads(line) for line in out.read_bytes().splitlines()]
    assert rows[1]["prompt"] == [{"role": "user", "content": "Add the numbers.\n\n1 and 2"}]
    assert rows[1]["completion"] == [{"role": "assistant", "content": "Arr, 3."}]
    for command in (("show", "dataset", "3"), ("status",), ("why", "d1"), ("diff", "1", "3")):
        sums.ok(*command)


def test_weak_answers_from_a_column(sums: Project) -> None:
    (report,) = sums.json("refine", "--column", "reply", "--method", "icl", "--batch", "3")
    arms = report["arms"]
    assert arms["weak"]["written_by"] == "the column reply"
    assert (arms["weak"]["rows"], arms["weak"]["missing"]) == (11, {"no_answer": 1})
    assert (arms["base"]["rows"], arms["icl"]["rows"]) == (12, 11)


def test_what_is_missing_is_said(sums: Project) -> None:
    settings = sums.settings.read_text()
    sums.settings.write_text(settings.split("[refine.weak]")[0].split("        [refine")[0])
    done = sums.run("refine")
    assert done.exit_code == 2
    assert "[refine.weak]" in done.stderr
    sums.settings.write_text(settings.replace('answer_format = "free"', 'answer_format = "json"'))
    done = sums.run("refine")
    assert done.exit_code == 2
    assert 'answer_format = "free"' in done.stderr
    sums.settings.write_text(settings)
    assert "goldless refine" in sums.run("curate").stderr
    assert "Traceback" not in done.stderr


def test_a_budget_is_of_both_models_together(sums: Project) -> None:
    sums.settings.write_text(sums.settings.read_text() + "\n[budget]\ncalls = 20\n")
    done = sums.run("refine")
    assert done.exit_code == 4
    assert "stopped after 20 new answers" in done.stderr
