"""The report: what the page says, by hand-counted figures, and that it says no more."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from curator.errors import InputError
from curator.evaluation.answers import Answer, Gold
from curator.evaluation.joined import Evaluation, join
from curator.fields import read_fields
from curator.report import table, to_json, to_markdown, worst_confused, write_report
from curator.task import classify

TOPIC = classify(["a", "b", "c"], "Which?").closed[0]


def evaluation(basis: str = "batch", **arms: str) -> Evaluation:
    """Forty rows, gold 20 a and 20 b; each arm is a string of 40 labels, `-` for none."""
    gold = {f"{i:02}": "ab"[i % 2] for i in range(40)}
    given_answers: Mapping[str, dict[str, Answer]] = {
        name: {f"{i:02}": Answer(value, 0.9, basis) for i, value in enumerate(values) if value != "-"}
        for name, values in arms.items()
    }
    return join(TOPIC, Gold("gold.jsonl", gold), given_answers)


GOOD = "ab" * 20
HALF_WRONG = "ab" * 10 + "ba" * 10


def test_the_page_has_every_part():
    page = to_markdown(evaluation(labels=HALF_WRONG, student="ab" * 15 + "ba" * 5, ceiling=GOOD))
    titles = [line for line in page.splitlines() if line.startswith("#")]
    assert titles == [
        "# Evaluation of `label`",
        "## Arms",
        "## Differences to `labels`",
        "## Performance gap recovered",
        "## Confidence",
        "## Classes of `labels`",
        "## Confusion",
        "## How to read this",
    ]
    assert "| labels | 40 of 40 | 50.0% (" in page
    assert "| student | +25.0 points (" in page
    assert "| a | 20 | 20 | 0.500 | 0.500 | 0.500 |" in page
    assert "| a | 10 | 10 | 0 | 0 |" in page
    assert "PGR: 0.50 (95% interval " in page


def test_a_page_without_other_arms_has_no_comparison():
    page = to_markdown(evaluation(labels=GOOD))
    assert "Differences" not in page
    assert "PGR of" not in page
    assert "`labels` is right on 100.0% of 40 gold rows" in page


def test_undefined_pgr_says_why():
    found = evaluation(labels=GOOD, student=GOOD, ceiling=GOOD)
    assert "undefined: ceiling - weak is 0.0 points" in to_markdown(found)
    data = to_json(found)["pgr"]
    assert isinstance(data, dict)
    assert (data["value"], data["defined"]) == (None, False)
    assert data["reason"]


@pytest.mark.parametrize(
    ("basis", "said", "unsaid"),
    [
        ("batch", "*uncalibrated*, basis batch", "calibrated, basis batch."),
        ("", "*uncalibrated*, basis not stated", "basis ."),
        ("audited(60)", "calibrated, basis audited(60)", "*uncalibrated*"),
        ("reference:big", "calibrated, basis reference:big", "*uncalibrated*"),
    ],
)
def test_uncalibrated_is_said_wherever_it_applies(basis, said, unsaid):
    page = to_markdown(evaluation(basis, labels=GOOD, other=HALF_WRONG))
    assert page.count(said) == 3
    if basis.startswith(("audited", "reference")):
        assert unsaid not in page


def test_json_has_the_same_figures_and_can_be_written():
    data = orjson.loads(orjson.dumps(to_json(evaluation(labels=HALF_WRONG, other=GOOD))))
    assert data["arms"]["labels"]["accuracy"]["value"] == 0.5
    assert data["differences"]["other"]["won"] == 20
    assert data["confusion"]["counts"] == [[10, 10, 0, 0], [10, 10, 0, 0], [0, 0, 0, 0]]
    assert data["confusion"]["predicted"] == ["a", "b", "c", None]
    assert data["pgr"] is None
    assert len(data["findings"]) >= 4


class Sum(BaseModel):
    total: int


def test_an_open_field_has_no_classes():
    (total,) = read_fields(Sum, "How much?")
    found = join(total, Gold("g", {"x": "2", "y": "3"}), {"labels": {"x": Answer("2"), "y": Answer("4")}})
    page, data = to_markdown(found), to_json(found)
    assert "Classes" not in page
    assert "macro-F1" not in page
    assert "classes" not in data
    assert "`labels` gives no confidence" in page


def test_the_worst_confused_classes_are_shown():
    counts = np.zeros((20, 21), dtype=np.int64)
    np.fill_diagonal(counts, 50)
    counts[3, 17], counts[17, 4], counts[9, 2] = 9, 7, 5
    assert worst_confused(counts) == [2, 3, 4, 9, 17]
    assert worst_confused(counts, 4) == [3, 4, 17]
    assert worst_confused(counts[:5, :6], 8) == [0, 1, 2, 3, 4]


@settings(deadline=None)
@given(st.integers(9, 15), st.integers(0, 1000))
def test_never_more_classes_than_fit(classes, seed):
    counts = np.random.default_rng(seed).integers(0, 5, (classes, classes + 1))
    chosen = worst_confused(counts)
    assert len(chosen) <= 8
    assert chosen == sorted(set(chosen))


@settings(deadline=None)
@given(st.text(alphabet="a|\\\n\r ` ", max_size=10))
def test_a_cell_never_breaks_its_table(text):
    lines = table(["x", "y"], [[text, "end"]]).split("\n")
    assert len(lines) == 3
    assert lines[2].endswith("| end |")


def test_a_report_appears_whole_or_not_at_all(tmp_path):
    found = evaluation(labels=GOOD)
    write_report(found, tmp_path / "new" / "r.md")
    assert (tmp_path / "new" / "r.md").read_text(encoding="utf-8") == to_markdown(found)
    write_report(found, tmp_path / "r.json")
    assert orjson.loads((tmp_path / "r.json").read_bytes())["subject"] == "labels"
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_report(found, tmp_path / "taken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "r.json", "taken"]
