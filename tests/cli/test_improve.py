"""`goldless improve` against a mock server."""

from __future__ import annotations

from tests.cli.conftest import Project


def test_improve_asks_in_rounds_and_asks_nothing_twice(project: Project) -> None:
    (report,) = project.json("improve", "--rounds", "2", "--examples", "4")
    asked = [found["round"] for found in report["rounds"]]
    assert asked == list(range(len(asked)))
    assert report["annotation"]["sent"] == 40 * len(asked)
    assert len(report["rounds"][1]["examples"]) == 2
    (again,) = project.json("improve", "--rounds", "2", "--examples", "4")
    assert (again["version"], again["annotation"]["sent"]) == (report["version"], 0)
    assert "labels that changed" in project.ok("improve", "--rounds", "2", "--examples", "4").stdout


def test_what_curate_answered_is_the_first_round(project: Project) -> None:
    project.ok("curate")
    (report,) = project.json("improve", "--rounds", "1", "--examples", "4")
    assert report["annotation"]["reused"] == 40
    assert report["annotation"]["sent"] == 40


def test_examples_that_are_all_too_long_are_said(project: Project) -> None:
    done = project.run("improve", "--longest", "3")
    assert done.exit_code == 2
    assert "at most 3 characters" in done.stderr
    assert "Traceback" not in done.stderr
