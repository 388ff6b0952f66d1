"""`goldless improve` against a mock server."""

from __future__ import annotations

import pytest

from cli.improve import _retrieval
from curator.methods.lookup import Retrieval
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


def test_a_shortlist_for_few_options_is_refused(project: Project) -> None:
    done = project.run("improve", "--shortlist", "5")
    assert done.exit_code == 2
    assert "no choice has more than 5 options" in done.stderr
    assert project.run("improve", "--shortlist", "1").exit_code == 2


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ((None, None), "auto"),
        ((0, None), None),
        ((12, None), Retrieval(shortlist=12, above=12)),
        ((None, "wheel:other"), Retrieval(encoder="wheel:other")),
    ],
)
def test_options_say_how_many_labels_are_asked(options: tuple[int | None, str | None], wanted: object) -> None:
    assert _retrieval(*options) == wanted
