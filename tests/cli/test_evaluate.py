"""goldless evaluate, against a real store: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.mock_server import MockServer
from tests.cli.conftest import Project, serving


def lines(path: Path, rows: list[dict]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def truth(text: str) -> str:
    return "positive" if "good" in text else "negative"


def gold_rows(project: Project) -> list[dict]:
    return [{"id": f"d{i}", "label": truth(text)} for i, text in enumerate(project.texts)]


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Forty labelled documents, and gold beside them."""
    with serving(MockServer()) as server:
        texts = [f"film number {i} was {'good' if i % 3 else 'dull'}" for i in range(40)]
        made = Project(tmp_path_factory.mktemp("curated"), server.url, texts)
        made.write()
        made.ok("curate")
        lines(made.folder / "gold.jsonl", gold_rows(made))
        yield made


@pytest.fixture
def labelled(curated: Project, tmp_path: Path) -> Project:
    """A copy of it for one test."""
    folder = shutil.copytree(curated.folder, tmp_path / "project")
    return Project(folder, curated.url, list(curated.texts))


def gold(project: Project) -> str:
    return str(project.folder / "gold.jsonl")


def fails(project: Project, *arguments: str) -> str:
    """The message of a command that is refused, without a traceback."""
    done = project.run("evaluate", *arguments)
    assert (done.exit_code, done.stdout) == (2, ""), (done.stdout, done.stderr, done.exception)
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    return " ".join(done.stderr.split())


def test_labels_are_scored_by_hand_counted_figures(labelled: Project) -> None:
    values = {row["document_id"]: row["value"] for row in labelled.json("show", "labels", "-n", "0")}
    right = sum(values[f"d{i}"] == truth(text) for i, text in enumerate(labelled.texts))
    (found,) = labelled.json("evaluate", gold(labelled))
    scores = found["arms"]["labels"]
    assert (scores["rows"], scores["answered"]) == (40, 40)
    assert scores["accuracy"]["value"] == pytest.approx(right / 40)
    assert scores["accuracy"]["low"] <= right / 40 <= scores["accuracy"]["high"]
    assert found["confidence"]["labels"]["calibrated"] is False
    assert found["pgr"] is None
    assert [row["gold"] for row in found["classes"]] == [26, 14]
    assert any("*uncalibrated*" in sentence for sentence in found["findings"])


def test_people_get_tables_and_a_report(labelled: Project) -> None:
    out = labelled.folder / "reports" / "report.md"
    done = labelled.ok("evaluate", gold(labelled), "--out", str(out))
    assert "Evaluation of label" in done.stdout
    assert "- `labels` is right on" in done.stdout
    assert "the report is in" in done.stderr
    page = out.read_text(encoding="utf-8")
    assert page.startswith("# Evaluation of `label`\n")
    assert "*uncalibrated*" in page
    labelled.ok("evaluate", gold(labelled), "--out", str(out.with_suffix(".json")))
    assert orjson.loads(out.with_suffix(".json").read_bytes())["subject"] == "labels"


def test_nothing_of_gold_is_kept(labelled: Project) -> None:
    store = next(labelled.folder.glob("*.duckdb"))
    before = hashlib.sha256(store.read_bytes()).hexdigest()
    labelled.ok("evaluate", gold(labelled), "--out", str(labelled.folder / "r.md"))
    labelled.ok("evaluate", gold(labelled), "--version", "1")
    assert hashlib.sha256(store.read_bytes()).hexdigest() == before
    (status,) = labelled.json("status")
    assert status["audits"] == {}


