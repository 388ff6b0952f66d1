"""How long a tier is waited for before the next one is asked."""

from __future__ import annotations

import pytest
from gateway_builders import MOOD_BODY, running, scripted_tiers
from openai import AsyncOpenAI, InternalServerError

from cascade.gateway.billing import Billing
from cascade.gateway.ledger import Ledger
from cascade.gateway.settings import ServeSettings
from cascade.gateway.stack import stacked
from cascade.gateway.upstreams import RETRY
from curator.engines.base import EngineIdentity
from curator.engines.retry import RetryEngine
from curator.engines.scripted import ScriptedEngine
from curator.errors import ServerError

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("attempts", "lower", "last"), [(5, 2, 5), (2, 2, 2), (1, None, None)])
def test_only_the_last_tier_is_tried_as_often_as_the_settings_say(attempts, lower, last) -> None:
    settings = ServeSettings.model_validate({"resilience": {"attempts": attempts}, "limits": {"seconds": 90.0}})

    def policy(is_last: bool) -> tuple[int, float] | None:
        engine = stacked(
            {"one": ScriptedEngine(lambda _: "good")},
            settings,
            "t",
            price=None,
            billing=Billing(Ledger()),
            last=is_last,
        ).engine
        return (engine.policy.attempts, engine.policy.total) if isinstance(engine, RetryEngine) else None

    assert policy(False) == (None if lower is None else (lower, RETRY.total))
    assert policy(True) == (None if last is None else (last, 90.0))


async def test_a_lower_tier_that_fails_is_left_after_two_tries_and_the_last_after_all(tmp_path) -> None:
    """Over HTTP: each attempt fails, and each is counted."""
    broken = [ServerError("down")] * 20
    tiers = scripted_tiers(
        small=ScriptedEngine(lambda _: "good", identity=EngineIdentity("scripted", "small"), faults=broken)
    )
    asked = {"model": "cascade", "input": "fine", "questions": [MOOD_BODY]}
    resilience = {"attempts": 4}
    async with (
        running(tmp_path, tiers, resilience=resilience, live={"share": 0}) as server,
        AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        found = await client.decisions.create(**asked)
        assert [one["tier"] for one in found.goldless["attempts"]] == ["small", "strong"]
        assert (len(tiers["small"].requests), len(tiers["strong"].requests)) == (2, 1)
    tiers = scripted_tiers(
        strong=ScriptedEngine(lambda _: "good", identity=EngineIdentity("scripted", "strong"), faults=broken)
    )
    async with (
        running(tmp_path, tiers, resilience=resilience, live={"share": 0}, fallback=False) as server,
        AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        with pytest.raises(InternalServerError):
            await client.decisions.create(**{**asked, "input": "hard"})
        assert len(tiers["strong"].requests) == 4
