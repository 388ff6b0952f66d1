"""The endpoints, asked by the clients that people use."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import httpx
import openai
import pytest
from gateway_builders import FUN_BODY, MOOD_BODY, running, scripted_tiers, settled

from curator.errors import RateLimitError, RefusalError, ServerError

pytestmark = pytest.mark.anyio


async def test_the_openai_client_decides(tmp_path: Path) -> None:
    async with running(tmp_path) as server, openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        easy = await client.decisions.create(model="cascade", input="fine", questions=[MOOD_BODY, FUN_BODY])
        hard = await client.decisions.create(model="cascade", input="hard", questions=[MOOD_BODY, FUN_BODY])
    mood, fun = easy.answers
    assert (mood.type, mood.choice, fun.type) == ("choice", "good", "predicate")
    assert fun.probability == pytest.approx(0.9)
    assert [answer["tier"] for answer in easy.goldless["answers"]] == ["small", "small"]
    assert easy.goldless["certified"] is True
    assert hard.answers[0].choice == "bad"
    assert [attempt["tier"] for attempt in hard.goldless["attempts"]] == ["small", "strong"]


async def test_systemone(tmp_path: Path) -> None:
    question = {"type": "choice", "instructions": "Which mood?", "criteria": {"good": None, "bad": None}}
    body = {"model": "cascade", "state": "fine", "questions": {"mood": question}}
    async with running(tmp_path) as server, httpx.AsyncClient() as client:
        found = await client.post(f"{server.url}/v1/systemone", json=body)
        broken = await client.post(f"{server.url}/v1/systemone", json={"questions": []})
    assert found.json()["answers"]["mood"]["choice"] == "good"
    assert found.headers["x-goldless-tier"] == "small"
    assert broken.status_code == 422
    assert broken.json()["detail"][0]["loc"] == ["body", "questions"]


async def test_the_openai_client_chats(tmp_path: Path) -> None:
    async with running(tmp_path) as server, openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        said = await client.chat.completions.create(model="cascade", messages=[{"role": "user", "content": "Hm?"}])
        names = [model.id async for model in client.models.list()]
        one = await client.models.retrieve("cascade:strong")
    assert said.choices[0].message.content == "an answer"
    assert said.goldless["outcome"] == "direct"
    assert said.usage is not None
    assert said.usage.completion_tokens == 2
    assert names == ["cascade", "cascade:small", "cascade:strong"]
    assert one.id == "cascade:strong"


async def test_control_by_name_and_by_header(tmp_path: Path) -> None:
    async with running(tmp_path) as server, openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client:
        ask = client.decisions.create
        forced = await ask(model="cascade:small", input="hard", questions=[MOOD_BODY])
        strict = await ask(
            model="cascade", input="fine", questions=[MOOD_BODY, FUN_BODY], extra_headers={"x-goldless-alpha": "0.01"}
        )
        laxer = await ask(
            model="cascade", input="fine", questions=[MOOD_BODY, FUN_BODY], extra_headers={"x-goldless-alpha": "0.5"}
        )
        with pytest.raises(openai.NotFoundError, match="not served here"):
            await ask(model="gpt-9", input="fine", questions=[MOOD_BODY])
        with pytest.raises(openai.BadRequestError, match="x-goldless-alpha"):
            await ask(model="cascade", input="x", questions=[MOOD_BODY], extra_headers={"x-goldless-alpha": "many"})
    assert forced.answers[0].choice == "good"
    assert forced.goldless["certified"] is False
    assert (strict.answers[0].choice, strict.goldless["certified"]) == ("bad", True)
    assert [attempt["tier"] for attempt in strict.goldless["attempts"]] == ["strong"]
    assert laxer.goldless["answers"][0]["tier"] == "small"
    (live, _) = server.gateway.life.main.live.values()
    assert live.counts.queries == 1, "what a caller overrides says nothing about the thresholds"


async def test_what_upstreams_do_is_told_in_the_dialect(tmp_path: Path) -> None:
    tiers = scripted_tiers()
    faults = [
        RefusalError("no"),
        RateLimitError("slow", retry_after=7),
        ServerError("at http://10.0.0.1/x"),
        KeyError(),
    ]
    tiers["strong"]._faults = faults
    async with (
        running(tmp_path, tiers, resilience={"attempts": 1}) as server,
        openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        ask = client.decisions.create
        refused = await ask(model="cascade:strong", input="x", questions=[MOOD_BODY])
        with pytest.raises(openai.RateLimitError) as slow:
            await ask(model="cascade:strong", input="x", questions=[MOOD_BODY])
        with pytest.raises(openai.InternalServerError) as down:
            await ask(model="cascade:strong", input="x", questions=[MOOD_BODY])
        with pytest.raises(openai.InternalServerError) as bug:
            await ask(model="cascade:strong", input="x", questions=[MOOD_BODY])
    assert refused.answers[0].type == "refusal"
    assert slow.value.response.headers["retry-after"] == "7"
    assert down.value.status_code == 503
    assert "10.0.0.1" not in str(down.value)
    assert bug.value.status_code == 500
    assert "KeyError" not in bug.value.response.text
    assert bug.value.response.headers["x-request-id"]


async def test_a_client_that_goes_away_takes_the_work_with_it(tmp_path: Path) -> None:
    tiers = scripted_tiers()
    tiers["small"]._latency = 30.0
    async with running(tmp_path, tiers) as server:
        body = {"model": "cascade", "input": "x", "questions": [MOOD_BODY]}
        timeout = aiohttp.ClientTimeout(total=0.2)
        async with aiohttp.ClientSession(timeout=timeout) as client:
            with pytest.raises(TimeoutError):
                await client.post(f"{server.url}/v1/decisions", json=body)
        await settled(server)
