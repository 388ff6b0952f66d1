"""show, why and diff, against a real store."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cli.show import condition
from curator.errors import InputError
from tests.cli.conftest import Project

ROW = {"value": "bad", "confidence": 0.5, "none": None, "output": {"label": "good"}}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("value=bad", True),
        ("value != bad", False),
        ("confidence<0.6", True),
        ("confidence > 0.6", False),
        ("value~BA", True),
        ("output.label=good", True),
        ("none=null", True),
        ("none<1", False),
        ("value=", False),
    ],
)
def test_conditions(text: str, holds: bool) -> None:
    assert condition(text)(ROW) is holds


@pytest.mark.parametrize("text", ["value", "confidence<high", "=x"])
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(InputError):
        condition(text)


def test_an_unknown_column_names_those_there_are() -> None:
    with pytest.raises(InputError, match="value, confidence"):
        condition("valu=bad")(ROW)


def test_show_lists_filters_and_limits(project: Project) -> None:
    project.ok("curate")
    assert len(project.json("show", "documents", "--limit", "5")) == 5
    assert len(project.json("show", "documents", "--limit", "0")) == 40
    found = project.json("show", "documents", "--where", "text~number 7 ")
    assert [row["id"] for row in found] == ["d7"]
    labels = project.json("show", "labels", "-n", "0")
    positive = project.json("show", "--where", "value=positive", "-n", "0")
    assert {row["value"] for row in labels} == {"positive", "negative"}
    assert 0 < len(positive) < len(labels) == 40
    dataset = project.json("show", "dataset", "1", "-w", "output.label=positive", "-n", "0")
    assert {row["document_id"] for row in dataset} == {row["document_id"] for row in positive}
    assert "the first 20" in project.ok("show").stderr


def test_show_before_there_is_anything(project: Project) -> None:
    project.ok("ingest")
    assert "no labels yet" in project.run("show", "labels").stderr
    assert project.run("show", "dataset").exit_code == 2


def test_why_tells_a_whole_life(project: Project) -> None:
    project.texts.append(project.texts[3])
    project.write()
    project.ok("curate")
    (kept,) = project.json("why", "d3")
    assert kept["document"]["text"] == project.texts[3]
    assert [row["value"] for row in kept["labels"]] in (["positive"], ["negative"])
    assert [row["version"] for row in kept["datasets"]] == [1]
    (dropped,) = project.json("why", "d40")
    assert "duplicate.exact" in {row.get("reason") for row in dropped["verdicts"]}
    assert "annotations: none" in project.ok("why", "d40").stdout
    done = project.run("why", "d400")
    assert done.exit_code == 2
    assert "'d40'" in done.stderr


def test_diff(project: Project) -> None:
    project.ok("curate", "--limit", "10")
    project.ok("curate")
    (found,) = project.json("diff", "1", "latest")
    assert (found["added_count"], found["removed_count"]) == (30, 0)
    shown = project.ok("diff", "v1", "v2", "--limit", "3").stdout
    assert shown.count("\n+ ") == 3
    assert project.run("diff", "1", "9").exit_code == 2


@pytest.mark.parametrize(("style", "start"), [(["--json"], b'{"id":"d0"'), ([], b"id")], ids=["json", "table"])
def test_a_reader_that_leaves_early_is_left_in_peace(project: Project, style: list[str], start: bytes) -> None:
    """More rows than a pipe holds, into a reader that takes one line."""
    project.texts = [f"{i} " + "long text " * 100 for i in range(2000)]
    project.write()
    project.ok("ingest")
    root = Path(__file__).parents[2]
    code = "from cli.main import main; main()"
    arguments = ["show", "documents", "-n", "0", "-c", str(project.settings), *style]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().startswith(start)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 0
