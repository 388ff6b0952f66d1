"""Served questions in the store."""

from __future__ import annotations

from dataclasses import replace

from store_builders import corpus

from curator.store import ServedQuestion, Store
from curator.types import Document

ROW = ServedQuestion(
    "q1", "a", "label", "f1", "policy-1", "small", "positive", 0.9, "raw", 0.1, True, None, 0.5, "2026-05-01T12:00:00"
)


def test_what_was_served_is_kept_once(store: Store) -> None:
    both = [ROW, replace(ROW, question="urgency")]
    store.add_traffic(both, "run-1")
    store.add_traffic([replace(ROW, tier="strong"), replace(ROW, request_id="q2", tier="strong")], "run-2")
    assert store.status().traffic == {"small": 2, "strong": 1}
    assert store.known_requests(["q1", "q3"]) == {"q1"}
    assert store.known_requests([]) == set()


def test_a_document_tells_what_was_served_about_it(store: Store) -> None:
    store.add_documents([corpus("a", "b")], source="s", run_id="r")
    store.add_traffic([ROW, replace(ROW, request_id="q2", document_id=None)], "run-1")
    assert store.served_documents(["a", "b"]) == {"a"}
    (served,) = store.why("a")["traffic"]
    assert served == {
        "request_id": "q1", "question": "label", "tier": "small", "value": "positive", "confidence": 0.9,
        "basis": "raw", "audit": 0.1, "disagreed": True, "policy": "policy-1", "received_at": "2026-05-01 12:00:00",
        "run_id": "run-1",
    }  # fmt: skip
    assert store.why("b")["traffic"] == []


def test_documents_are_found_by_their_text(store: Store) -> None:
    same = [Document("x", "same"), Document("y", "same"), Document("z", "other")]
    store.add_documents([same], source="s", run_id="r")
    assert store.with_text(["same", "absent"]) == {"same": "x"}
    assert store.with_text([]) == {}
