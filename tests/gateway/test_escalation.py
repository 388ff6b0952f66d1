"""The cap on what goes to the last tier, by itself and in a cascade."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.drafting import draft_policy
from cascade.gateway.escalation import EscalationCap, EscalationSettings
from cascade.routed import Outcome, Reason
from cascade.router import Cascade
from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.errors import ConfigError, OverloadedError, ServerError
from curator.types import DecideRequest, Option, Price, Question

ROW = DecideRequest("quite fine", (Question("mood", "choice", "Mood?", (Option("good"), Option("bad"))),))


class Time:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans()), max_size=80), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_the_share_is_kept_in_every_window(steps, share):
    clock = Time()
    cap = EscalationCap(EscalationSettings(share=share, window=60, burst=3), clock)
    came, went = [], []
    for wait, escalates in steps:
        clock.now += wait
        cap.request()
        came.append(clock.now)
        if escalates and cap.take() is None:
            went.append(clock.now)
        recent = sum(moment > clock.now - 60 for moment in went)
        assert recent <= share * sum(moment >= clock.now - 66 for moment in came) + 3
    assert len(went) + cap.capped == sum(escalates for _, escalates in steps)


def test_without_limits_all_may_go():
    cap = EscalationCap(EscalationSettings())
    assert [cap.take() for _ in range(100)] == [None] * 100


def test_money_is_held_from_the_start_and_settled_with_what_it_cost():
    clock = Time()
    cap = EscalationCap(EscalationSettings(money=1.0), clock)
    assert cap.take() is None
    cap.settle(0.25)
    assert [cap.take() for _ in range(3)] == [None] * 3
    refused = cap.take()
    assert isinstance(refused, OverloadedError)
    assert (refused.retryable, refused.retry_after) == (True, 6)
    for cost in (0.05, 0.05, 0.05):
        cap.settle(cost)
    assert cap.take() is None
    cap.settle(None)
    clock.now += 70
    assert cap._spent.sums() == (0,)


def test_settings_that_make_no_sense_are_refused():
    for wrong in ({"share": 1.5}, {"money": -1}, {"window": 0}, {"burst": -1}, {"beyond": "maybe"}):
        with pytest.raises(ConfigError):
            EscalationSettings(**wrong)


# In a cascade


def cascade(small, strong, settings, limit=0.9, **options):
    tiers = {
        "small": ScriptedEngine(decide=small, identity=EngineIdentity("scripted", "small")),
        "strong": ScriptedEngine(decide=strong, identity=EngineIdentity("scripted", "strong")),
    }
    policy = draft_policy(tiers, ROW, {"small": limit}, prices={"strong": Price(1e5, 0)})
    cap = EscalationCap(settings)
    return Cascade(tiers, policy, uncertified="rules", cap=cap, **options), tiers, cap


SURE, UNSURE, STRONG = (0.95, 0.05), (0.6, 0.4), (0.1, 0.9)
NONE = EscalationSettings(share=0.0, burst=0)


@pytest.mark.anyio
async def test_beyond_the_cap_the_draft_is_served_marked_and_uncertified():
    routing, tiers, cap = cascade(lambda _: UNSURE, lambda _: STRONG, EscalationSettings(share=0.5, burst=0))
    outcomes = [(await routing.route(ROW)).answers[0] for _ in range(6)]
    assert [one.outcome for one in outcomes] == [Outcome.FALLBACK, Outcome.TEACHER] * 3
    assert (len(tiers["strong"].requests), cap.capped) == (3, 3)
    capped = outcomes[0]
    assert (capped.tier, capped.certified, capped.answer.top) == ("small", False, 0)
    assert capped.note == "the escalation cap is reached: 50% of the requests in 60 s"


@pytest.mark.anyio
async def test_a_sure_answer_never_meets_the_cap():
    routing, _, cap = cascade(lambda _: SURE, lambda _: STRONG, NONE)
    assert (await routing.route(ROW)).answers[0].outcome is Outcome.ACCEPTED
    assert cap.capped == 0


@pytest.mark.anyio
async def test_beyond_the_cap_a_request_may_be_refused():
    routing, tiers, _ = cascade(
        lambda _: UNSURE, lambda _: STRONG, EscalationSettings(share=0, burst=0, beyond="refuse")
    )
    with pytest.raises(OverloadedError, match="escalation cap"):
        await routing.route(ROW)
    assert not tiers["strong"].requests


@pytest.mark.anyio
async def test_a_draft_is_made_where_none_was_and_refused_where_there_can_be_none():
    routing, tiers, _ = cascade(lambda _: UNSURE, lambda _: STRONG, NONE, limit=None, fallback=False)
    routed = await routing.route(ROW)
    assert (routed.answers[0].outcome, routed.answers[0].tier) == (Outcome.FALLBACK, "small")
    assert routed.attempts[0].judgements[0].reason is Reason.RESCUED
    tiers["small"]._faults = {1: ServerError("500")}
    with pytest.raises(OverloadedError, match="escalation cap"):
        await routing.route(ROW)


@pytest.mark.anyio
async def test_what_the_last_tier_cost_is_settled_also_where_it_failed():
    routing, tiers, cap = cascade(lambda _: UNSURE, lambda _: STRONG, EscalationSettings(money=0.25))
    tiers["strong"]._faults = {1: ServerError("500")}
    outcomes = [(await routing.route(ROW)).answers[0].outcome for _ in range(3)]
    # 2 words at 0.1 each; the failed one counts as much.
    assert outcomes == [Outcome.TEACHER, Outcome.FALLBACK, Outcome.FALLBACK]
    assert cap._spent.sums()[0] == pytest.approx(0.2)
    assert cap._pending == 0
