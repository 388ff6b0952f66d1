"""Sheets for a certificate against the truth: whom they draw, what is read of them, and what that is worth."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from benchmarks.mock_server import MockServer
from cascade.certify import Asked, CertifySettings, certify
from cascade.outcomes import Outcomes, served
from cascade.policy import Verdict
from cli.output import Output
from cli.sheets import DRAW, Checked, Reached, Sheet, drawn, write
from curator.errors import InputError
from curator.store import DrawnDocument, Store
from curator.task import classify
from curator.types import Json
from tests.cascade.recorded_world import route, world
from tests.cli.conftest import Project, Serve
from tests.cli.test_certification import TIERS, Large

TASK = classify(["a", "b"], "Which?")
SETTINGS = CertifySettings(alpha=0.15, delta=0.1, basis="vs_truth", fusion=False)
ASKED = Asked("label", "f1")


@pytest.fixture(scope="module")
def population() -> Outcomes:
    return world(20_000)


@pytest.mark.parametrize("share", [1.0, 0.7])
def test_the_risk_is_held_by_whole_sheets_and_by_those_that_people_stopped_at(
    population: Outcomes, share: float
) -> None:
    """200 samples of 600 queries, 150 documents drawn of each, of which people check the first `share`."""
    random, broken, passed = np.random.default_rng(5), 0, 0
    for seed in range(200):
        sample = population.take(random.choice(len(population), 600, replace=False))
        ids = [str(number) for number in range(600)]
        settings = replace(SETTINGS, seed=seed)
        rows, ratio = drawn({"label": sample}, ids, {"label": settings}, 150)
        assert ratio == 2.0
        asked = sorted((row for row in rows if row.place is not None), key=lambda row: row.place or 0.0)
        read: dict[tuple[str, str], Json] = {
            (row.document_id, "label"): "a" for row in asked[: round(share * len(asked))]
        }
        reached = Reached.of("label", asked, read)
        chance = Checked({}, {"label": reached.chances(rows)}).weights("label", ids)
        known = [int(name) for name in reached.answered]
        quality = np.full_like(sample.quality, np.nan)
        quality[known] = sample.quality[known]
        made = certify(replace(sample, quality=quality), ASKED, settings, chance=chance)
        passed += made.certificate.verdict is Verdict.PASS
        risk = 1 - served(population.quality, route(made, population)).mean()
        broken += made.certificate.verdict is Verdict.PASS and risk > (made.certificate.bound or 0)
    assert broken / 200 <= 0.1 + 2 * math.sqrt(0.09 / 200)
    assert passed > 40


def test_a_draw_is_of_the_test_half_and_of_what_is_doubtful_in_any_field() -> None:
    first, second = world(400, seed=1), world(400, seed=2)
    ids = [f"d{number}" for number in range(400)]
    rows, _ = drawn({"a": first, "b": second}, ids, {"a": SETTINGS, "b": SETTINGS}, 100)
    assert [row.document_id for row in rows] == ids
    odds = sorted({row.chance for row in rows if row.chance is not None})
    assert sum(row.chance is not None for row in rows) == 200
    assert odds[1] == pytest.approx(2 * odds[0])
    assert 70 < sum(row.place is not None for row in rows) < 130
    assert all(row.chance is not None for row in rows if row.place is not None)


def test_a_count_that_shows_nothing_is_refused_and_a_small_one_is_drawn_uniformly() -> None:
    outcomes, ids = {"a": world(400)}, [str(number) for number in range(400)]
    with pytest.raises(InputError, match=r"10 documents cannot show a risk of 15.0%, .* \(--draw 16, or"):
        drawn(outcomes, ids, {"a": SETTINGS}, 10)
    assert drawn(outcomes, ids, {"a": SETTINGS}, 16)[1] == 1.0
    with pytest.raises(InputError, match=r"250 of 200 documents cannot be drawn: the other 200 are for learning"):
        drawn(outcomes, ids, {"a": SETTINGS}, 250)
    with pytest.raises(InputError, match=r"cannot show a risk of 0.1%.* \(a larger --sample"):
        drawn(outcomes, ids, {"a": replace(SETTINGS, alpha=0.001)}, 200)


TEXTS = {f"d{number}": f"text {number}" for number in range(8)}
ROWS = [
    *(DrawnDocument(f"d{number}", 0.5, number / 10) for number in range(5)),
    DrawnDocument("d5", 0.25, None),
    DrawnDocument("d6", None, None),
    DrawnDocument("d7", None, None),
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "x.duckdb")
    made.add_draw("abcd", TASK.id, ROWS)
    return made


@pytest.fixture
def sheet(tmp_path: Path, store: Store) -> Path:
    path = tmp_path / "sheet.csv"
    assert write(path, TASK, "abcd", ROWS, TEXTS) == 5
    return path


def fill(path: Path, changes: dict[str, dict[str, str]], without: str = "") -> None:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [{**row, **changes.get(row["document_id"], {})} for row in rows if row["document_id"] != without]
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(kept)


def read(path: Path, store: Store) -> Checked:
    return Sheet.read(path).checked(store, TASK, TEXTS, Output())


def answers(**given: str) -> dict[str, dict[str, str]]:
    return {name: {"label": label} for name, label in given.items()}


def test_a_sheet_shows_the_drawn_documents_in_the_order_of_their_places(sheet: Path) -> None:
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"document_id": "d0", "text": "text 0", "label": "", DRAW: "abcd"}
    assert [row["document_id"] for row in rows] == ["d0", "d1", "d2", "d3", "d4"]


def test_a_filled_sheet_has_the_chances_of_the_draw(sheet: Path, store: Store) -> None:
    fill(sheet, answers(d0="a", d1="b", d2="a", d3="a", d4="b"))
    found = read(sheet, store)
    assert found.truth == {"label": {"d0": "a", "d1": "b", "d2": "a", "d3": "a", "d4": "b"}}
    assert found.missed == {"label": frozenset()}
    assert found.documents == tuple(TEXTS)
    weights = found.weights("label", ["d0", "d5", "d7", "else"])
    assert weights is not None
    assert weights[:2].tolist() == [0.5, 0.25]
    assert np.isnan(weights[2:]).all()
    assert found.notes["label"] == "5 of 5 rows that were drawn, the doubtful more often, were checked"


def test_a_sheet_filled_in_half_is_a_smaller_draw(
    sheet: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(sheet, answers(d0="a", d2="b"))
    found = read(sheet, store)
    assert found.truth == {"label": {"d0": "a", "d2": "b"}}
    assert found.missed == {"label": frozenset({"d1"})}, "one that was passed over may have been a hard one"
    weights = found.weights("label", ["d0", "d5"])
    assert weights is not None
    assert weights.tolist() == pytest.approx([0.5 * 0.2, 0.25 * 0.2])
    assert found.notes["label"].startswith("2 of 5 rows that were drawn, the doubtful more often, were checked; 1")
    assert "1 that were passed over count as wrong" in found.notes["label"]
    assert capsys.readouterr().err == ""


def test_what_is_wrong_is_told_by_row_and_the_rest_is_used(
    sheet: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = answers(d0="a", d1="what", d4="B")
    changes["d2"] = {"document_id": "d7", "label": "a"}
    changes["d4"] |= {"text": "text  4"}
    fill(sheet, changes, without="d3")
    found = read(sheet, store)
    assert found.truth == {"label": {"d0": "a", "d4": "b"}}
    assert found.missed == {"label": frozenset({"d1", "d2", "d3"})}
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "row 3: 'label' is 'what', which is no option: a, b",
        "row 4: no document to check has the id 'd7'",
        "the document 'd2' was drawn and has no row",
        "the document 'd3' was drawn and has no row",
    ]


def test_rows_of_other_draws_and_changed_texts(sheet: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    changes = answers(d0="a", d1="b", d2="a")
    changes["d1"] |= {DRAW: "other"}
    changes["d2"] |= {"text": "another text"}
    fill(sheet, changes)
    assert read(sheet, store).truth == {"label": {"d0": "a"}}
    said = capsys.readouterr().err
    assert "row 3: it is of no draw, or of another one" in said
    assert "row 4: the text of 'd2' is another one in the store" in said


def test_sheets_that_say_nothing(sheet: Path, store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing is filled in \(fill in label"):
        read(sheet, store)
    plain = tmp_path / "plain.jsonl"
    plain.write_bytes(orjson.dumps({"document_id": "d0", "label": "a"}))
    with pytest.raises(InputError, match="no column 'draw'"):
        Sheet.read(plain)
    fill(sheet, {name: {DRAW: "gone", "label": "a"} for name in TEXTS})
    with pytest.raises(InputError, match="knows no draw 'gone' of this task"):
        read(sheet, store)
    with pytest.raises(InputError, match="No such file"):
        Sheet.read(tmp_path / "absent.csv")


def test_documents_that_are_gone_are_counted(sheet: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    fill(sheet, answers(d0="a"))
    texts = {name: text for name, text in TEXTS.items() if name not in ("d6", "d7")}
    found = Sheet.read(sheet).checked(store, TASK, texts, Output())
    assert found.documents == tuple(texts)
    assert "2 documents of the draw are not there any more" in capsys.readouterr().err


def test_from_a_draw_to_a_certificate_against_the_truth(project: Project, serve: Serve) -> None:
    project.texts = [f"film number {i} was seen" for i in range(300)]
    project.write(TIERS.replace("SMALL", serve(MockServer()).url).replace("LARGE", serve(Large()).url))
    project.ok("ingest")
    sheet, policy = project.folder / "sheet.jsonl", project.folder / "policy.json"
    done = project.ok("certify", "--draw", "90", "--sheet", str(sheet))
    assert "fill in label: positive, negative" in done.stderr
    assert f"goldless certify --sheet {sheet}" in done.stderr.replace("\n", "")
    assert not policy.exists()
    assert project.run("certify", "--draw", "90", "--sheet", str(sheet)).exit_code == 2

    rows = [orjson.loads(line) for line in sheet.read_bytes().splitlines()]
    for row in rows:
        (life,) = project.json("why", row["document_id"])
        strongest = max(life["annotations"], key=lambda one: one["cost"])
        row["label"] = ["positive", "negative"][int(np.argmax(strongest["logprobs"][0]))]
    rows[3]["label"] = "neither"
    sheet.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    done = project.run("certify", "--sheet", str(sheet), "--no-gate", "--json", "--out", str(policy))
    assert "row 4: 'label' is 'neither', which is no option: positive, negative" in done.stderr
    certificate = orjson.loads(done.stdout)["questions"][0]["certificate"]
    assert (certificate["basis"], certificate["rows"]) == ("vs_truth", len(rows))
    assert f"{len(rows) - 1} of {len(rows)} rows that were drawn, the doubtful more often" in certificate["notes"][-1]
    assert certificate["risk"] > 0, "the row without an answer counts as wrong"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--draw", "10"], "which sheet is to be written?"),
        (["--audits", "--sheet", "x.csv"], "a sheet is a weighted one: they do not mix"),
        (["--sheet", "x.csv"], "there are no documents"),
    ],
)
def test_options_that_do_not_go_together(project: Project, arguments: list[str], message: str) -> None:
    project.write(TIERS.replace("SMALL", project.url).replace("LARGE", project.url))
    done = project.run("certify", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
