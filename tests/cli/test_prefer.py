"""`goldless prefer`."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from cli.main import app
from curator.preferences import Preference, freeze_preferences
from curator.store import Store
from curator.types import Message
from tests.cli.conftest import Project

pytest.importorskip("trl")

FAST = ("--batch-size", "8", "--learning-rate", "0.005")


@pytest.fixture
def paired(project: Project) -> Project:
    """Labels in version 1, pairs of the same task in version 2."""
    from cli.build import task_of
    from cli.config import read_settings

    project.ok("curate")
    store, task = Store(project.folder / "goldless.duckdb"), task_of(read_settings(project.settings), project.folder)
    documents = [document for page in store.documents() for document in page][:16]
    pairs = [
        Preference(one, (Message("user", f"What of {one.text}?"),), f"good: {one.text}", "no idea", 0.9, {})
        for one in documents
    ]
    with store.run("pairs", {}) as run:
        freeze_preferences(task, store, run, pairs, {}, {})
    return project


def prefer(project: Project, base: Path, *arguments: str):
    return project.run("prefer", "--base", str(base), "--out", str(project.folder / "model"), *FAST, *arguments)


def test_it_plans_trains_merges_and_lists_what_was_trained(paired: Project, tiny_model: Path) -> None:
    (plan,) = paired.json("prefer", "--base", str(tiny_model), "--dry-run", *FAST)
    assert (plan["pairs"], plan["validation_pairs"], plan["steps"]) == (14, 2, 2)
    assert plan["seconds"] > 0
    assert not (paired.folder / "model").exists()
    done = prefer(paired, tiny_model, "--merge", "--json")
    assert done.exit_code == 0, (done.stderr, done.exception)
    found = orjson.loads(done.stdout)
    assert (found["kind"], found["dataset_version"]) == ("dpo", 2)
    assert (paired.folder / "model-merged" / "model.safetensors").exists()
    assert "14 pairs (2 held out)" in done.stderr
    assert "2 steps, about" in done.stderr
    assert "chosen -" in done.stderr
    again = prefer(paired, tiny_model)
    assert "chosen logprob before" in again.stdout
    assert "load it: connect(" in again.stderr
    listed = paired.runner.invoke(app, ["models", "trained", "-c", str(paired.settings), "--json"])
    (row,) = map(orjson.loads, listed.stdout.splitlines())
    assert row["sha256"] == found["sha256"]


def test_orpo_goes_on_with_an_adapter(paired: Project, tiny_model: Path) -> None:
    assert prefer(paired, tiny_model).exit_code == 0
    arguments = ("--base", str(tiny_model), "--adapter", str(paired.folder / "model"), "--loss", "orpo", *FAST)
    (found,) = paired.json("prefer", *arguments, "--out", str(paired.folder / "second"))
    assert found["kind"] == "orpo"
    assert found["report"]["settings"]["adapter"].startswith("model (")


def test_an_alarm_is_said(paired: Project, tiny_model: Path) -> None:
    assert prefer(paired, tiny_model, "--epochs", "8").exit_code == 0
    loud = ("--adapter", str(paired.folder / "model"), "--nll-weight", "0", "--learning-rate", "5", "--epochs", "4")
    done = paired.run(
        "prefer", "--base", str(tiny_model), "--out", str(paired.folder / "x"), "--batch-size", "4", *loud
    )
    assert done.exit_code == 0, done.stderr
    assert "the chosen answers have become less likely" in done.stderr


def test_a_version_of_pairs_is_listed_shown_compared_and_exported(paired: Project) -> None:
    (status,) = paired.json("status")
    assert [version["kind"] for version in status["datasets"]] == ["labels", "preferences"]
    first = paired.json("show", "dataset", "2")[0]
    assert (first["rejected"], first["prompt"][0]["role"]) == ("no idea", "user")
    (same,) = paired.json("diff", "2", "2")
    assert same["unchanged"] == 16
    (life,) = paired.json("why", first["document_id"])
    assert life["preferences"][0]["rejected"] == "no idea"
    out = paired.folder / "pairs.jsonl"
    paired.ok("export", "2", "--format", "trl", "--out", str(out))
    assert orjson.loads(out.read_bytes().splitlines()[0])["rejected"] == [{"role": "assistant", "content": "no idea"}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prefer", "1", "--base", "BASE"), "version 1 holds labelled rows, not preference pairs"),
        (("train", "2", "--base", "BASE"), "version 2 holds preference pairs, not labelled rows"),
        (("diff", "1", "2"), "version 2 holds preference pairs"),
        (("prefer", "--base", "BASE", "--beta", "0"), "beta is 0.0"),
        (("prefer", "--base", "BASE", "--adapter", "nowhere"), "nowhere is no LoRA adapter"),
        (("prefer",), "name some with --base"),
    ],
)
def test_wrong_usage_is_explained(paired: Project, tiny_model: Path, arguments: tuple[str, ...], message: str) -> None:
    done = paired.run(*(str(tiny_model) if item == "BASE" else item for item in arguments))
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
