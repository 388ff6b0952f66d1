from __future__ import annotations

import pytest
from store_builders import corpus, decided, labels_table, link, rows_of

from curator.store import DUPLICATE, IngestCounts, Store
from curator.store import documents as module
from curator.types import Document, Reject, Verdict


def ids(store: Store, **options: object) -> list[str]:
    return [document.id for batch in store.documents(**options) for document in batch]


def test_documents_come_back_as_they_went_in_and_in_order(store):
    given = [Document("b", "zwei\n\x00 ü", {"stars": 5, "tags": ["x", None]}), Document("a", "", {})]
    counts = store.add_documents([given[:1], given[1:]], source="s", run_id="r")
    assert counts == IngestCounts(added=2)
    assert [document for batch in store.documents() for document in batch] == given


def test_adding_again_counts_unchanged_and_changed(store):
    store.add_documents([corpus("a", "b", "c")], source="s", run_id="r")
    again = [
        Document("a", "text of a"),
        Document("b", "other"),
        Document("c", "text of c", {"n": 1}),
        Document("d", ""),
    ]
    counts = store.add_documents([again], source="s", run_id="r2")
    assert counts == IngestCounts(added=1, unchanged=1, changed=2)
    assert counts.total == 4
    assert [document for batch in store.documents() for document in batch] == again


def test_of_one_id_twice_the_first_counts_and_the_other_is_a_reject(store, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_ROWS", 3)
    given = [*corpus("a", "b", "a", "c", "d"), Document("b", "another b"), *corpus("e")]
    counts = store.add_documents([given], source="s.jsonl", run_id="r")
    assert counts == IngestCounts(added=5, duplicate=2)
    assert ids(store) == ["a", "b", "c", "d", "e"]
    assert store.document("b") == Document("b", "text of b")
    assert store.rejects() == [Reject("s.jsonl", 3, DUPLICATE, "a"), Reject("s.jsonl", 6, DUPLICATE, "b")]


def test_a_changed_document_loses_what_was_concluded_from_its_old_text(store):
    store.add_documents([corpus("a", "b")], source="s", run_id="r")
    with store.run("test", {}) as run:
        for name in "ab":
            run.append(decided(name))
            run.append(link(name, name))
    store.write_labels("task", "r", [labels_table("a", "b")])
    store.add_verdicts("filters", [(name, "length", Verdict(True)) for name in "ab"], "r")
    store.add_documents([[Document("a", "new text")]], source="s", run_id="r2")
    assert [row["document_id"] for row in rows_of(store.decisions("task"))] == ["b"]
    assert [row["document_id"] for row in rows_of(store.labels("task"))] == ["b"]
    assert store.judged("filters") == 1
    assert store.status().completions == 2


def test_half_surrogate_pairs_do_not_stop_an_ingest(store):
    store.add_documents([[Document("a\ud800", "b\udfff", {"k": "\ud834"}), Document("c", "d")]], source="s", run_id="r")
    assert ids(store) == ["a\ufffd", "c"]


def test_a_number_that_json_cannot_hold_becomes_text_or_none(store):
    store.add_documents([[Document("a", "", {"big": 2**70, "nan": float("nan")})]], source="s", run_id="r")
    (found,) = [document for batch in store.documents() for document in batch]
    assert found.meta == {"big": str(2**70), "nan": None}


def test_batches_are_cut_to_the_size_asked_for(store, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_ROWS", 4)
    names = [str(number) for number in range(10)]
    store.add_documents([corpus(*names)], source="s", run_id="r")
    assert [len(batch) for batch in store.documents(batch=3)] == [3, 1, 3, 1, 2]
    assert ids(store, batch=3) == names
    assert ids(store, limit=5) == names[:5]
    assert ids(store, limit=0) == []


def test_large_texts_are_read_a_few_at_a_time(store, monkeypatch):
    store.add_documents([corpus(*"abcde", text="x" * 100 + "{}")], source="s", run_id="r")
    monkeypatch.setattr(module, "CHUNK_BYTES", 250)
    assert [len(batch) for batch in store.documents()] == [3, 2]
    monkeypatch.setattr(module, "CHUNK_BYTES", 1)
    assert [len(batch) for batch in store.documents()] == [1] * 5


def test_an_empty_store_has_no_documents(store):
    assert ids(store) == []
    assert store.count() == 0
    assert store.add_documents([], source="s", run_id="r") == IngestCounts()


def test_rejected_documents_are_left_out_under_their_settings_only(store):
    store.add_documents([corpus(*"abc")], source="s", run_id="r")
    verdicts = [("a", "length", Verdict(True)), ("b", "length", Verdict(False, "length.too_short", "3 < 5"))]
    assert store.add_verdicts("one", verdicts, "r") == 2
    assert ids(store, kept_by="one") == ["a", "c"]
    assert store.count("one") == 2
    assert ids(store, kept_by="two'; --") == ["a", "b", "c"]
    assert store.judged("one") == 2
    assert store.rejections("one") == {"length.too_short": 1}


def test_a_later_verdict_of_a_stage_replaces_the_earlier(store):
    store.add_documents([corpus(*"ab")], source="s", run_id="r")
    store.add_verdicts("one", [("a", "length", Verdict(False, "x")), ("b", "length", Verdict(False, "x"))], "r")
    store.add_verdicts("one", [("a", "length", Verdict(True)), ("b", "language", Verdict(True))], "r")
    assert ids(store, kept_by="one") == ["a"]
    store.add_verdicts("one", [("b", "language", Verdict(True))], "r", replace=True)
    assert ids(store, kept_by="one") == ["a", "b"]
    assert store.judged("one") == 1


def test_verdicts_may_be_made_while_the_store_is_read(store):
    store.add_documents([corpus(*"abc")], source="s", run_id="r")
    judged = ((one.id, "length", Verdict(one.id != "b", "no")) for batch in store.documents() for one in batch)
    store.add_verdicts("one", judged, "r", replace=True)
    assert ids(store, kept_by="one") == ["a", "c"]


@pytest.mark.parametrize("runs", [("r1", "r2")])
def test_a_second_run_over_a_source_replaces_its_rejects(store, runs):
    rows = [Reject("s", 1, "row.missing_text"), Reject("s", 2, "row.not_an_object", "[1]")]
    store.add_rejects(rows, runs[0])
    store.add_rejects([Reject("other", 1, "row.missing_text")], runs[0])
    assert store.add_rejects(rows[1:], runs[1]) == 1
    assert store.rejects() == [Reject("other", 1, "row.missing_text"), rows[1]]
