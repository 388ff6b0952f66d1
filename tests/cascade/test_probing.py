"""Signals that cost calls: what is asked, what it says, what it takes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from route_builders import CHAT, MOOD, policy, row, scripted

from cascade.policy import Scorer
from cascade.probing import (
    agreement,
    answer_in,
    order_agreement,
    share,
    shuffled,
    verify_decision,
    verify_text,
)
from cascade.router import Cascade
from cascade.signals import parse_signal
from curator.errors import RateLimitError, ServerError
from curator.types import Completion, Decision, Demonstration, Option, Question, Sample, Sampling, Template, Usage

pytestmark = pytest.mark.anyio
SURE = Decision((math.log(0.9), math.log(0.1)), None, "scripted")
COLOURS = Question("colour", "choice", "Which?", tuple(map(Option, ("red", "green", "blue"))))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('so {"b": 1, "a": [2]}', '{"a":[2],"b":1}'),
        ("3 + 4 = 7.\nAnswer: 1,200.50 dollars", "1200.5"),
        ("Answer: The Louvre.", "the louvre"),
        ("  Paris. ", "paris"),
        ("", None),
    ],
)
def test_the_answer_in_a_text(text, answer):
    assert answer_in(text) == answer


def test_the_share_is_of_the_answer_that_is_served():
    assert share(["Answer: 4", "Answer: 5", "Answer: 5", "answer: 4.0"], answer_in) == 0.5
    assert share(["", "", ""], answer_in) == 0.0


def test_other_orders_are_reversed_then_rotated_and_a_scale_only_reversed():
    orders = [[option.label for option in order] for order in shuffled(COLOURS, 5)]
    assert orders == [["blue", "green", "red"], ["green", "blue", "red"], ["blue", "red", "green"]]
    assert len(shuffled(replace(COLOURS, kind="score"), 5)) == 1
    assert len(shuffled(MOOD, 5)) == 1


async def test_order_agreement_asks_again_and_compares_labels_not_places():
    first = scripted("first", decide=lambda request: request.questions[0].labels[0])
    steady = scripted("steady", decide=lambda request: "good")
    spec = parse_signal("order_agreement:1")
    asked = row("fine", MOOD, COLOURS)
    assert (await order_agreement(first, asked, MOOD, SURE, spec)).value == 0.0
    found = await order_agreement(steady, asked, MOOD, SURE, spec)
    assert (found.value, found.usage.calls) == (1.0, 1)
    (request,) = steady.requests
    assert request.questions[0].labels == ("bad", "good")
    assert request.template.order == "state_first"


async def test_failed_orders_are_left_out_and_all_failed_are_unknown():
    engine = scripted(
        "e", decide=lambda request: "red", faults=[None, ServerError("down")] + [RateLimitError("no")] * 3
    )
    red = Decision((0.0, -3.0, -3.0), None, "scripted")
    found = await order_agreement(engine, row("x", COLOURS), COLOURS, red, parse_signal("order_agreement:3"))
    assert (found.value, found.cost, found.usage.calls) == (1.0, None, 3)
    none = await order_agreement(engine, row("x", COLOURS), COLOURS, red, parse_signal("order_agreement:2"))
    assert math.isnan(none.value)
    assert none.cost == 0.0


async def test_self_verification_asks_the_model_about_its_own_answer():
    engine = scripted("e", decide=lambda request: {"yes": 0.7, "no": 0.3})
    shown = (Demonstration("sad", {"mood": "bad"}),)
    asked = replace(row("fine"), template=Template(system="Be brief.", letters=True), demonstrations=shown)
    found = await verify_decision(engine, asked, MOOD, SURE)
    assert found.value == pytest.approx(0.7)
    (request,) = engine.requests
    assert "Which mood?\nProposed answer: good" in request.questions[0].instructions
    assert (request.state, request.template.system, request.demonstrations) == ("fine", "Be brief.", ())


async def test_texts_are_verified_by_engines_that_decide():
    decider = scripted("e", decide=lambda request: True, generate=["x"])
    assert (await verify_text(decider, CHAT, "4")).value > 0.99
    assert decider.requests[0].state == "user: How many?"
    assert math.isnan((await verify_text(scripted("e", generate=["x"]), CHAT, "4")).value)
    assert math.isnan((await verify_text(scripted("e", decide=[None]), CHAT, "4")).value)


async def test_agreement_draws_the_missing_samples_warm_and_with_other_seeds():
    engine = scripted("e", generate=[["4", "5", "4", "4"]])
    asked = replace(CHAT, sampling=Sampling(seed=7))
    found = await agreement(engine, asked, Completion((Sample("4"),)), parse_signal("agreement:5"), answer_in)
    assert found.value == 0.8
    (drawn,) = engine.requests
    assert (drawn.n, drawn.sampling.temperature, drawn.sampling.seed) == (4, 0.7, 8)


async def test_samples_that_were_asked_for_anyway_cost_nothing():
    engine = scripted("e", generate=[])
    asked = replace(CHAT, n=3, sampling=Sampling(temperature=1.0))
    given = Completion(tuple(map(Sample, ("4", "4", "5"))))
    found = await agreement(engine, asked, given, parse_signal("agreement:3"), answer_in)
    assert (found.value, found.usage.calls, found.cost) == (pytest.approx(2 / 3), 0, 0.0)
    assert not engine.requests


async def test_agreement_that_cannot_be_had_is_unknown():
    engine = scripted("e", generate=[], faults=[ServerError("down")])
    found = await agreement(engine, CHAT, Completion((Sample("4"),)), parse_signal("agreement:3"), answer_in)
    assert math.isnan(found.value)
    assert found.cost is None


async def test_the_router_asks_for_them_only_where_a_rule_uses_them_and_bills_them():
    small = scripted("small", decide=lambda request: {"good": 0.9, "bad": 0.1} if request.state == "fine" else None)
    tiers = {"small": small, "strong": scripted("strong", decide=lambda request: "bad")}
    scorer = Scorer(signals=("order_agreement:1", "top_probability"), weights=(0.5, 0.5))
    cascade = Cascade(tiers, policy(tiers, row(), {"mood": [0.9]}, scorer=scorer))
    routed = await cascade.route(row())
    assert (routed.answers[0].tier, routed.usage, len(small.requests)) == ("small", Usage(2, 2, 0, 2), 2)
    # A refusal is escalated whatever else would be found: nothing more is asked.
    assert (await cascade.route(row("sad"))).answers[0].tier == "strong"
    assert len(small.requests) == 3


async def test_a_rule_on_the_tier_before_needs_that_tier_asked():
    scorer = Scorer(signals=("tier_agreement",), weights=(1.0,))
    tiers = {name: scripted(name, decide=lambda request: request.state) for name in ("a", "b", "c")}
    for limits, server in (([0.5, 0.5], "b"), ([None, 0.5], "c")):
        cascade = Cascade(tiers, policy(tiers, row(), {"mood": limits}, scorer=scorer))
        assert (await cascade.route(row("good"))).answers[0].tier == server
