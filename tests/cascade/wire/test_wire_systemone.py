"""The System One shape on the server's side, against the official client's types and our own client."""

from __future__ import annotations

import httpx2
import pytest
from hypothesis import given
from sparrow_decider import Decider
from typesafe_sdk import SystemOneResponse

from cascade.wire.extras import decision_block
from cascade.wire.reading import FieldError
from cascade.wire.systemone import parse, reply
from curator.engines.dialects import SystemOneDialect
from curator.types import DecideRequest, Option, Question
from tests.cascade.wire.wire_builders import (
    STAMP,
    almost,
    as_json,
    client_dialect,
    decision,
    escalated,
    read_or_refused,
    served,
)

MOOD = Question("mood", "choice", "What is the mood?", (Option("positive", "glad words"), Option("negative")))
REFUND = Question("refund", "predicate", "Money back?", (Option("yes", "asks"), Option("no")))
URGENT = Question("urgency", "score", "How urgent?", (Option("can wait"), Option("now")))
ROW = DecideRequest("I was charged twice", (MOOD, REFUND, URGENT))

BODY = {
    "model": "cascade",
    "priority": 1,
    "state": {"message": "I was charged twice", "tags": ["a", None]},
    "questions": {
        "billing": {"type": "noul", "instructions": "About billing?", "criteria": {"true": "money", "false": None}},
        "tone": {"type": "choice", "criteria": {"calm": None, "angry": {"words": ["now"]}}},
        "urgency": {"type": "score", "instructions": {"task": "rate"}, "criteria": ["low", {"level": "high"}]},
    },
}


def answered(call, *answers):
    routed = escalated(*answers)
    names = [question.name for question in call.request.questions]
    return as_json(reply(STAMP, call, routed, decision_block(routed, "USD", names)))


def dialect():
    return client_dialect(SystemOneDialect)


def test_what_our_own_client_sends_and_reads_is_the_same():
    call = parse(dialect().body(ROW, ROW.state))
    assert call.request == ROW
    said = decision(0.7, 0.3, mass=0.8), decision(0.2, 0.8), decision(0.1, 0.9)
    body = answered(call, *(served(one, q.name) for one, q in zip(said, ROW.questions, strict=True)))
    read = dialect().read(ROW, body).answers
    assert [one.probabilities for one in read] == [pytest.approx(one.probabilities) for one in said]
    assert [one.label_mass for one in read] == [0.8, None, None]


def test_the_official_client_reads_the_answers():
    call = parse(BODY)
    parts = [served(decision(0.25, 0.75), name, sure=0.6) for name in BODY["questions"]]
    found = SystemOneResponse.from_http_response(httpx2.Response(200, json=answered(call, *parts)))
    assert found.nouls["billing"].noul == pytest.approx(0.25)
    assert (found.choices["tone"].choice, found.choices["tone"].confidence) == ("angry", 0.6)
    assert found.scores["urgency"].score == pytest.approx(0.75)
    assert found.scores["urgency"].legend == {0: "low", 1: {"level": "high"}}
    assert (found.usage.input_tokens, found.usage.output_tokens) == (20, 2)


def test_structured_parts_become_json():
    request = parse(BODY).request
    assert request.state == '{"message":"I was charged twice","tags":["a",null]}'
    assert request.questions[1].options[1] == Option("angry", '{"words":["now"]}')
    assert request.questions[2].instructions == '{"task":"rate"}'
    assert request.questions[2].labels == ("low", '{"level":"high"}')


def test_the_answers_have_the_shape_of_a_real_server():
    """sparrow-decider answers the same questions; every field that it sends is there, of the same type."""
    questions = {name: {"instructions": "?", **question} for name, question in BODY["questions"].items()}
    theirs = Decider.load().ask(BODY["state"], questions)
    ours = answered(parse(BODY), *(served(decision(0.25, 0.75), name) for name in questions))["answers"]
    for name, answer in theirs.items():
        assert {key: type(value) for key, value in answer.items()}.items() <= {
            key: type(value) for key, value in ours[name].items()
        }.items()


def test_a_context_stands_before_every_question_and_a_model_may_be_left_out():
    body = {key: value for key, value in BODY.items() if key != "model"}
    call = parse({**body, "instructions": "Shop mail."}, "cascade")
    assert call.model == "cascade"
    assert [q.instructions for q in call.request.questions][:2] == ["Shop mail.\n\nAbout billing?", "Shop mail."]


def test_a_refusal_is_read_over_by_the_official_client():
    call = parse({**BODY, "questions": {"billing": BODY["questions"]["billing"]}})
    body = answered(call, served(None, "billing", outcome="refused"))
    assert body["answers"] == {"billing": {"type": "refusal"}}
    assert dialect().read(call.request, body).answers == (None,)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"model": None}, "model"),
        ({"state": None}, "state"),
        ({"state": 3}, "state"),
        ({"temperature": 1}, "temperature"),
        ({"images": ["data:"]}, "images"),
        ({"assets": {"a": {}}}, "assets"),
        ({"cache_salt": "s"}, "cache_salt"),
        ({"questions": {}}, "questions"),
        ({"questions": {"": {"type": "noul", "instructions": "x"}}}, "questions"),
        ({"questions": {"q": {"type": "box", "instructions": "dog"}}}, "questions.q.type"),
        ({"questions": {"q": {"type": "noul"}}}, "questions.q.instructions"),
        ({"questions": {"q": {"type": "noul", "criteria": {"maybe": "x"}}}}, "questions.q.criteria.maybe"),
        ({"questions": {"q": {"type": "choice", "criteria": {"a": None}}}}, "questions.q.criteria"),
        ({"questions": {"q": {"type": "score", "criteria": ["a", "a"]}}}, "questions.q.criteria"),
        ({"questions": {"q": {"type": "score", "criteria": ["a", None]}}}, "questions.q.criteria"),
        ({"questions": {"q": {"type": "noul", "instructions": "x", "color": 1}}}, "questions.q.color"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(change, path):
    with pytest.raises(FieldError) as found:
        parse({**BODY, **change})
    assert found.value.path == path


@given(almost(BODY, ["type", "criteria", "instructions", "noul", "choice", "score", "state", "true"]))
def test_any_body_is_read_or_refused(body):
    if call := read_or_refused(parse, body):
        assert len(call.request.questions) == len(call.legends)
