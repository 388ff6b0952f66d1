"""curator/task.py: what a task asks, and what it reads back."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Literal

import pytest
from pydantic import BaseModel

from curator.engines.base import render_messages
from curator.errors import TaskError
from curator.parsing import MISSING
from curator.task import Task, View, classify, respond, solve
from curator.types import Demonstration, Document, Sampling, Template


class Review(BaseModel):
    sentiment: Literal["negative", "positive"]
    stars: Literal[1, 2, 3, 4, 5]
    film: str | None = None


class Pair(BaseModel):
    a: int
    b: int


TASK = Task(Review, "Read the review.")
DOCUMENT = Document("d1", "A {great} film")


def test_closed_fields_are_decided_and_open_ones_sampled():
    assert [question.name for question in TASK.questions] == ["sentiment", "stars"]
    assert [item.name for item in TASK.sampled] == ["film"]


def test_braces_in_a_text_are_only_text():
    request = TASK.decide_request(DOCUMENT)
    (message,) = render_messages(request, request.questions[0])
    assert message.content == (
        "Text: A {great} film\n\nRead the review.\nsentiment?\nOptions:\n- negative\n- positive\n"
        "Answer with one of the options only."
    )


def test_views_put_options_in_other_orders_but_never_shuffle_a_scale():
    task = TASK.with_views(4)
    shown = [task.decide_request(DOCUMENT, view).questions[1].labels for view in range(4)]
    assert set(shown) == {("1", "2", "3", "4", "5"), ("5", "4", "3", "2", "1")}
    assert task.decide_request(DOCUMENT, 1).questions[0].labels == ("positive", "negative")


def test_demonstrations_stand_before_the_document():
    request = TASK.decide_request(DOCUMENT, demonstrations=[Demonstration("dull", {"sentiment": "negative"})])
    shown, answer, asked = render_messages(request, request.questions[0])
    assert shown.content.startswith("Text: dull")
    assert (answer.role, answer.content) == ("assistant", "negative")
    assert asked.content.startswith("Text: A {great} film")


def test_the_question_leads_where_it_is_the_only_one():
    task = classify(["negative", "positive"], "How does it sound?")
    request = task.decide_request(DOCUMENT, demonstrations=[Demonstration("dull", {"label": "negative"})])
    shown, _, asked = render_messages(request, request.questions[0])
    assert shown.content.startswith("How does it sound?")
    assert shown.content.endswith("only.\n\nText: dull")
    assert asked.content == "Text: A {great} film"


@pytest.mark.parametrize(("order", "leads"), [("question_first", True), ("state_first", False)])
def test_a_template_decides_what_stands_first(order, leads):
    for task in (TASK, classify(["negative", "positive"], "Read the review.")):
        view = View(replace(task.views[0].template, order=order))
        request = replace(task, views=(view,)).decide_request(DOCUMENT)
        for question in request.questions:
            (message,) = render_messages(request, question)
            assert message.content.startswith("Read the review." if leads else "Text: ")


def test_the_id_changes_with_everything_that_is_asked_and_with_nothing_else():
    other = (
        Task(Review, "Read the other review."),
        Task(Review, "Read the review.", views=(View(Template(state="{state}!")),)),
        TASK.with_views(2),
        Task(Review, "Read the review.", samples=6),
    )
    assert len({TASK.id, *(task.id for task in other)}) == 5
    assert Task(Review, "Read the review.").id == TASK.id


def test_values_become_the_users_type_and_missing_ones_none():
    assert TASK.build({"sentiment": "positive", "stars": 4, "film": None}) == Review(
        sentiment="positive", stars=4, film=None
    )
    assert TASK.build({"sentiment": "positive", "stars": MISSING}) is None


def test_solve_reasons_and_reads_the_answer():
    task = solve(Decimal, "Solve the problem.")
    assert task.questions == ()
    assert task.generate_request(DOCUMENT).n == 10
    values = task.parse("3 + 4 = 7\nAnswer: 7.0")
    built = task.build(values)
    assert built is not None
    assert built.answer == Decimal(7)


def test_classify_with_descriptions():
    task = classify({"ham": "a message from a friend", "spam": "an advertisement"}, "What is this?")
    assert task.questions[0].options[1].description == "an advertisement"
    built = task.build({"label": "spam"})
    assert built is not None
    assert built.label == "spam"
    assert task.build({"label": "eggs"}) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: classify(["one"], ""), "two labels or more"),
        (lambda: Task(Review, "", views=()), "at least one view"),
        (lambda: Task(Review, "", samples=0), "samples is 0"),
        (lambda: Task(Review, "", views=(View(Template(state="no text")),)), "text is not shown"),
        (lambda: Task(Review, "", views=(View(Template(question="{label}")),)), "cannot be filled"),
        (
            lambda: Task(type("T", (BaseModel,), {"__annotations__": {"a": int, "b": int}}), "", answer_format="text"),
            "one answer",
        ),
        (lambda: Task(Review, "", samples=1, answer_format="free"), "keeps one reply"),
        (lambda: replace(respond(), samples=2), "keeps one reply"),
    ],
)
def test_a_task_that_cannot_be_asked(make, message):
    with pytest.raises(TaskError, match=message):
        make()


def test_options_keep_their_order_whatever_was_made_before():
    one = classify(["first", "second"], "Which?")
    other = classify(["second", "first"], "Which?")
    assert one.questions[0].labels == ("first", "second")
    assert other.questions[0].labels == ("second", "first")
    assert one.id != other.id


def test_a_whole_reply_is_asked_for_and_kept_as_it_is():
    task, document = respond("Reply.", max_tokens=9), Document("d", "Hello {there}")
    request = task.generate_request(document)
    assert [message.content for message in request.messages] == ["Reply.\n\nHello {there}"]
    assert (request.n, request.schema, request.sampling) == (1, None, Sampling(0.0, max_tokens=9))
    assert respond().generate_request(document).messages[0].content == "Hello {there}"
    text = "Dear you,\nAnswer: no.\n{}"
    assert task.parse(f" {text}\n") == {"response": text}
    assert task.parse(" \n") == {"response": MISSING}
    assert (task.closed, task.voted, len(task.sampled)) == ((), (), 1)
