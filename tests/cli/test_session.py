"""What all commands share: their options, the store's place, and the boundary that errors stop at."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from cli.session import Session, command
from curator.errors import ConfigError, InputError

run = CliRunner().invoke


def app_of(function: object) -> typer.Typer:
    app = typer.Typer()
    command(app, "go", example="goldless go\ngoldless go 3")(function)  # type: ignore[arg-type]
    command(app, "other", shared=())(function)  # type: ignore[arg-type]
    return app


def test_a_command_gets_its_own_options_and_the_shared_ones() -> None:
    seen: list[tuple[Session, int, str]] = []

    def go(session: Session, count: Annotated[int, typer.Argument()] = 1, name: str = "x") -> None:
        """Do it."""
        seen.append((session, count, name))

    app = app_of(go)
    done = run(app, ["go", "3", "--name", "y", "--store", "s.duckdb", "--json", "-q"])
    assert done.exit_code == 0, done.output
    session, count, name = seen[0]
    assert (count, name, session.store_path, session.out.json, session.out.quiet) == (
        3,
        "y",
        Path("s.duckdb"),
        True,
        True,
    )
    shown = run(app, ["go", "--help"]).output
    assert "Do it." in shown
    assert "$ goldless go 3" in shown
    assert "130 interrupted" in shown
    assert run(app, ["other", "--json"]).exit_code == 2


def test_an_error_is_told_on_stderr_without_a_traceback() -> None:
    def go(session: Session) -> None:
        raise InputError("wrong", hint="right")

    done = run(app_of(go), ["go"])
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", "error: wrong\n  hint: right\n")


def test_a_reader_that_leaves_is_no_error() -> None:
    def go(session: Session) -> None:
        raise BrokenPipeError

    done = run(app_of(go), ["go"])
    assert (done.exit_code, done.output) == (0, "")


def test_an_exit_code_of_the_command_is_kept() -> None:
    def go(session: Session) -> None:
        raise typer.Exit(3)

    assert run(app_of(go), ["go"]).exit_code == 3


def test_interruption() -> None:
    def go(session: Session) -> None:
        raise KeyboardInterrupt

    done = run(app_of(go), ["go"])
    assert (done.exit_code, done.stderr) == (130, "interrupted\n")


def test_the_store_is_beside_the_settings_unless_named(tmp_path: Path) -> None:
    (tmp_path / "goldless.toml").write_text("[store]\npath = 'my.duckdb'\n")
    session = Session(config=tmp_path / "goldless.toml")
    assert session.location == tmp_path / "my.duckdb"
    assert Session(config=tmp_path / "goldless.toml", store_path=Path("x.duckdb")).location == Path("x.duckdb")


def test_without_settings_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Session().location == Path("goldless.duckdb")
    with pytest.raises(InputError, match="there is no store"):
        Session().store()
    with pytest.raises(ConfigError, match="there is no"):
        _ = Session(config=Path("other.toml")).settings


@pytest.mark.parametrize(
    ("flags", "shown"),
    [([], {"warning"}), (["-v"], {"warning", "info"}), (["-vv"], {"warning", "info", "debug"}), (["-q"], set())],
)
def test_logs_go_to_stderr_from_the_wanted_level(flags: list[str], shown: set[str]) -> None:
    def go(session: Session) -> None:
        log = logging.getLogger("curator.test")
        log.debug("debug")
        log.info("info")
        log.warning("warning")

    done = run(app_of(go), ["go", *flags])
    assert {line.partition(":")[0] for line in done.stderr.splitlines() if "curator.test" in line} == shown
    assert done.stdout == ""
