"""Reading gold and predictions: every kind of field, every way to write a value."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Annotated, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import BaseModel, Field

from curator.errors import InputError, SourceError
from curator.evaluation.answers import Answer, read_gold, read_predictions, stored_labels, stored_version
from curator.fields import ClosedField, Labels, OpenField, ReasoningField, read_fields
from curator.parsing import MISSING
from curator.store import Store
from tests.store.store_builders import corpus, dataset_table, labels_table


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Form(BaseModel):
    topic: Annotated[Literal["Sport", "News"] | None, Labels(none="neither")]
    good: bool
    stars: Annotated[int, Field(ge=1, le=5)]
    colour: Colour
    price: Decimal
    day: date | None
    name: str


FIELDS = {item.name: item for item in read_fields(Form, "") if not isinstance(item, ReasoningField)}


def written(tmp_path, *values: object, field: str = "topic") -> str:
    rows = [{"id": f"d{i}", field: value} for i, value in enumerate(values)]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("field", "value", "meant"),
    [
        ("topic", " sport ", "Sport"),
        ("topic", "neither", None),
        ("good", "TRUE", True),
        ("good", "no", False),
        ("good", False, False),
        ("stars", "3", 3),
        ("stars", 3.0, 3),
        ("colour", "Blue", "blue"),
        ("price", "$1,200.50", "1200.5"),
        ("price", 1200.5, "1200.5"),
        ("day", "on 2026-01-31", "2026-01-31"),
        ("day", "none", None),
        ("name", " Ann  Lee. ", "ann lee"),
    ],
)
def test_a_value_is_meant_by_its_label_or_itself(tmp_path, field, value, meant):
    found = read_gold(written(tmp_path, value, field=field), FIELDS[field]).values["d0"]
    assert found == meant
    assert type(found) is type(meant)


@pytest.mark.parametrize(
    ("field", "value"),
    [("topic", "Art"), ("good", 1), ("stars", 6), ("stars", [1]), ("price", "dear"), ("day", "soon")],
)
def test_what_is_no_value_names_the_row(tmp_path, field, value):
    with pytest.raises(SourceError, match=r"rows\.jsonl: row 1: .* is no (option of|number|date)"):
        read_gold(written(tmp_path, value, field=field), FIELDS[field])


def test_many_wrong_rows_are_not_all_listed(tmp_path):
    with pytest.raises(SourceError, match="and 20 more"):
        read_gold(written(tmp_path, *["Art"] * 30), FIELDS["topic"])


def test_blank_gold_is_left_out_and_counted(tmp_path):
    found = read_gold(written(tmp_path, "Sport", None, " "), FIELDS["topic"])
    assert (dict(found.values), found.blank) == ({"d0": "Sport"}, 2)


def test_ids_may_be_numbers_and_have_a_column_of_their_own(tmp_path):
    path = tmp_path / "gold.parquet"
    pq.write_table(pa.Table.from_pylist([{"key": 7, "id": "x", "topic": "News"}]), path)
    assert dict(read_gold(str(path), FIELDS["topic"], id_column="key").values) == {"7": "News"}
    assert dict(read_gold(str(path), FIELDS["topic"]).values) == {"x": "News"}


def test_only_rows_of_the_field_count_where_a_file_has_several(tmp_path):
    path = tmp_path / "shown.jsonl"
    rows = [
        {"document_id": "a", "field": "topic", "value": "News"},
        {"document_id": "a", "field": "good", "value": True},
    ]
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    assert dict(read_gold(str(path), FIELDS["good"]).values) == {"a": True}


def test_predictions_with_all_that_they_may_have(tmp_path):
    path = tmp_path / "arm.csv"
    path.write_text(
        "id,topic,topic_confidence,confidence,topic_basis,probabilities\n"
        'a,News,0.9,0.1,audited(60),"[0.1, 0.9, 0]"\n'
        'b,Sport,x,0.2,,"{""Sport"": 1}"\n'
        "c,Art,,0.3,,\n"
    )
    assert read_predictions(str(path), FIELDS["topic"]) == {
        "a": Answer("News", 0.9, "audited(60)", (0.1, 0.9, 0.0)),
        "b": Answer("Sport", None, "", (1.0, 0.0, 0.0)),
        "c": Answer(MISSING, None, "", ()),
    }


@pytest.mark.parametrize("shares", [[1.0, 0.5, -0.5], [0.4, 0.4, 0.1], [1.0], ["a", "b", "c"], 3])
def test_what_is_no_distribution(tmp_path, shares):
    path = tmp_path / "arm.jsonl"
    path.write_bytes(orjson.dumps({"id": "a", "topic": "News", "probabilities": shares}))
    with pytest.raises(SourceError, match=r"row 1: the probabilities .* are no distribution over 3 options"):
        read_predictions(str(path), FIELDS["topic"])


def test_labels_and_versions_of_a_store(tmp_path):
    store, field = Store(tmp_path / "s.duckdb"), FIELDS["topic"]
    assert isinstance(field, ClosedField)
    fields = '{"topic":{"confidence":0.5,"basis":"raw","probabilities":[0.5,0.25,0.25]}}'
    with store.run("test", {}) as run:
        store.add_documents([corpus("a", "b", "c")], source="s", run_id=run.id)
        tables = [labels_table("a", value='"Sport"'), labels_table("b", value=None), labels_table("c", value="null")]
        store.write_labels("task", run.id, tables)
        rows = dataset_table("a", output='{"topic":"News"}').set_column(4, "fields", pa.array([fields]))
        store.create_dataset("task", {}, [rows], {}, run.id)
    found = stored_labels(store, "task", field, {"a", "b", "c", "z"})
    assert {name: answer.value for name, answer in found.items()} == {"a": "Sport", "b": MISSING, "c": None}
    assert found["a"] == Answer("Sport", 0.75, "batch", (0.75, 0.25))
    assert stored_version(store, 1, field, {"a"}) == {"a": Answer("News", 0.5, "raw", (0.5, 0.25, 0.25))}
    with pytest.raises(InputError, match="no id in common"):
        stored_labels(store, "task", field, {"z"})
    with pytest.raises(InputError, match="no labels of this task"):
        stored_labels(store, "other", field, {"a"})
    with pytest.raises(InputError, match="no dataset version 2"):
        stored_version(store, 2, field, {"a"})


def test_every_kind_of_field_is_covered():
    assert {type(item) for item in FIELDS.values()} == {ClosedField, OpenField}
