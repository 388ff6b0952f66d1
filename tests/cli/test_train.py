"""`goldless train`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import orjson
import pytest

from cli.main import app
from curator.store import Store
from tests.cli.conftest import Project

pytest.importorskip("trl")

FAST = ("--epochs", "1", "--batch-size", "8", "--learning-rate", "0.005")


@pytest.fixture
def curated(project: Project) -> Project:
    project.ok("curate")
    return project


def train(project: Project, base: Path, *arguments: str):
    return project.run("train", "--base", str(base), "--out", str(project.folder / "tuned"), *FAST, *arguments)


def test_a_dry_run_says_what_it_would_take(curated: Project, tiny_model: Path) -> None:
    (found,) = curated.json("train", "--base", str(tiny_model), "--dry-run", *FAST)
    assert found["rows"] == 40
    assert found["examples"] + found["validation_examples"] == 40
    assert found["steps"] == 5
    assert found["tokens"] > 36 * 50
    assert not (curated.folder / "tuned").exists()


def test_it_trains_merges_and_lists_what_was_trained(curated: Project, tiny_model: Path) -> None:
    done = train(curated, tiny_model, "--merge", "--json")
    assert done.exit_code == 0, (done.stderr, done.exception)
    (line,) = done.stdout.splitlines()
    found = orjson.loads(line)
    assert found["name"] == "tuned"
    assert found["report"]["last_loss"] < found["report"]["first_loss"]
    assert (curated.folder / "tuned" / "adapter_model.safetensors").exists()
    assert found["merged"] == str(curated.folder / "tuned-merged")
    assert (curated.folder / "tuned-merged" / "model.safetensors").exists()
    assert "step 5/5, loss" in done.stderr
    assert "rows/s" in done.stderr
    again = train(curated, tiny_model, "--merge")
    assert again.exit_code == 0, again.stderr
    assert "validation loss" in again.stdout
    listed = curated.runner.invoke(app, ["models", "trained", "-c", str(curated.settings), "--json"])
    (row,) = map(orjson.loads, listed.stdout.splitlines())
    assert row["sha256"] == found["sha256"]


def test_control_c_is_said_and_gone_on_from(
    curated: Project, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cli import train as module

    def press(pace, progress) -> None:
        first, pace.last = not pace.done and progress.step == 1, progress
        if first:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(module.Pace, "report", press)
        done = train(curated, tiny_model)
    assert done.exit_code == 130
    assert "stopped after step 1" in done.stderr
    assert "the same command goes on from there" in done.stderr
    assert "Traceback" not in done.stderr
    done = train(curated, tiny_model, "--json")
    assert orjson.loads(done.stdout)["report"]["resumed_at_step"] == 1


def test_other_settings_need_a_restart(curated: Project, tiny_model: Path) -> None:
    assert train(curated, tiny_model).exit_code == 0
    done = train(curated, tiny_model, "--seed", "7")
    assert done.exit_code == 2
    assert "seed 0 there, 7 now" in done.stderr
    assert "--restart" in done.stderr
    assert train(curated, tiny_model, "--seed", "7", "--restart").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--base", "nowhere/at/all"), "no weights at 'nowhere/at/all'"),
        ((), "name some with --base"),
        (("--base", "x", "--learning-rate", "0"), "learning_rate is 0.0"),
        (("9", "--base", "x"), "there is no dataset version 9"),
    ],
)
def test_wrong_usage_is_explained(curated: Project, arguments: tuple[str, ...], message: str) -> None:
    done = curated.run("train", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_dataset_or_the_extra(project: Project, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "run `goldless ingest` first" in train(project, tiny_model).stderr
    project.ok("ingest")
    assert "goldless curate makes one" in train(project, tiny_model).stderr
    project.ok("curate")
    for name in ("curator.training.loop", "curator.training.trainer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "trl", None)
    done = train(project, tiny_model)
    assert done.exit_code == 2
    assert "pip install 'goldless[train]'" in done.stderr


@pytest.mark.engine
def test_a_head_is_trained_recorded_and_served(curated: Project) -> None:
    folder = curated.folder / "tone"
    (found,) = curated.json("train", "--method", "head", "--out", str(folder))
    assert (found["kind"], found["name"], found["dataset_version"]) == ("head", "tone", 1)
    assert found["report"]["fields"]["label"]["rows"] > 30
    (kept,) = Store(curated.folder / "goldless.duckdb", create=False).models()
    assert kept.sha256 == found["sha256"]
    text = curated.settings.read_text()
    spec = f'spec = "{curated.url}#mock?dialect=chat"'
    assert spec in text
    curated.settings.write_text(text.replace(spec, f'spec = "head:{folder}"'))
    (report,) = curated.json("curate")
    assert (report["annotation"]["sent"], report["rows"]) == (40, 40)
    assert "load it: head:" in curated.ok("train", "--method", "head", "--out", str(curated.folder / "again")).stderr
    refused = curated.run("train", "--method", "head", "--merge")
    assert "are for lora and full" in refused.stderr
