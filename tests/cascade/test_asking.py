"""Asking a tier about a request of either kind, and reading what it says."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from route_builders import CHAT, FUN, MOOD, row, scripted

from cascade.asking import TEXT, Deciding, Generating, Reply
from cascade.signals import parse_signal
from curator.errors import InvalidOutputError, RefusalError, ServerError
from curator.types import Completion, Decision, Decisions, Sample, Template, Usage

pytestmark = pytest.mark.anyio

GOOD, BAD = (Decision(logs, 0.9, "labels") for logs in ((-0.1, -2.4), (-2.4, -0.1)))


def said(*texts, finish="stop", logprob=-0.5):
    return Completion(tuple(Sample(text, finish, logprob) for text in texts), Usage(3, 2), 0.001, 0.01)


async def test_all_questions_are_asked_as_the_request_has_them():
    asked, engine = row("fine", MOOD, FUN), scripted("e", decide=[Decisions((GOOD, None), Usage(5, 2), 0.5, 0.1)])
    reply = await Deciding(asked).ask(engine, (0, 1))
    assert reply == Reply((GOOD, None), Usage(5, 2), 0.5, 0.1)
    assert engine.requests == [asked]


@pytest.mark.parametrize(("order", "settled"), [("auto", "state_first"), ("question_first", "question_first")])
async def test_a_part_of_the_questions_is_put_as_all_were(order, settled):
    asked = replace(row("fine", MOOD, FUN), template=Template(order=order))
    engine = scripted("e", decide=["no"])
    await Deciding(asked).ask(engine, (1,))
    (part,) = engine.requests
    assert (part.questions, part.template.order) == ((FUN,), settled)


@pytest.mark.parametrize(
    ("answers", "match"),
    [
        ((GOOD,), "gave 1 answers to 2 questions"),
        ((GOOD, replace(GOOD, logprobs=(-1.0, -1.0, -1.0))), "gave 3 probabilities for the 2 options of 'fun'"),
    ],
)
async def test_an_answer_to_something_else_is_refused(answers, match):
    engine = scripted("e", decide=[Decisions(answers)])
    with pytest.raises(InvalidOutputError, match=match):
        await Deciding(row("fine", MOOD, FUN)).ask(engine, (0, 1))


async def test_a_refusal_is_an_answer_and_a_failure_is_not():
    refusing = {"faults": [RefusalError("no"), ServerError("down")]}
    decider, writer = scripted("e", decide=[], **refusing), scripted("e", generate=[], **refusing)
    asked = row("fine", MOOD, FUN)
    assert (await Deciding(asked).ask(decider, (0, 1))).answers == (None, None)
    assert (await Generating(CHAT).ask(writer, (0,))).answers == (None,)
    with pytest.raises(ServerError):
        await Deciding(asked).ask(decider, (0, 1))
    with pytest.raises(ServerError):
        await Generating(CHAT).ask(writer, (0,))


@pytest.mark.parametrize("answer", [said(), said("no", finish="refusal")])
async def test_a_completion_without_an_answer_is_a_refusal_that_costs(answer):
    reply = await Generating(CHAT).ask(scripted("e", generate=[answer]), (0,))
    assert (reply.answers, reply.usage, reply.cost) == ((None,), Usage(3, 2), 0.001)


def test_decisions_are_read_by_their_options():
    asking = Deciding(row("fine", MOOD, FUN))
    assert (asking.names, asking.kind) == (("mood", "fun"), "decide")
    assert (asking.said(0, BAD), asking.said(1, GOOD)) == ("bad", "yes")
    assert asking.same(0, GOOD, replace(GOOD, logprobs=(-0.5, -0.9)))
    assert not asking.same(0, GOOD, BAD)
    assert asking.raw(0, GOOD) == max(GOOD.probabilities)
    assert asking.free(0, GOOD, [parse_signal("label_mass"), parse_signal("agreement:3")]) == {"label_mass": 0.9}
    assert asking.signed(GOOD, "small").served_by == "small"
    assert asking.signed(replace(GOOD, served_by="tiny"), "edge") == replace(GOOD, served_by="edge/tiny")


def test_texts_are_read_by_what_they_answer():
    asking = Generating(CHAT)
    assert (asking.names, asking.kind) == ((TEXT,), "generate")
    one = said("It is four.\nAnswer: 4", "5")
    assert asking.said(0, one) == "It is four.\nAnswer: 4"
    assert asking.same(0, one, said("Answer: 4.0"))
    assert not asking.same(0, one, said("5"))
    assert not asking.same(0, said(""), said("")), "nothing agrees with nothing"
    assert asking.raw(0, one) == pytest.approx(math.exp(-0.5))
    assert math.isnan(asking.raw(0, said("4", logprob=None)))
    assert asking.signed(one, "small") == replace(one, served_by="small")
    first = Generating(CHAT, lambda text: text[:1])
    assert first.same(0, said("42"), said("4"))


@pytest.mark.parametrize("kind", [Deciding, Generating])
async def test_a_signal_of_the_other_kind_is_unknown_and_costs_nothing(kind):
    asking, answer = (Deciding(row()), GOOD) if kind is Deciding else (Generating(CHAT), said("4"))
    spec = parse_signal("agreement:3" if kind is Deciding else "order_agreement:1")
    engine = scripted("e", decide=[], generate=[])
    probe = await asking.probe(engine, 0, answer, spec)
    assert (math.isnan(probe.value), probe.usage, probe.cost) == (True, Usage(calls=0), 0.0)
    assert not engine.requests


def test_a_reply_is_what_an_engine_gives():
    taken = (Usage(3, 2), 0.5, 0.1)
    assert Deciding(row("fine", MOOD, FUN)).whole(Reply([GOOD, None], *taken)) == Decisions((GOOD, None), *taken)
    assert Generating(CHAT).whole(Reply([said("4")], *taken)) == Completion(said("4").samples, *taken)
    assert Generating(CHAT).whole(Reply([None], *taken)) == Completion((), *taken)
