"""A request's way where tiers fail: who answers then, and what is billed."""

from __future__ import annotations

import math

import pytest
from route_builders import FUN, MOOD, certificate, policy, row, scripted

from cascade.asking import Deciding
from cascade.policy import Scorer
from cascade.route import Route, Tier
from cascade.routed import Outcome, Reason
from cascade.rulebook import Rulebook
from curator.engines.scripted import ScriptedEngine
from curator.errors import (
    AuthenticationError,
    ContextLengthError,
    EngineTimeoutError,
    RateLimitError,
    ServerError,
)
from curator.types import Decision, Decisions, Price, Usage

pytestmark = pytest.mark.anyio
BOTH = row("fine", MOOD, FUN)
DOWN = ServerError("down")


def given(**questions: float | None):
    """Sure of the first option by so much; None refuses."""
    return {name: share if share is None else (share, 1 - share) for name, share in questions.items()}


def tier(name: str, *answers: object, **script: object) -> ScriptedEngine:
    return scripted(name, decide=list(answers), **script)


async def route(engines, limits, *, fallback=True, price=None, asked=BOTH, certified=None, uncertified="rules"):
    tiers = {engine.identity.model: engine for engine in engines}
    found = policy(tiers, asked, limits, certified=certified)
    book = Rulebook(found, uncertified)
    names = {entry.name: entry.fingerprint for entry in found.questions}
    paths = [book.path(q.name, names.get(q.name, "")) for q in asked.questions]
    ways = [Tier(name, engine, price) for name, engine in tiers.items()]
    return await Route(ways, Deciding(asked), paths, fallback).run()


def who(routed) -> list[tuple[str, Outcome]]:
    return [(served.tier, served.outcome) for served in routed.answers]


LIMITS = {"mood": [0.8, 0.8], "fun": [0.8, 0.8]}


async def test_where_the_last_fails_each_question_gets_its_strongest_answer():
    engines = [
        tier("tiny", given(mood=0.6, fun=0.7)),
        tier("small", given(mood=0.7, fun=None)),
        tier("strong", None, faults=[DOWN]),
    ]
    routed = await route(engines, LIMITS)
    assert who(routed) == [("small", Outcome.FALLBACK), ("tiny", Outcome.FALLBACK)]
    assert [attempt.tier for attempt in routed.attempts] == ["tiny", "small", "strong"]
    assert not any(served.certified for served in routed.answers)
    assert routed.attempts[-1].error == "ServerError"
    assert [one.reason for one in routed.attempts[-1].judgements] == [Reason.FAILED, Reason.FAILED]


async def test_what_a_rule_let_pass_stays_when_the_last_tier_fails_for_the_rest():
    engines = [
        tier("tiny", given(mood=0.9, fun=0.7)),
        tier("small", {"fun": (0.6, 0.4)}),
        tier("strong", faults=[DOWN]),
    ]
    routed = await route(engines, LIMITS)
    assert who(routed) == [("tiny", Outcome.ACCEPTED), ("small", Outcome.FALLBACK)]
    assert [served.certified for served in routed.answers] == [True, False]


async def test_a_tier_that_failed_is_not_asked_again_for_a_fallback():
    engines = [tier("tiny", given(mood=0.6, fun=0.6)), tier("small", faults=[DOWN] * 3), tier("strong", faults=[DOWN])]
    routed = await route(engines, LIMITS)
    assert who(routed) == [("tiny", Outcome.FALLBACK)] * 2
    assert [len(engine.requests) for engine in engines] == [1, 1, 1]


async def test_only_the_questions_that_nobody_answered_are_asked_for_a_fallback():
    # No rule judges `fun` at the second tier, so that is asked about it only when the last one has failed.
    small = tier("small", given(mood=0.3), given(fun=0.2))
    engines = [tier("tiny", given(mood=0.6, fun=0.6)), small, tier("strong", faults=[DOWN])]
    routed = await route(engines, {"mood": [0.8, 0.8], "fun": [0.8, None]})
    assert who(routed) == [("small", Outcome.FALLBACK)] * 2
    assert [[q.name for q in request.questions] for request in engines[1].requests] == [["mood"], ["fun"]]
    assert routed.attempts[-1].judgements[0].reason is Reason.RESCUED


@pytest.mark.parametrize("error", [DOWN, AuthenticationError("no"), ContextLengthError("long", limit=1, needed=2)])
async def test_one_question_without_any_answer_raises_the_last_tiers_error(error):
    engines = [tier("tiny", given(mood=0.6, fun=None)), tier("strong", faults=[error])]
    with pytest.raises(type(error)) as found:
        await route(engines, {"mood": [0.8], "fun": [0.8]})
    assert found.value is error


async def test_without_a_fallback_the_error_is_raised_though_there_are_answers():
    engines = [tier("tiny", given(mood=0.6, fun=0.6)), tier("strong", faults=[DOWN])]
    with pytest.raises(ServerError):
        await route(engines, {"mood": [0.8], "fun": [0.8]}, fallback=False)


