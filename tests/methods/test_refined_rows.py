"""curator/methods/refined_rows.py: which replies are rows, and what a run took."""

from __future__ import annotations

from curator.annotate import Progress
from curator.methods.refined_rows import Replies, copied, taken, written_answers
from curator.types import Document, Usage


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


def test_what_was_taken_is_the_difference() -> None:
    counts = Progress(done=5, sent=3, usage=Usage(10, 20, 1, 3), cost=1.5, errors={"refusal": 2})
    before = copied(counts)
    counts.done += 2
    counts.sent += 1
    counts.usage = counts.usage + Usage(1, 2, 0, 1)
    counts.cost += 0.25
    counts.fail("refusal")
    found = taken(counts, before)
    assert (found.done, found.sent, found.cost, found.errors, found.failed) == (2, 1, 0.25, {"refusal": 1}, 1)
    assert found.usage == Usage(1, 2, 0, 1)
    assert before.errors == {"refusal": 2}
