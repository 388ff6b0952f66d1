"""`goldless init` writes settings that are valid as they stand, whatever names are given."""

from __future__ import annotations

import tomllib
from pathlib import Path

from typer.testing import CliRunner

from cli.build import task_of
from cli.config import read_settings
from cli.main import app
from cli.project import settings_text

run = CliRunner().invoke


def test_the_file_is_valid_and_says_what_was_named(tmp_path: Path) -> None:
    path = tmp_path / "new" / "goldless.toml"
    arguments = ["--source", 'C:\\data\\"odd".jsonl', "--labels", "gut, schlécht", "--text", "body"]
    done = run(app, ["init", "-c", str(path), *arguments])
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    settings = read_settings(path)
    assert settings.source is not None
    assert (settings.source.uri, settings.source.text) == ('C:\\data\\"odd".jsonl', "body")
    assert task_of(settings, tmp_path).closed[0].question.labels == ("gut", "schlécht")


def test_every_commented_setting_is_valid_too() -> None:
    """What a person gets by removing the comment signs one table at a time."""
    text = settings_text("x.jsonl", "text", ["a", "b"], "http://localhost/v1#m")
    lines = []
    for line in text.splitlines():
        setting = line.removeprefix("# ") if line.startswith("# ") else line
        if "=" in setting.partition("#")[0] or setting.startswith("["):
            lines.append(setting)
    content = "\n".join(line for line in lines if not line.startswith("model ="))
    parsed = tomllib.loads(content)
    assert parsed["reference"]["rows"] == 200
    from cli.settings import Settings

    settings = Settings.model_validate(parsed)
    assert settings.select.max_rows == 10000
    assert settings.budget.money == 5.0


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path) -> None:
    path = tmp_path / "goldless.toml"
    path.write_text("mine")
    done = run(app, ["init", "-c", str(path)])
    assert (done.exit_code, path.read_text()) == (2, "mine")
    assert "--force" in done.stderr
    assert run(app, ["init", "-c", str(path), "--force"]).exit_code == 0
    assert path.read_text() != "mine"


def test_labels_that_cannot_be_told_apart_write_nothing(tmp_path: Path) -> None:
    path = tmp_path / "goldless.toml"
    done = run(app, ["init", "-c", str(path), "--labels", "a,a"])
    assert done.exit_code == 2
    assert "are the same" in done.stderr
    assert not path.exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run(app, ["init", "-c", str(tmp_path / "file" / "goldless.toml")])
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr
