from __future__ import annotations

import pytest
from store_builders import corpus, dataset_table, preference_table, rows_of

from curator.errors import InputError, StoreError
from curator.store import DATASET_COLUMNS, Change
from curator.store import versions as module
from curator.types import Document


@pytest.fixture
def filled(store):
    store.add_documents([corpus(*"abcd")], source="s", run_id="r")
    return store


def create(store, *tables, task="task", policy=None):
    return store.create_dataset(task, policy or {"quota": 1}, tables, {"kept": 2}, "run")


def test_a_version_holds_its_rows_in_order_with_their_texts(filled):
    made = create(filled, dataset_table("c"), dataset_table("a", output='{"topic":"b"}', confidence=0.5))
    assert (made.version, made.rows, made.task_id, made.policy, made.report) == (
        1,
        2,
        "task",
        {"quota": 1},
        {"kept": 2},
    )
    assert filled.datasets() == [made]
    assert filled.dataset(1) == made
    first, second = rows_of(filled.dataset_rows(1))
    assert tuple(first) == DATASET_COLUMNS
    assert (first["document_id"], first["text"], first["meta"]) == ("c", "text of c", "{}")
    assert (second["document_id"], second["output"], second["confidence"]) == ("a", '{"topic":"b"}', 0.5)


def test_a_version_never_changes_when_its_documents_do(filled):
    create(filled, dataset_table("a"))
    before = rows_of(filled.dataset_rows(1))
    filled.add_documents([[Document("a", "new text", {"n": 1})]], source="s", run_id="r")
    assert rows_of(filled.dataset_rows(1)) == before
    assert create(filled, dataset_table("a")).version == 2


def test_the_same_content_and_policy_is_the_same_version(filled):
    first = create(filled, dataset_table("a", "b"))
    assert create(filled, dataset_table("a"), dataset_table("b")) == first
    different = [
        create(filled, dataset_table("b", "a")),
        create(filled, dataset_table("a")),
        create(filled, dataset_table("a", "b", confidence=0.7500000001)),
        create(filled, dataset_table("a", "b", output='{"topic":"c"}')),
        create(filled, dataset_table("a", "b"), task="other"),
        create(filled, dataset_table("a", "b"), policy={"quota": 2}),
    ]
    assert [made.version for made in different] == [2, 3, 4, 5, 6, 7]
    assert len({made.hash for made in (first, *different)}) == 7
    assert len(filled.datasets()) == 7


def test_the_hash_does_not_depend_on_the_store(filled, tmp_path):
    from curator.store import Store

    other = Store(tmp_path / "other.duckdb")
    other.add_documents([corpus(*"dcba")], source="elsewhere", run_id="x")
    assert create(other, dataset_table("a", "b")).hash == create(filled, dataset_table("a", "b")).hash


def test_a_document_that_is_not_there_is_named(filled):
    with pytest.raises(InputError, match="'zz'"):
        create(filled, dataset_table("a", "zz"))
    assert filled.datasets() == []


def test_wrong_columns_are_named(filled):
    with pytest.raises(StoreError, match="weight"):
        create(filled, dataset_table("a").drop_columns(["weight"]))


def test_an_unknown_version_lists_those_that_exist(filled):
    with pytest.raises(InputError, match="none yet"):
        filled.dataset(1)
    create(filled, dataset_table("a"))
    with pytest.raises(InputError, match="there are 1"):
        list(filled.dataset_rows(7))
    with pytest.raises(InputError, match="version 9"):
        filled.diff(1, 9)


def test_large_versions_are_read_page_by_page(filled, monkeypatch):
    create(filled, dataset_table(*"abcd"))
    monkeypatch.setattr(module, "_PAGE", 3)
    assert [table.num_rows for table in filled.dataset_rows(1, batch=2)] == [2, 1, 1]


def test_a_diff_tells_added_removed_and_changed(filled):
    create(filled, dataset_table("a", "b", "c"))
    filled.add_documents([[Document("c", "new text")]], source="s", run_id="r")
    create(
        filled, dataset_table("d", "a"), dataset_table("b", output='{"topic":"z"}', confidence=0.5), dataset_table("c")
    )
    found = filled.diff(1, 2)
    assert (found.added, found.removed, found.unchanged) == (("d",), (), 1)
    assert found.changed == (
        Change(
            "b",
            {"output": {"topic": "a"}, "confidence": 0.75, "text_changed": False},
            {"output": {"topic": "z"}, "confidence": 0.5, "text_changed": False},
        ),
        Change(
            "c",
            {"output": {"topic": "a"}, "confidence": 0.75, "text_changed": True},
            {"output": {"topic": "a"}, "confidence": 0.75, "text_changed": True},
        ),
    )
    back = filled.diff(2, 1)
    assert (back.added, back.removed, back.changed_count) == ((), ("d",), 2)


def test_the_counts_of_a_diff_are_complete_where_its_lists_are_cut(filled):
    create(filled, dataset_table("a"))
    create(filled, dataset_table("b", "c", "d"))
    found = filled.diff(1, 2, limit=2)
    assert (found.added_count, found.added, found.removed_count) == (3, ("b", "c"), 1)
    assert filled.diff(1, 2, limit=None).added == ("b", "c", "d")
    same = filled.diff(1, 1)
    assert (same.added_count, same.removed_count, same.changed_count, same.unchanged) == (0, 0, 0, 1)


def prefer(store, *tables):
    return store.create_preferences("task", {}, tables, {}, "run")


def test_both_kinds_share_the_numbers_and_neither_is_read_as_the_other(filled):
    create(filled, dataset_table("a"))
    prefer(filled, preference_table("b", "c", "b"))
    create(filled, dataset_table("c"))
    assert [(made.version, made.kind, made.rows) for made in filled.datasets()] == [
        (1, "labels", 1),
        (2, "preferences", 3),
        (3, "labels", 1),
    ]
    assert [row["document_id"] for row in rows_of(filled.preference_rows(2))] == ["b", "c", "b"]
    assert filled.version_documents(2) == {"b", "c"}
    assert filled.version_documents(3) == {"c"}
    with pytest.raises(InputError, match="version 2 holds preference pairs, not labelled rows"):
        list(filled.dataset_rows(2))
    with pytest.raises(InputError, match="version 1 holds labelled rows, not preference pairs"):
        list(filled.preference_rows(1))
    with pytest.raises(InputError, match="version 2 holds preference pairs"):
        filled.diff(1, 2)


def test_a_diff_of_preferences_tells_what_is_preferred(filled):
    prefer(filled, preference_table("a", "b", "c"))
    prefer(filled, preference_table("d", "a"), preference_table("b", chosen="two", rejected="four"))
    found = filled.diff(1, 2)
    assert (found.added, found.removed, found.unchanged) == (("d",), ("c",), 1)
    (change,) = found.changed
    assert change.old["output"] == {"prompt": [], "chosen": "two", "rejected": "three"}
    assert change.new["output"] == {"prompt": [], "chosen": "two", "rejected": "four"}


def test_the_rows_of_a_document_that_has_several_are_compared_in_their_order(filled):
    create(filled, dataset_table("a", "a"), dataset_table("b", "b"))
    create(filled, dataset_table("a", "a"), dataset_table("b"), dataset_table("b", output='{"topic":"z"}'))
    create(filled, dataset_table("a", "b"))
    same = filled.diff(1, 1)
    assert (same.added_count, same.removed_count, same.changed_count, same.unchanged) == (0, 0, 0, 4)
    found = filled.diff(1, 2)
    assert (found.changed_count, found.unchanged) == (1, 3)
    assert filled.diff(1, 3).removed == ("a", "b")
