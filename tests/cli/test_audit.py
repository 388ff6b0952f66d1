"""goldless audit, against a real store."""

from __future__ import annotations

import csv
from pathlib import Path

import orjson
import pytest

from tests.cli.conftest import Project


def filled(project: Project, sheet: Path, answers: int) -> Path:
    """The sheet with as many answers, which a person gave who reads well."""
    rows = [orjson.loads(line) for line in sheet.read_bytes().splitlines()]
    for row in rows[:answers]:
        row["label"] = "positive" if "good" in row["text"] else "negative"
    path = project.folder / f"filled-{answers}.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def test_from_a_draw_to_a_calibrated_confidence(project: Project) -> None:
    project.ok("curate")
    sheet = project.folder / "sheet.jsonl"
    done = project.ok("audit", "--draw", "30", "--out", str(sheet))
    assert "fill in label: positive, negative" in done.stderr
    rows = [orjson.loads(line) for line in sheet.read_bytes().splitlines()]
    assert len(rows) == 30
    assert all(set(row) == {"document_id", "text", "label"} and row["label"] is None for row in rows)
    (few,) = project.json("audit", str(filled(project, sheet, 12)), "--auditor", "ann")
    assert few == {"field": "label", "added": 12, "checked": 12}
    (more,) = project.json("audit", str(filled(project, sheet, 25)), "--auditor", "bob")
    assert more == {"field": "label", "added": 25, "checked": 25}
    (report,) = project.json("curate")
    assert report["fields"]["label"]["basis"] == "audited(25)"
    assert report["annotation"]["sent"] == 0


def test_the_same_draw_every_time_on_stdout_and_in_csv(project: Project) -> None:
    project.ok("curate")
    first = project.ok("audit", "--draw", "10").stdout
    assert project.ok("audit", "--draw", "10").stdout == first
    assert project.ok("audit", "--draw", "10", "--seed", "3").stdout != first
    sheet = project.folder / "sheet.csv"
    project.ok("audit", "--draw", "10", "--out", str(sheet))
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        names = [row["document_id"] for row in csv.DictReader(file)]
    assert names == [orjson.loads(line)["document_id"] for line in first.splitlines()]
    done = project.ok("audit", str(sheet), "--auditor", "ann")
    assert "nothing was filled in" in done.stderr
    assert "from 20 checked documents on" in done.stderr
    assert project.run("audit", "--draw", "10", "--out", str(sheet)).exit_code == 2
    assert "40 labelled documents only" in project.ok("audit", "--draw", "100").stderr


def test_nothing_is_added_unless_all_is_right(project: Project) -> None:
    project.ok("curate")
    sheet = project.folder / "wrong.csv"
    sheet.write_text("document_id,label\nd1,positive\nd2,splendid\nd99,negative\n")
    done = project.run("audit", str(sheet), "--auditor", "ann")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "row 3: 'label' is 'splendid', which is no option: positive, negative" in done.stderr
    assert "row 4: no document to check has the id 'd99'" in done.stderr
    (found,) = project.json("status")
    assert found["audits"] == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "either what to draw or what to read"),
        (["sheet.csv", "--draw", "3"], "either what to draw or what to read"),
        (["sheet.csv"], "--auditor NAME"),
        (["sheet.csv", "--auditor", "ann", "--out", "x"], "--out goes with --draw"),
        (["nowhere.csv", "--auditor", "ann"], "nowhere.csv cannot be read"),
        (["--draw", "3"], "has no labels of this task"),
    ],
)
def test_wrong_usage(project: Project, words: list[str], message: str) -> None:
    project.ok("ingest")
    done = project.run("audit", *words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
