from __future__ import annotations

import pyarrow as pa
import pytest
from store_builders import corpus, labels_table, rows_of

from curator.errors import StoreError
from curator.store import LABELS, Audit
from curator.types import Document


def test_labels_are_replaced_all_at_once_and_ordered_by_document(store):
    store.add_documents([corpus("b", "a")], source="s", run_id="r")
    first = [labels_table("a", "b", field="topic"), labels_table("a", "b", field="mood", value=None)]
    assert store.write_labels("task", "r", first) == 4
    store.write_labels("other", "r", [labels_table("a")])
    rows = rows_of(store.labels("task"))
    assert [(row["document_id"], row["field"]) for row in rows] == [
        ("b", "mood"),
        ("b", "topic"),
        ("a", "mood"),
        ("a", "topic"),
    ]
    assert rows[1] == labels_table("b").to_pylist()[0]
    assert store.write_labels("task", "r", [labels_table("b")]) == 1
    assert len(rows_of(store.labels("task"))) == 1
    assert len(rows_of(store.labels("other"))) == 1


def test_labels_may_be_made_from_the_store_they_go_into(store):
    store.add_documents([corpus("a", "b")], source="s", run_id="r")
    store.write_labels("one", "r", [labels_table("a", "b")])
    assert store.write_labels("two", "r", store.labels("one")) == 2
    assert rows_of(store.labels("two")) == rows_of(store.labels("one"))


def test_a_failure_half_way_keeps_the_old_labels(store):
    store.add_documents([corpus("a", "b")], source="s", run_id="r")
    store.write_labels("task", "r", [labels_table("a")])

    def broken():
        yield labels_table("a", "b")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.write_labels("task", "r", broken())
    assert len(rows_of(store.labels("task"))) == 1


def test_wrong_columns_are_named(store):
    with pytest.raises(StoreError, match="confidence"):
        store.write_labels("task", "r", [labels_table("a").drop_columns(["confidence"])])
    wrong = labels_table("a").set_column(3, "confidence", pa.array(["high"]))
    with pytest.raises(StoreError, match="high"):
        store.write_labels("task", "r", [wrong])


def test_columns_may_come_in_any_order_and_type_that_fits(store):
    store.add_documents([corpus("a")], source="s", run_id="r")
    table = labels_table("a").select(list(reversed(LABELS.names)))
    at = table.schema.names.index("confidence")
    table = table.set_column(at, "confidence", pa.array([0.75], pa.float32()))
    store.write_labels("task", "r", [table])
    assert rows_of(store.labels("task")) == labels_table("a").to_pylist()


def test_audits_are_kept_per_auditor_and_the_later_answer_counts(store):
    store.add_documents([corpus("a", "b")], source="s", run_id="r")
    store.add_audits("task", [Audit("a", "topic", "x", "eva"), Audit("a", "topic", "y", "udo")])
    store.add_audits("task", [Audit("a", "topic", {"n": [1, None]}, "eva"), Audit("b", "topic", True)])
    assert sorted(map(repr, store.audits("task"))) == sorted(
        map(
            repr,
            [Audit("a", "topic", {"n": [1, None]}, "eva"), Audit("a", "topic", "y", "udo"), Audit("b", "topic", True)],
        )
    )
    assert store.audits("other") == []


def test_an_audit_of_another_text_does_not_count(store):
    store.add_documents([corpus("a")], source="s", run_id="r")
    store.add_audits("task", [Audit("a", "topic", "x")])
    store.add_documents([[Document("a", "new")]], source="s", run_id="r")
    assert store.audits("task") == []
    store.add_documents([corpus("a")], source="s", run_id="r")
    assert store.audits("task") == [Audit("a", "topic", "x")]


def test_tasks_are_listed_last_saved_first(store):
    assert store.task("one") is None
    store.save_task("one", {"instruction": "é"})
    store.save_task("two", {})
    store.save_task("one", {"instruction": "new"})
    assert store.task("one") == {"instruction": "new"}
    assert [task.id for task in store.tasks()] == ["one", "two"]