async def test_a_last_tier_that_cannot_do_what_is_asked_has_failed():
    strong = scripted("strong", generate=["4"])
    routed = await route([tier("tiny", given(mood=0.6, fun=0.6)), strong], {"mood": [0.8], "fun": [0.8]})
    assert who(routed) == [("tiny", Outcome.FALLBACK)] * 2
    assert routed.attempts[-1].error == "ConfigError"


async def test_a_fault_in_the_code_is_not_taken_for_a_model_that_fails():
    def broken(request):
        raise ZeroDivisionError

    engines = [scripted("tiny", decide=broken), tier("strong", given(mood=0.9, fun=0.9))]
    with pytest.raises(ZeroDivisionError):
        await route(engines, {"mood": [0.8], "fun": [0.8]})


@pytest.mark.parametrize(
    ("error", "cost"), [(DOWN, None), (EngineTimeoutError("late"), None), (RateLimitError("busy"), 0.0)]
)
async def test_a_failed_call_costs_nothing_only_where_nobody_can_have_read_it(error, cost):
    engines = [tier("tiny", faults=[error]), tier("strong", given(mood=0.9, fun=0.9))]
    routed = await route(engines, {"mood": [0.8], "fun": [0.8]}, price=Price(1e6, 0.0))
    assert [attempt.cost for attempt in routed.attempts] == [cost, 1.0]
    assert routed.cost == (None if cost is None else 1.0)
    assert routed.usage.calls == 2


async def test_a_signals_call_is_billed_with_the_attempt_that_it_judges():
    engines = [tier("tiny", "good", {"good": 0.9, "bad": 0.1}), tier("strong", "bad")]
    asked = row("one two three")
    found = policy(
        {engine.identity.model: engine for engine in engines},
        asked,
        {"mood": [0.5]},
        scorer=Scorer(signals=("order_agreement:1",), weights=(1.0,)),
    )
    path = Rulebook(found, "teacher").path("mood", found.questions[0].fingerprint)
    ways = [Tier(engine.identity.model, engine, Price(1e6, 0.0)) for engine in engines]
    routed = await Route(ways, Deciding(asked), [path], True).run()
    assert who(routed) == [("tiny", Outcome.ACCEPTED)]
    assert [(attempt.usage, attempt.cost) for attempt in routed.attempts] == [(Usage(6, 2, 0, 2), 6.0)]


async def test_the_baseline_is_what_the_last_tier_cost_for_all_else_what_was_certified():
    price, sure = Price(1e6, 0.0), certificate(baseline_cost=0.25)
    limits = {"mood": [0.8], "fun": [0.8]}
    whole = [tier("tiny", given(mood=0.6, fun=0.6)), tier("strong", given(mood=0.9, fun=0.9))]
    assert (await route(whole, limits, price=price, certified=sure)).baseline == 1.0
    part = [tier("tiny", given(mood=0.9, fun=0.6)), tier("strong", {"fun": (0.9, 0.1)})]
    assert (await route(part, limits, price=price, certified=sure)).baseline == 0.5
    failed = [tier("tiny", given(mood=0.6, fun=0.6)), tier("strong", faults=[DOWN])]
    assert (await route(failed, limits, price=price, certified=sure)).baseline == 0.5
    assert (await route([tier("tiny", given(mood=0.9, fun=0.9)), tier("strong")], limits)).baseline is None


async def test_a_refusal_by_the_last_tier_is_served_as_one():
    engines = [tier("tiny", given(mood=0.6, fun=0.9)), tier("strong", None)]
    routed = await route(engines, {"mood": [0.8], "fun": [0.8]})
    refused, served = routed.answers
    assert (refused.outcome, refused.answer, refused.certified) == (Outcome.REFUSED, None, False)
    assert math.isnan(refused.confidence)
    assert served.outcome is Outcome.ACCEPTED


async def test_without_questions_nobody_is_asked():
    engines = [tier("tiny"), tier("strong")]
    routed = await route(engines, {}, asked=row().__class__("fine", ()))
    assert (routed.answers, routed.attempts, routed.baseline) == ((), (), 0.0)


@pytest.mark.parametrize(
    ("price", "usage", "known", "cost"),
    [
        (None, Usage(10, 1), None, None),
        (None, Usage(10, 1), 0.5, 0.5),
        (Price(1e6, 1e6), Usage(10, 1), None, 11.0),
        (Price(1e6, 1e6), Usage(10, 1), 0.5, 0.5),
        (Price(1e6, 1e6), Usage(0, 0), None, None),
        (Price(1e6, 1e6), Usage(0, 0), 0.0, 0.0),
    ],
)
def test_a_call_costs_what_the_engine_says_else_its_tokens(price, usage, known, cost):
    assert Tier("small", tier("small"), price).cost(usage, known) == cost


async def test_a_decision_with_too_many_options_is_passed_over():
    odd = Decisions((Decision((-1.0, -1.0, -1.0), None, "labels"),))
    engines = [scripted("tiny", decide=[odd]), tier("strong", "good")]
    routed = await route(engines, {"mood": [0.0]}, asked=row())
    assert (who(routed), routed.attempts[0].error) == ([("strong", Outcome.TEACHER)], "InvalidOutputError")
