"""The app as a whole: help, version, completion, and what is not a command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import ORDER, app

ROOT = Path(__file__).parents[2]
COMMANDS = [[name] for name in ORDER] + [["models", "list"], ["models", "pull"]]
run = CliRunner().invoke


def process(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    code = "import sys; sys.argv[0] = 'goldless'; from cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=env, check=False
    )


def test_help_lists_the_commands_in_order() -> None:
    shown = run(app, ["--help"]).stdout
    places = [shown.index(f"│ {name} ") for name in (*ORDER, "models")]
    assert sorted(places[:-1]) == places[:-1]
    assert "Exit codes" in shown


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(words: list[str]) -> None:
    done = run(app, [*words, "--help"])
    assert done.exit_code == 0
    assert f"$ goldless {' '.join(words)}" in done.stdout
    assert "--verbose" in done.stdout
    assert "130" in done.stdout


def test_the_version() -> None:
    done = run(app, ["--version"])
    assert done.exit_code == 0
    assert done.stdout.strip()


def test_nothing_at_all_shows_help() -> None:
    assert "Usage" in run(app, []).output


def test_a_misspelt_command_or_option_is_a_usage_error() -> None:
    done = run(app, ["curte"])
    assert done.exit_code == 2
    assert "curate" in done.stderr
    assert run(app, ["curate", "--limt", "3"]).exit_code == 2
    assert run(app, ["curate", "--limit", "0"]).exit_code == 2


def test_completion_of_commands_and_values() -> None:
    """As a shell asks for it."""
    asked = {"_GOLDLESS_COMPLETE": "complete_bash", "COMP_WORDS": "goldless cu", "COMP_CWORD": "1"}
    assert process(**asked).stdout.split() == ["curate"]
    asked |= {"COMP_WORDS": "goldless export --format t", "COMP_CWORD": "3"}
    assert process(**asked).stdout.split() == ["trl"]


def test_an_unexpected_bug_end_to_end(tmp_path: Path) -> None:
    """Exit code 1, one line, a file with the traceback; with --debug the traceback itself."""
    code = (
        "import sys, cli.doctor\n"
        "def broken(session): raise RuntimeError('inner secret')\n"
        "cli.doctor._facts = lambda *a: broken(a)\n"
        "sys.argv = ['goldless', 'doctor', *sys.argv[1:]]\n"
        "from cli.main import main; main()"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    (report,) = (tmp_path / "goldless").iterdir()
    assert str(report) in done.stderr
    assert "inner secret" in report.read_text()
    loud = subprocess.run([sys.executable, "-c", code, "--debug"], capture_output=True, text=True, env=env, check=False)
    assert "Traceback" in loud.stderr
