"""curator/methods/refined_rows.py: which replies are rows."""

from __future__ import annotations

from curator.methods.refined_rows import Replies, written_answers
from curator.types import Document


def test_texts_that_were_cut_off_or_are_empty_are_counted_as_missing() -> None:
    found = Replies()
    for name, text, finish in (("a", " whole ", "stop"), ("b", "cut", "length"), ("c", " \n", "stop")):
        found.add(name, text, finish)
    assert found.texts == {"a": "whole"}
    assert found.missing == {"cut_off": 1, "empty": 1}


def test_answers_of_a_column_are_texts_whatever_they_are() -> None:
    documents = {
        "a": Document("a", "x", {"reply": "yes"}),
        "b": Document("b", "x", {"reply": 7}),
        "c": Document("c", "x", {"reply": None}),
        "d": Document("d", "x", {"reply": ""}),
        "e": Document("e", "x"),
    }
    found = written_answers(documents, "reply")
    assert found.texts == {"a": "yes", "b": "7"}
    assert found.missing == {"no_answer": 2, "empty": 1}
