"""curator/methods/refinement_prompts.py: batches, and what is asked."""

from __future__ import annotations

import pytest

from curator.methods.refinement_prompts import (
    Pairs,
    batches,
    by_examples,
    concepts,
    improving,
    sentence,
    under_concepts,
)
from curator.task import respond
from curator.types import Document

TASK = respond("Reply.")
DOCUMENTS = {name: Document(name, f"text of {name}") for name in "abcdefgh"}
PAIRS = Pairs(DOCUMENTS, {name: f"reply to {name}" for name in "abcdefg"}, 4, 0)


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (5, [5]), (6, [3, 3]), (11, [4, 4, 3]), (20, [5] * 4)])
def test_batches_are_even_and_hold_every_document_once(count: int, sizes: list[int]) -> None:
    names = [f"d{i}" for i in range(count)]
    found = batches(names, 5, 0)
    assert sorted(map(len, found), reverse=True) == sizes
    assert sorted(name for batch in found for name in batch) == sorted(names)


def test_batches_depend_on_the_seed_and_not_on_the_order() -> None:
    names = [f"d{i}" for i in range(40)]
    assert batches(names, 5, 0) == batches(names[::-1], 5, 0)
    assert batches(names, 5, 0) != batches(names, 5, 1)
    assert batches(names, 5, 0) != [tuple(names[start : start + 5]) for start in range(0, 40, 5)]


def test_examples_are_the_others_of_a_batch() -> None:
    asked = by_examples(TASK, PAIRS)(DOCUMENTS["a"])
    assert asked is not None
    others = [name for name in PAIRS.batch("a") if name != "a"]
    assert [message.content for message in asked.messages] == [
        *(text for name in others for text in (f"Reply.\n\ntext of {name}", f"reply to {name}")),
        "Reply.\n\ntext of a",
    ]
    # Without a weak answer there is no batch, and alone in one there is nothing to show.
    assert by_examples(TASK, PAIRS)(DOCUMENTS["h"]) is None
    assert by_examples(TASK, Pairs(DOCUMENTS, {"a": "x"}, 4, 0))(DOCUMENTS["a"]) is None


def test_a_batchs_first_document_stands_for_it() -> None:
    asked = {name: concepts(PAIRS)(document) for name, document in DOCUMENTS.items()}
    firsts = {name for name, one in asked.items() if one is not None}
    assert firsts == {PAIRS.batch(name)[0] for name in PAIRS.answers}
    shown = asked[PAIRS.batch("a")[0]]
    assert shown is not None
    assert all(
        f"Text: text of {name}\nAnswer: reply to {name}" in shown.messages[0].content for name in PAIRS.batch("a")
    )


def test_under_a_sentence_no_weak_answer_is_shown() -> None:
    asked = under_concepts(TASK, PAIRS, {PAIRS.batch("a")[0]: "The style used is {dry}."})(DOCUMENTS["a"])
    assert asked is not None
    assert [(message.role, message.content) for message in asked.messages] == [
        ("system", "The style used is {dry}. Answer in this style."),
        ("user", "Reply.\n\ntext of a"),
    ]
    assert under_concepts(TASK, PAIRS, {})(DOCUMENTS["a"]) is None
    assert under_concepts(TASK, PAIRS, {"": "x"})(DOCUMENTS["h"]) is None


def test_improving_shows_the_text_and_its_answer() -> None:
    asked = improving(TASK, PAIRS)(DOCUMENTS["a"])
    assert asked is not None
    assert asked.messages[0].content.startswith("Reply.\n\ntext of a\n\nHere is an answer:\nreply to a\n\n")
    assert improving(TASK, PAIRS)(DOCUMENTS["h"]) is None


def test_a_concept_is_the_first_line_that_says_something() -> None:
    assert sentence("\n  The style   used is dry. \nMore.") == "The style used is dry."
    assert sentence(" \n ") == ""
