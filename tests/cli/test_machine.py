"""What is found out about the machine, and that the table of extras is pyproject.toml's."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from cli import machine

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in requirements} - {"goldless"}


def test_the_extras_are_those_of_the_project() -> None:
    declared = PROJECT["optional-dependencies"]
    assert {extra: set(found) for extra, found in machine.EXTRAS.items()} == {
        extra: names(declared[extra]) for extra in machine.EXTRAS
    }
    assert set(machine.EXTRAS) == set(machine.PURPOSE)
    bundles = {extra for extra, wanted in declared.items() if not names(wanted)}
    assert set(declared) - bundles == set(machine.EXTRAS)
    assert names(PROJECT["dependencies"]) == set(machine.CORE)


def test_what_is_installed() -> None:
    assert machine.installed("pydantic")
    assert machine.installed("no-such-distribution-here") is None


def test_the_machine() -> None:
    cores = machine.cpu()["cores"]
    assert isinstance(cores, int)
    assert cores >= 1
    total, available = machine.memory()
    assert total is None or available is None or total >= available > 0
    assert isinstance(machine.gpus(), list)


def test_free_space_of_a_place_that_is_not_there_yet(tmp_path: Path) -> None:
    assert machine.free_space(tmp_path / "a" / "b") == machine.free_space(tmp_path) or machine.free_space(tmp_path)
