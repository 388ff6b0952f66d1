"""ingest, status and export, against a real store."""

from __future__ import annotations

from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from cli.data import known_cost
from tests.cli.conftest import Project


def test_ingest_counts_and_does_nothing_twice(project: Project) -> None:
    with (project.folder / "docs.jsonl").open("a") as file:
        file.write('not json\n{"id": "d0", "text": "again"}\n')
    (first,) = project.json("ingest")
    assert (first["added"], first["duplicate"], first["rejected"]) == (40, 1, {"row.invalid_json": 1})
    (second,) = project.json("ingest")
    assert (second["added"], second["unchanged"]) == (0, 40)
    assert {row["reason"] for row in project.json("show", "rejects")} == {"row.invalid_json", "document.duplicate_id"}


def test_ingest_of_a_named_path_and_of_stdin(project: Project) -> None:
    other = project.folder / "other.csv"
    other.write_text("id,text\nx,hello\n")
    assert project.json("ingest", str(other))[0]["added"] == 1
    done = project.run("ingest", "-", "--json", stdin='{"id": "y", "text": "from a pipe"}\n')
    assert orjson.loads(done.stdout)["added"] == 1, done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "holds no rows"), (b"not json\n", "row.invalid_json"), (b'{"body": "x"}\n', "no column 'text'")],
)
def test_nothing_that_could_be_ingested_is_a_failure(project: Project, content: bytes, message: str) -> None:
    path = project.folder / "bad.jsonl"
    path.write_bytes(content)
    done = project.run("ingest", str(path))
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_source_that_is_not_there(project: Project) -> None:
    done = project.run("ingest", "nowhere.jsonl")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "nowhere.jsonl" in done.stderr


def test_status_before_and_after(project: Project) -> None:
    done = project.run("status")
    assert done.exit_code == 2
    assert "there is no store" in done.stderr
    project.ok("curate")
    (found,) = project.json("status")
    assert (found["documents"], found["completions"], len(found["datasets"])) == (40, 40, 1)
    shown = project.ok("status").stdout
    for title in ("Engines", "Labels", "Datasets", "Runs"):
        assert title in shown


def cost_cells(project: Project) -> tuple[str, str]:
    """The cost of the whole store, and that of the one engine, as the tables show them."""
    lines = project.ok("status").stdout.splitlines()
    whole = next(line for line in lines if line.startswith("cost"))
    engine = next(line for line in lines if line.startswith("http"))
    return whole.removeprefix("cost").strip(), engine.split("  ")[-1].strip()


def test_an_unknown_cost_is_not_shown_as_nothing(project: Project) -> None:
    project.ok("curate", "--limit", "10")
    assert cost_cells(project) == ("-", "-")
    project.write(price_input=1000.0, price_output=0.0)
    project.ok("curate", "--limit", "12")
    (found,) = project.json("status")
    assert found["unpriced"] == 10
    assert cost_cells(project) == (f"{found['cost']:.3f} (10 unpriced)",) * 2


@pytest.mark.parametrize(("cost", "unpriced", "shown"), [(None, 3, None), (1.5, 0, 1.5), (0.0, 0, 0.0)])
def test_a_cost_that_is_known_or_unknown_throughout(cost: float | None, unpriced: int, shown: object) -> None:
    assert known_cost(cost, unpriced) == shown


@pytest.mark.parametrize(("kind", "name"), [("parquet", "v1.parquet"), ("jsonl", "v1.jsonl"), ("trl", "v1.jsonl")])
def test_export(project: Project, monkeypatch: pytest.MonkeyPatch, kind: str, name: str) -> None:
    monkeypatch.chdir(project.folder)
    project.ok("curate")
    (said,) = project.json("export", "v1", "--format", kind)
    path = Path(said["path"])
    assert (path.name, said["rows"]) == (f"dataset-{name}", 40)
    if kind == "parquet":
        columns = pq.read_table(path).column_names
    else:
        columns = list(orjson.loads(path.read_bytes().splitlines()[0]))
    assert "weight" in columns
    assert ("completion" in columns) == (kind == "trl")


def test_export_of_what_is_not_there(project: Project) -> None:
    project.ok("ingest")
    assert "no dataset version yet" in project.run("export").stderr
    project.ok("curate")
    assert project.run("export", "7").exit_code == 2
    assert "no version" in project.run("export", "seven").stderr
    done = project.run("export", "--out", str(project.folder))
    assert (done.exit_code, "cannot write" in done.stderr) == (2, True)


def test_export_with_other_settings_is_refused(project: Project) -> None:
    project.ok("curate")
    project.settings.write_text(project.settings.read_text().replace("Good or bad?", "Is it any good?"))
    done = project.run("export")
    assert done.exit_code == 2
    assert "was made with task" in done.stderr


def test_a_store_that_is_damaged_or_no_store(project: Project) -> None:
    path = project.folder / "goldless.duckdb"
    path.write_bytes(b"this is no database" * 1000)
    before = path.read_bytes()
    for words in (["status"], ["ingest"], ["curate"]):
        done = project.run(*words)
        assert done.exit_code == 1, done.stderr
        assert "Traceback" not in done.stderr
        assert str(path) in done.stderr
    assert path.read_bytes() == before
