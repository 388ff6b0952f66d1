"""Thresholds set by hand are followed only where that is asked for."""

from __future__ import annotations

import pytest
from route_builders import CHAT, FUN, MOOD, row, scripted

from cascade.drafting import draft_policy
from cascade.router import Cascade
from curator.errors import ConfigError, InputError
from curator.types import Completion, Sample

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


async def test_what_cannot_be_drafted_says_so():
    with pytest.raises(ConfigError, match=r"'strong', which is no tier below the last \(.* for tiny, small"):
        draft_policy(tiers(decide=[]), row(), {"strong": 0.5})
    with pytest.raises(InputError, match="did you mean 'margin'"):
        draft_policy(tiers(decide=[]), row(), {"small": 0.5}, signal="margins")
