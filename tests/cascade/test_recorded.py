"""Recorded outcomes, long and wide, in three formats; what is wrong is named by row and column."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cascade.recorded import read_outcomes
from curator.errors import SourceError

LONG = """query,tier,answer,quality,cost,currency,latency,confidence,note
q1,strong,yes,1,0.011,USD,0.9,,slow
q1,small,yes,true,0.0002,USD,0.08,0.93,fast
q2,small,no,0,0.0002,USD,0.07,0.41,fast
q2,strong,yes,1,0.012,USD,1.1,,slow
q3,small,,,0.0002,USD,0.07,0.2,fast
q3,strong,yes,1,0.012,USD,1.1,,slow
"""


def write(folder, text, name="outcomes.csv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def rows_of(text):
    head, *lines = text.strip().splitlines()
    return [dict(zip(head.split(","), line.split(","), strict=True)) for line in lines]


def test_a_long_table_becomes_outcomes_the_cheapest_tier_first(tmp_path):
    found = read_outcomes(write(tmp_path, LONG))
    outcomes = found.outcomes
    assert (outcomes.tiers, outcomes.ids) == (("small", "strong"), ("q1", "q2", "q3"))
    assert (found.currency, found.incomplete, found.ignored) == ("USD", 0, ("note",))
    assert outcomes.answers[0, 0] == outcomes.answers[0, 1] != outcomes.answers[1, 0]
    assert outcomes.answers[2, 0] == -1
    assert outcomes.quality[:2].tolist() == [[1, 1], [0, 1]]
    assert np.isnan(outcomes.quality[2, 0])
    assert outcomes.cost[:, 0].tolist() == [0.0002] * 3
    assert outcomes.signals["confidence"][:, 0].tolist() == [0.93, 0.41, 0.2]
    assert np.isnan(outcomes.signals["confidence"][:, 1]).all()


def test_all_formats_say_the_same(tmp_path):
    rows = [{name: value or None for name, value in row.items()} for row in rows_of(LONG)]
    numbers = ("cost", "latency", "confidence")
    for row in rows:
        row.update({name: float(row[name]) for name in numbers if row[name]})
    lines = write(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "outcomes.jsonl")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "outcomes.parquet")
    first = read_outcomes(write(tmp_path, LONG)).outcomes
    for path in (lines, tmp_path / "outcomes.parquet"):
        other = read_outcomes(path).outcomes
        assert (other.tiers, other.ids) == (first.tiers, first.ids)
        for name in ("answers", "cost", "latency", "quality"):
            np.testing.assert_array_equal(getattr(other, name), getattr(first, name))
        np.testing.assert_array_equal(other.signals["confidence"], first.signals["confidence"])


def test_a_wide_table_is_parted_by_the_last_dot(tmp_path):
    wide = (
        "id,gpt-4.1.answer,gpt-4.1.correct,gpt-4.1.cost,small.answer,small.correct,small.cost,small.margin,prompt\n"
        "q1,yes,1,0.01,yes,1,0.001,0.9,long text\n"
        "q2,yes,1,0.01,no,0,0.001,0.1,long text\n"
    )
    outcomes = read_outcomes(write(tmp_path, wide)).outcomes
    assert outcomes.tiers == ("small", "gpt-4.1")
    assert outcomes.quality.tolist() == [[1, 1], [0, 1]]
    assert outcomes.signals["margin"][:, 0].tolist() == [0.9, 0.1]


def test_a_query_that_lacks_a_tier_is_left_out_and_counted(tmp_path):
    text = LONG + "q4,small,yes,1,0.0002,USD,0.07,0.7,fast\nq5,strong,no,1,0.01,USD,1,,slow\n"
    found = read_outcomes(write(tmp_path, text))
    assert found.outcomes.ids == ("q1", "q2", "q3")
    assert (found.incomplete, found.lacking) == (2, {"strong": 1, "small": 1})


def test_wanted_tiers_in_the_wanted_order(tmp_path):
    text = LONG + "q1,huge,yes,1,0.5,USD,3,,slow\n"
    found = read_outcomes(write(tmp_path, text), tiers=("strong", "small"))
    assert found.outcomes.tiers == ("strong", "small")
    assert found.incomplete == 0
    with pytest.raises(SourceError, match=r"holds nothing of tiny .*it holds strong, small, huge"):
        read_outcomes(write(tmp_path, text), tiers=("tiny",))


def test_without_costs_the_order_is_that_of_the_file(tmp_path):
    text = "query,tier,quality\nq1,b,1\nq1,a,0\n"
    found = read_outcomes(write(tmp_path, text))
    assert found.outcomes.tiers == ("b", "a")
    assert np.isnan(found.outcomes.cost).all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0.41", "nan", r"outcomes.csv, line 4, column confidence: 'nan' is no number"),
        ("q2,small,no,0,", "q2,small,no,NaN,", r"line 4, column quality: 'NaN' is no number"),
        ("q2,small,no,0,", "q2,small,no,7,", r"line 4, column quality: '7' is no quality"),
        ("q2,small,no,0,0.0002", "q2,small,no,0,cheap", r"line 4, column cost: 'cheap' is no number"),
        ("q2,small,no,0,0.0002", "q2,small,no,0,-1", r"line 4, column cost: '-1' is below zero"),
        ("0.0002,USD,0.07,0.41", "0.0002,EUR,0.07,0.41", r"line 4, column currency: 'EUR' after 'USD' in .*line 2"),
        ("q2,small", "q1,small", r"line 4: query q1 has tier small already, in .*line 3"),
        ("q2,small", ",small", r"line 4, column query: the query has no id"),
        ("q2,small", "q2,", r"line 4, column tier: no tier is named"),
        ("query,tier", "row,tier", r"line 2: no column is called query or query_id or id"),
        ("0.41,fast", "0.41,fast,more", r"line 4: the header has 9 columns"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, old, new, message):
    assert old in LONG
    with pytest.raises(SourceError, match=message):
        read_outcomes(write(tmp_path, LONG.replace(old, new, 1)))


def test_nan_in_json_is_named_too(tmp_path):
    path = write(tmp_path, '{"query": 1, "tier": "a", "quality": NaN}\n', "o.jsonl")
    with pytest.raises(SourceError, match="line 1, column quality: nan is no number"):
        read_outcomes(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("o.csv", "query,tier,quality\n", "holds no outcomes"),
        ("o.csv", "query,tier,quality\nq1,a,1\nq2,b,1\n", "no query that all of a, b answered"),
        ("o.txt", "", "its name ends in one of .csv, .jsonl"),
        ("o.jsonl", "{", "line 1: no JSON"),
        ("o.jsonl", "[1]\n", "line 1: not a JSON object"),
        ("o.parquet", "no parquet", "is damaged or not what its name says"),
        ("o.csv", 'query,tier\n"q1,a\n', "is damaged or not what its name says"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, name, text, message):
    with pytest.raises(SourceError, match=message):
        read_outcomes(write(tmp_path, text, name))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        read_outcomes(tmp_path / "none.csv")


def test_a_signal_that_is_asked_for_must_be_numbers(tmp_path):
    path = write(tmp_path, LONG)
    assert list(read_outcomes(path, signals=("confidence",)).outcomes.signals) == ["confidence"]
    with pytest.raises(SourceError, match="column note: 'slow' is no number"):
        read_outcomes(path, signals=("note",))
    with pytest.raises(SourceError, match=r"no signal margin .*its other columns: note, confidence"):
        read_outcomes(path, signals=("margin",))
