"""OpenAI's Decisions shape on the server's side: what the official client sends, what it reads, and our own client."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Decision as OpenAIDecision

from cascade.wire.decisions import REMEMBERED, parse, reply
from cascade.wire.extras import decision_block
from cascade.wire.reading import FieldError
from curator.engines.dialects import DecisionsDialect
from curator.engines.shapes import with_meanings, without_meanings
from curator.types import DecideRequest, Option, Question
from tests.cascade.wire.wire_builders import (
    FINAL,
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
REFUND = Question(
    "refund", "predicate", "The user wants money back.", (Option("yes", "asks"), Option("no", "asks not"))
)
URGENT = Question(
    "urgency", "score", "How urgent?", (Option("can wait"), Option("today", "within hours"), Option("now"))
)
ROW = DecideRequest("I was charged twice", (MOOD, REFUND, URGENT))

BODY = {
    "model": "cascade",
    "input": [
        {"role": "system", "content": "A shop."},
        {"role": "user", "type": "message", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "found"},
    ],
    "questions": [
        {"type": "predicate", "name": "p", "instructions": [{"type": "input_json", "data": {"a": [1]}}]},
        {"type": "choice", "instructions": "Which?", "choices": [{"value": "a", "description": "x"}, {"value": True}]},
        {"type": "score", "name": "s", "instructions": "How?", "levels": [{"label": "low"}, {"label": "high"}]},
    ],
    "safety_identifier": "someone",
}


def answered(call, *answers):
    routed = escalated(*answers)
    return as_json(reply(STAMP, call, routed, decision_block(routed, "USD", call.names)))


def dialect():
    return client_dialect(DecisionsDialect)


def test_what_our_own_client_sends_is_read_as_the_same_request():
    call = parse(dialect().body(ROW, ROW.state))
    assert call.request == ROW
    assert call.names == ("mood", "refund", "urgency")


def test_what_is_sent_back_is_what_our_own_client_and_the_official_one_read():
    call = parse(dialect().body(ROW, ROW.state))
    said = decision(0.7, 0.3), decision(0.2, 0.8), decision(0.1, 0.3, 0.6)
    tiers = ("small", "strong", "strong")
    parts = [served(one, q.name, tier, 0.75) for one, q, tier in zip(said, ROW.questions, tiers, strict=True)]
    body = answered(call, *parts)
    read = dialect().read(ROW, body)
    assert [one.probabilities for one in read.answers] == [pytest.approx(one.probabilities) for one in said]
    assert (read.usage.input_tokens, read.usage.cached_tokens) == (30, 12)
    official = OpenAIDecision.model_validate(body, strict=True)
    mood, refund, urgency = official.answers
    assert (mood.type, mood.choice, mood.confidence) == ("choice", "positive", 0.75)
    assert refund.probability == pytest.approx(0.2)
    assert urgency.score == pytest.approx(1.5)
    assert [(level.value, level.label) for level in urgency.probabilities] == [
        (0, "can wait"),
        (1, "today"),
        (2, "now"),
    ]


def test_values_come_back_as_they_were_typed_and_unnamed_questions_unnamed():
    call = parse(BODY)
    assert call.request.questions[1].labels == ("a", "true")
    body = answered(call, served(decision(0.5, 0.5), "p"), served(decision(0.1, 0.9), "question_1"), served(None, "s"))
    official = OpenAIDecision.model_validate(body, strict=True)
    assert official.answers[1].choice is True
    assert official.answers[1].name is None
    assert (official.answers[2].type, official.answers[2].name) == ("refusal", "s")
    assert body["goldless"]["answers"][1]["question"] is None


def test_a_conversation_becomes_json_and_a_lone_message_its_text():
    state = parse(BODY).request.state
    assert state.startswith('[{"role":"system","content":"A shop."},{"role":"user","content":"hi"},{"type":"function_')
    assert parse({**BODY, "input": [{"role": "user", "content": "just this"}]}).request.state == "just this"
    data = [{"type": "input_text", "text": "see:"}, {"type": "input_json", "data": {"é": 1}}]
    assert parse({**BODY, "input": [{"role": "user", "content": data}]}).request.state == 'see:\n{"é":1}'


def test_questions_that_come_again_are_the_same_objects_whatever_the_state():
    one, other = parse({**BODY, "input": "a"}), parse({**BODY, "input": "b"})
    assert one.request.questions is other.request.questions
    assert (one.request.state, other.request.state) == ("a", "b")
    reworded = [{**BODY["questions"][0], "instructions": "Or?"}, *BODY["questions"][1:]]
    assert parse({**BODY, "questions": reworded}).request.questions[0].instructions == "Or?"


def test_questions_too_long_to_be_remembered_are_read_all_the_same():
    long = {"type": "predicate", "name": "p", "instructions": "x" * (REMEMBERED + 1)}
    one, other = (parse({**BODY, "questions": [long]}).request.questions for _ in range(2))
    assert one == other
    assert one is not other


def test_a_given_name_is_never_taken_for_an_unnamed_question():
    asked = [
        {"type": "predicate", "instructions": "x"},
        {"type": "predicate", "name": "question_0", "instructions": "y"},
    ]
    names = [q.name for q in parse({**BODY, "questions": asked}).request.questions]
    assert names == ["question_0_", "question_0"]


def test_a_confidence_that_nothing_tells_is_the_top_probability():
    call = parse({**BODY, "questions": BODY["questions"][2:]})
    body = answered(call, served(decision(0.3, 0.7), "s", sure=math.nan, basis="raw", certified=False))
    assert body["answers"][0]["confidence"] == pytest.approx(0.7)
    assert body["goldless"]["answers"][0]["confidence"] is None


def test_usage_is_that_of_the_tiers_that_served():
    call = parse({**BODY, "questions": BODY["questions"][2:]})
    routed = escalated(served(decision(0.3, 0.7), "s", tier="strong"))
    usage = reply(STAMP, call, routed, {})["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (FINAL.input_tokens, FINAL.output_tokens)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"model": None}, "model"),
        ({"input": 3}, "input"),
        ({"temperature": 1}, "temperature"),
        ({"input": []}, "input"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "u"}]}]},
            "input[0].content[0].type",
        ),
        ({"questions": []}, "questions"),
        ({"questions": [{"type": "guess", "instructions": "x"}]}, "questions[0].type"),
        ({"questions": [{"type": "predicate"}]}, "questions[0].instructions"),
        ({"questions": [{"type": "choice", "instructions": "x", "choices": [{"value": "a"}]}]}, "questions[0].choices"),
        (
            {"questions": [{"type": "choice", "instructions": "x", "choices": [{"value": True}, {"value": "true"}]}]},
            "questions[0].choices",
        ),
        ({"questions": [{"type": "score", "instructions": "x", "levels": [{}]}]}, "questions[0].levels[0].label"),
        ({"questions": [{"type": "predicate", "name": "a", "instructions": "x"}] * 2}, "questions[1].name"),
        ({"questions": [{"type": "predicate", "instructions": "x"}] * 401}, "questions"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(change, path):
    with pytest.raises(FieldError) as found:
        parse({**BODY, **change})
    assert found.value.path == path
    assert str(found.value).startswith(path)


@given(almost(BODY, ["type", "role", "content", "input_text", "choice", "predicate", "score", "user", "value"]))
def test_any_body_is_read_or_refused(body):
    if call := read_or_refused(parse, body):
        assert len(call.names) == len(call.values) == len({question.name for question in call.request.questions})


@given(st.text(st.sampled_from("a\n:"), max_size=3), st.text(max_size=6), st.text(max_size=6))
def test_meanings_are_found_again_as_they_were_written(text, true, false):
    assert without_meanings(with_meanings(text, true, false)) == (text, true, false)


@given(st.lists(st.sampled_from(["\nTrue means: ", "\nFalse means: ", "x", "\n", ""]), max_size=8).map("".join))
def test_taking_meanings_apart_loses_nothing(text):
    assert with_meanings(*without_meanings(text)) == text
