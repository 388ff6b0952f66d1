"""Thresholds set by hand are followed only where that is asked for."""

from __future__ import annotations

import pytest
from route_builders import CHAT, FUN, MOOD, row, scripted

from cascade.drafting import draft_policy
from cascade.router import Cascade
from curator.errors import InputError
from curator.types import Completion, Price, Sample

pytestmark = pytest.mark.anyio


def tiers(**script):
    return {name: scripted(name, **script) for name in ("tiny", "small", "strong")}


async def test_rules_hold_for_all_questions_and_are_not_certified():
    asked = row("fine", MOOD, FUN)
    engines = tiers(decide=lambda request: {q.name: (0.7, 0.3) for q in request.questions})
    drafted = draft_policy(engines, asked, {"small": 0.39}, signal="margin")
    routed = await Cascade(engines, drafted, uncertified="rules").route(asked)
    assert [(one.tier, one.certified) for one in routed.answers] == [("small", False)] * 2
    assert not engines["tiny"].requests
    untrusted = await Cascade(engines, drafted).route(asked)
    assert [one.tier for one in untrusted.answers] == ["strong"] * 2
    assert "set by hand" in untrusted.answers[0].note


async def test_prompts_are_drafted_too():
    said = [Completion((Sample("4", "stop", mean),)) for mean in (-0.1, -3.0)]
    engines = {"small": scripted("small", generate=said), "strong": scripted("strong", generate=["5"])}
    cascade = Cascade(engines, draft_policy(engines, CHAT, {"small": 0.5}), uncertified="rules")
    assert [(await cascade.generate(CHAT)).samples[0].text for _ in said] == ["4", "5"]


async def test_prices_bill_the_tiers():
    engines = tiers(decide=lambda request: (0.7, 0.3))
    prices = {name: Price(1e6, 0.0, "EUR") for name in engines}
    drafted = draft_policy(engines, row("one two"), {"small": 0.8}, prices=prices)
    routed = await Cascade(engines, drafted, uncertified="rules").route(row("one two"))
    assert (drafted.currency, routed.cost) == ("EUR", 4.0)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"thresholds": {"strong": 0.5}}, "a threshold for 'strong', which takes none .*tiny, small"),
        ({"prices": {"stong": Price(1, 1)}}, "a price for 'stong', which takes none .*tiny, small, strong"),
        ({"prices": {"tiny": Price(1, 1), "strong": Price(1, 1, "EUR")}}, "prices are in EUR and USD"),
        ({"signal": "margins"}, "did you mean 'margin'"),
    ],
)
async def test_what_cannot_be_drafted_says_so(settings, match):
    with pytest.raises(InputError, match=match):
        draft_policy(tiers(decide=[]), row(), **{"thresholds": {"small": 0.5}, **settings})