@pytest.mark.parametrize("name", ["gold.csv", "semicolons.csv", "gold.parquet", "gold.json"])
def test_gold_of_any_format_gives_the_same(labelled: Project, name: str) -> None:
    rows = [{"document_id": row["id"], "value": row["label"]} for row in gold_rows(labelled)]
    path = labelled.folder / name
    if name.endswith(".csv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=";" if "semi" in name else ",")
            writer.writeheader()
            writer.writerows(rows)
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_bytes(orjson.dumps(rows))
    assert labelled.json("evaluate", str(path)) == labelled.json("evaluate", gold(labelled))


def test_a_dataset_version_alone(project: Project) -> None:
    project.write("[select]\ncoverage = 0.5\n")
    project.ok("curate")
    path = str(lines(project.folder / "gold.jsonl", gold_rows(project)))
    (all_labels,) = project.json("evaluate", path)
    (version,) = project.json("evaluate", path, "--version", "latest")
    assert all_labels["rows"] == 40
    assert (version["subject"], version["rows"], version["scope"]["unlabelled"]) == ("dataset 1", 20, 20)
    assert any("20 gold rows are left out" in sentence for sentence in version["findings"])


def test_arms_are_compared_on_the_same_rows(labelled: Project) -> None:
    rows = gold_rows(labelled)
    perfect = lines(labelled.folder / "perfect.jsonl", rows)
    half = [{**row, "label": row["label"] if i % 2 else "positive", "confidence": 0.9} for i, row in enumerate(rows)]
    student = lines(labelled.folder / "half.jsonl", half)
    (found,) = labelled.json(
        "evaluate", gold(labelled), "--compare", f"student={student}", "--compare", f"ceiling={perfect}"
    )
    assert list(found["arms"]) == ["labels", "student", "ceiling"]
    wrong = round(40 * (1 - found["arms"]["labels"]["accuracy"]["value"]))
    ceiling = found["differences"]["ceiling"]
    assert (ceiling["won"], ceiling["lost"]) == (wrong, 0)
    assert ceiling["p"] == pytest.approx(min(1.0, 2 * 0.5**wrong))
    assert found["arms"]["ceiling"]["ece"] is None
    assert found["arms"]["student"]["ece"] is not None
    assert found["pgr"]["arms"] == ["labels", "student", "ceiling"]
    assert found["pgr"]["defined"] is (found["pgr"]["value"] is not None)


def test_what_the_store_and_an_export_write_can_be_compared(labelled: Project) -> None:
    shown = labelled.folder / "shown.jsonl"
    shown.write_text(labelled.ok("show", "labels", "-n", "0", "--json").stdout)
    exported = labelled.folder / "v1.parquet"
    labelled.ok("export", "1", "--out", str(exported))
    (found,) = labelled.json(
        "evaluate", gold(labelled), "--compare", f"shown={shown}", "--compare", f"exported={exported}"
    )
    for name in ("shown", "exported"):
        assert found["arms"][name]["accuracy"] == found["arms"]["labels"]["accuracy"]
        assert found["arms"][name]["ece"] == pytest.approx(found["arms"]["labels"]["ece"])
        assert found["confidence"][name]["basis"] == found["confidence"]["labels"]["basis"]
        assert found["differences"][name]["p"] == 1.0
    assert found["arms"]["shown"]["brier"] == pytest.approx(found["arms"]["labels"]["brier"])


def test_answers_that_an_arm_lacks_or_garbles_are_wrong(labelled: Project) -> None:
    rows = [{**row, "label": "no idea" if i < 5 else row["label"]} for i, row in enumerate(gold_rows(labelled)[:30])]
    arm = lines(labelled.folder / "arm.jsonl", rows)
    (found,) = labelled.json("evaluate", gold(labelled), "--compare", f"arm={arm}")
    assert found["arms"]["arm"]["answered"] == 25
    assert found["arms"]["arm"]["accuracy"]["value"] == pytest.approx(25 / 40)
    assert any("`arm` has no answer to 15 of 40 rows" in sentence for sentence in found["findings"])


def test_audited_gold_rows_are_pointed_out(labelled: Project) -> None:
    sheet = lines(
        labelled.folder / "sheet.jsonl",
        [{"document_id": row["id"], "label": row["label"]} for row in gold_rows(labelled)[:25]],
    )
    labelled.ok("audit", str(sheet), "--auditor", "ann")
    labelled.ok("curate")
    (found,) = labelled.json("evaluate", gold(labelled))
    assert found["scope"]["audited"] == 25
    assert found["confidence"]["labels"] == {"basis": "audited(25)", "calibrated": True, "given": True}
    assert any("25 scored rows were audited" in sentence for sentence in found["findings"])


def test_no_id_in_common(labelled: Project) -> None:
    path = lines(labelled.folder / "other.jsonl", [{"id": "x1", "label": "positive"}])
    said = fails(labelled, str(path))
    assert "gold and the store's labels have no id in common" in said
    assert "'x1'" in said
    assert "'d0'" in said
    assert "no id in common" in fails(labelled, gold(labelled), "--compare", f"arm={path}")


def test_an_unknown_label_names_its_row(labelled: Project) -> None:
    rows = gold_rows(labelled)
    rows[2]["label"] = "splendid"
    rows[4]["label"] = "meh"
    path = lines(labelled.folder / "wrong.jsonl", rows)
    said = fails(labelled, str(path))
    assert "wrong.jsonl: row 3: 'splendid' is no option of label: positive, negative" in said
    assert "row 5: 'meh'" in said


def test_duplicate_ids(labelled: Project) -> None:
    rows = gold_rows(labelled)
    path = lines(labelled.folder / "twice.jsonl", [*rows, rows[6]])
    assert "row 41: the id 'd6' is in row 7 already" in fails(labelled, str(path))
    assert "row 41: the id 'd6'" in fails(labelled, gold(labelled), "--compare", f"arm={path}")


def test_missing_columns(labelled: Project) -> None:
    path = labelled.folder / "gold.csv"
    path.write_text("id,labl\nd1,positive\n")
    assert "gold.csv has no value column: 'label' or 'value'" in fails(labelled, str(path))
    path.write_text("name,label\nd1,positive\n")
    assert "gold.csv has no id column: 'id' or 'document_id'" in fails(labelled, str(path))
    path.write_text("id,label\n,positive\n")
    assert "gold.csv row 2: 'id' is '', which is no id" in fails(labelled, str(path))


@pytest.mark.parametrize(("name", "content"), [("gold.csv", ""), ("gold.csv", "id,label\n"), ("g.jsonl", "\n")])
def test_an_empty_file(labelled: Project, name: str, content: str) -> None:
    path = labelled.folder / name
    path.write_text(content)
    assert "is empty" in fails(labelled, str(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gold.jsonl", '{"id": "d1", "label": "positive"}\nno json\n', "row 2 cannot be read (row.invalid_json)"),
        ("gold.jsonl", '{"id": "d1", "label": null}\n{"id": "d2", "label": " "}\n', "all 2 rows are blank"),
        ("gold.jsonl", '{"id": "d1", "field": "tone", "value": "x"}\n', "has no row of the field 'label'"),
        ("gold.csv", "id,label\nd1,positive,more\n", "row 2 cannot be read (row.columns)"),
        ("gold.xyz", "id,label\n", "format"),
        ("gold.parquet", "no parquet", "damaged"),
    ],
)
def test_a_file_that_holds_no_gold(labelled: Project, name: str, content: str, message: str) -> None:
    path = labelled.folder / name
    path.write_text(content)
    assert message in fails(labelled, str(path))
    assert "does not exist" in fails(labelled, str(labelled.folder / "nowhere.jsonl"))


def test_a_class_never_seen_is_said(labelled: Project) -> None:
    rows = [row for row in gold_rows(labelled) if row["label"] == "positive"]
    (found,) = labelled.json("evaluate", str(lines(labelled.folder / "one.jsonl", rows)))
    assert any("Gold has no row of `negative`" in sentence for sentence in found["findings"])
    assert found["classes"][1]["recall"] is None


def test_before_there_are_labels(project: Project) -> None:
    path = str(lines(project.folder / "gold.jsonl", gold_rows(project)))
    assert "there is no store" in fails(project, path)
    project.ok("ingest")
    assert "the store has no labels of this task" in fails(project, path)
    assert "no dataset version yet" in fails(project, path, "--version", "latest")


def test_unknown_versions_fields_and_arms(labelled: Project) -> None:
    path = gold(labelled)
    assert "there is no dataset version 9" in fails(labelled, path, "--version", "9")
    assert "'newest' is no version" in fails(labelled, path, "--version", "newest")
    assert "labels no field 'tone'" in fails(labelled, path, "--field", "tone")
    assert "names no arm and file" in fails(labelled, path, "--compare", "student.jsonl")
    assert "two arms are called 'a'" in fails(labelled, path, "--compare", f"a={path}", "--compare", f"a={path}")
    assert "is called 'labels' already" in fails(labelled, path, "--compare", f"labels={path}")
    assert "is a file that is read" in fails(labelled, path, "--out", path)
    assert "cannot be written" in fails(labelled, path, "--out", str(labelled.settings / "report.md"))


def test_a_task_with_several_fields_needs_to_be_told_which(labelled: Project) -> None:
    text = labelled.settings.read_text(encoding="utf-8")
    second = '[task.fields.tone]\nkind = "choice"\nlabels = ["positive", "negative"]\n[engine]'
    labelled.settings.write_text(text.replace("[engine]", second), encoding="utf-8")
    labelled.ok("curate")
    assert "the task has several fields hint: --field, one of label, tone" in fails(labelled, gold(labelled))
    (found,) = labelled.json("evaluate", gold(labelled), "--field", "label")
    assert (found["field"], found["rows"]) == ("label", 40)
    assert "has no value column: 'tone' or 'value'" in fails(labelled, gold(labelled), "--field", "tone")


def test_a_version_of_another_task(labelled: Project) -> None:
    text = labelled.settings.read_text(encoding="utf-8")
    labelled.settings.write_text(text.replace("Good or bad?", "Is it good?"), encoding="utf-8")
    assert "was made with task" in fails(labelled, gold(labelled), "--version", "1")
    assert "no labels of this task" in fails(labelled, gold(labelled))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"label": "x"}, "answers nothing: none of its 1 values can be read"),
        ({"label": "positive", "probabilities": [0.5, 0.1]}, "row 1: the probabilities [0.5, 0.1] are no distribution"),
        ({"label": "positive", "probabilities": "{"}, "are no distribution over 2 options"),
    ],
)
def test_predictions_that_cannot_be_used(labelled: Project, row: dict, message: str) -> None:
    path = lines(labelled.folder / "arm.jsonl", [{"id": "d1", **row}])
    assert message in fails(labelled, gold(labelled), "--compare", f"arm={path}")


def test_probabilities_may_be_named(labelled: Project) -> None:
    rows = [{**row, "probabilities": {row["label"]: 1.0}} for row in gold_rows(labelled)]
    path = lines(labelled.folder / "arm.jsonl", rows)
    (found,) = labelled.json("evaluate", gold(labelled), "--compare", f"arm={path}")
    assert found["arms"]["arm"]["brier"] == 0.0
    assert found["arms"]["arm"]["ece"] == 0.0
