"""Policies in a running server: replaced where they hold, tried in stages, tightened after an alarm, remembered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path

import anyio
import openai
import pytest
from gateway_builders import FUN_BODY, MOOD_BODY, TEMPLATE, Running, certified, running, scripted_tiers, sure
from route_builders import FUN, MOOD, certificate, policy, row

from cascade.artifact import save, seal
from cascade.gateway.live_file import read_states
from cascade.policy import Policy, TierRecord
from curator.engines.base import Engine, EngineIdentity, identity_text
from curator.engines.scripted import ScriptedEngine
from curator.engines.wrapper import WrapperEngine
from curator.errors import ConfigError
from curator.types import Delta, GenerateRequest

pytestmark = pytest.mark.anyio


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(20):
        while not holds():  # noqa: ASYNC110
            await anyio.sleep(0.02)


async def tier_of(client: openai.AsyncOpenAI, text: str = "fine") -> str:
    found = await client.decisions.create(model="cascade", input=text, questions=[MOOD_BODY, FUN_BODY])
    return found.goldless["answers"][0]["tier"]


def client_of(server: Running) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def with_limit(limit: float | None, **changed: object) -> Policy:
    """The same policy with another threshold."""
    asked = replace(row("", MOOD, FUN), template=TEMPLATE)
    return seal(policy(scripted_tiers(), asked, {"mood": [limit], "fun": [limit]}, **changed))


QUIET = {"live": {"share": 0.0}}


async def test_a_policy_that_holds_takes_over(tmp_path: Path) -> None:
    async with running(tmp_path, **QUIET) as server, client_of(server) as client:
        assert await tier_of(client) == "small"
        found = with_limit(0.99)
        save(found, server.path)
        await until(lambda: server.gateway.life.main.policy.checksum == found.checksum)
        assert await tier_of(client) == "strong"
        assert not server.gateway.life.problems


@pytest.mark.parametrize(
    ("spoilt", "why"),
    [
        (lambda path: path.write_text("{}"), "no policy"),
        (lambda path: path.write_text(path.read_text().replace("0.8", "0.1")), "checksum"),
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: save(with_limit(0.1, certified=certificate("BLOCK")), path), "certifies nothing"),
        (lambda path: save(with_limit(0.1, expires="2020-01-01T00:00:00Z"), path), "expired"),
        (
            lambda path: save(
                certified(scripted_tiers(small=ScriptedEngine([], identity=EngineIdentity("scripted", "other")))), path
            ),
            "the policy is for",
        ),
    ],
)
async def test_one_that_does_not_hold_is_said_and_the_old_one_stays(
    tmp_path: Path, spoilt: Callable[[Path], object], why: str
) -> None:
    async with running(tmp_path, **QUIET) as server, client_of(server) as client:
        life, before = server.gateway.life, server.gateway.life.main
        spoilt(server.path)
        await until(lambda: bool(life.problems))
        assert why in life.problems[str(server.path)]
        assert life.main is before
        assert await tier_of(client) == "small"
        # Mended, it is in use again, and nothing is complained about.
        save(with_limit(0.95), server.path)
        await until(lambda: life.main is not before)
        assert not life.problems


async def test_only_a_signed_policy_takes_over(tmp_path: Path) -> None:
    ours, theirs = make_keys(tmp_path, "ours"), make_keys(tmp_path, "theirs")
    found = seal(certified(scripted_tiers()), ours[0])
    async with running(tmp_path, found=found, signed_by=ours[1], **QUIET) as server:
        save(seal(with_limit(0.1), theirs[0]), server.path)
        await until(lambda: bool(server.gateway.life.problems))
        assert "not signed by" in server.gateway.life.problems[str(server.path)]
        assert server.gateway.life.main.policy.signature == found.signature


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key, private, public = Ed25519PrivateKey.generate(), folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


async def test_shadow_then_canary_then_serve_then_off(tmp_path: Path) -> None:
    rollout = tmp_path / "rollout.toml"

    def stage(name: str) -> None:
        rollout.write_text(f'policy = "next.json"\nstage = "{name}"\nshare = 0.5\n')

    save(with_limit(0.99), tmp_path / "next.json")
    stage("shadow")
    async with running(tmp_path, rollout=rollout, **QUIET) as server, client_of(server) as client:
        life = server.gateway.life
        # Judged only: all would be escalated, as nothing reaches its threshold.
        assert [await tier_of(client), await tier_of(client, "hard")] == ["small", "strong"]
        assert life.candidate is not None
        await until(lambda: life.candidate.rehearsal.questions["mood"].queries == 2)
        counts = life.candidate.rehearsal.questions["mood"]
        assert (counts.accepted, counts.compared) == (0, 0)
        assert len(server.tiers["strong"].requests) == 1, "a rehearsal asks the last tier for nothing"
        stage("canary")
        await until(lambda: life.candidate.rollout.stage == "canary")
        tiers = [await tier_of(client) for _ in range(40)]
        assert 5 < tiers.count("strong") < 35
        stage("serve")
        await until(lambda: life.candidate.rollout.stage == "serve")
        assert {await tier_of(client) for _ in range(5)} == {"strong"}
        stage("off")
        await until(lambda: life.candidate is None)
        assert await tier_of(client) == "small"


async def test_a_shadow_knows_what_it_would_have_got_wrong(tmp_path: Path) -> None:
    rollout = tmp_path / "rollout.toml"
    rollout.write_text('policy = "next.json"\n')
    save(with_limit(0.5), tmp_path / "next.json")
    async with running(tmp_path, rollout=rollout, **QUIET) as server, client_of(server) as client:
        life = server.gateway.life
        await tier_of(client, "hard")
        await until(lambda: "mood" in life.candidate.rehearsal.questions)
        counts = life.candidate.rehearsal.questions["mood"]
    assert (counts.queries, counts.accepted, counts.compared, counts.disagreed) == (1, 1, 1, 1)
    assert len(server.tiers["small"].requests) == 1, "what it has said is not asked again"


async def test_a_candidate_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    rollout = tmp_path / "rollout.toml"
    rollout.write_text('policy = "next.json"\nstage = "now"\n')
    async with running(tmp_path, rollout=rollout, **QUIET) as server, client_of(server) as client:
        life = server.gateway.life
        assert "stage" in life.problems[str(rollout)]
        rollout.write_text('policy = "next.json"\nstage = "serve"\n')
        await until(lambda: "cannot be read" in life.problems[str(rollout)])
        assert await tier_of(client) == "small"
        save(with_limit(0.99), tmp_path / "next.json")
        await until(lambda: life.candidate is not None)
        assert await tier_of(client) == "strong"


async def test_an_alarm_fails_safe_and_a_restart_remembers_it(tmp_path: Path) -> None:
    async with running(tmp_path) as server, client_of(server) as client:
        life = server.gateway.life
        for number in range(60):
            await tier_of(client, f"query {number}")
            if all(live.failed_safe for live in life.main.live.values()):
                break
        await until(lambda: all(live.failed_safe for live in life.main.live.values()))
        assert await tier_of(client) == "strong"
        status = await client.get("../status", cast_to=dict)
        assert status["policy"]["questions"][0]["live"]["failed_safe"] is True
    assert all(state.alarms for state in read_states(tmp_path / "live.json"))
    async with running(tmp_path) as server, client_of(server) as client:
        assert await tier_of(client) == "strong"


async def test_a_new_certificate_begins_anew(tmp_path: Path) -> None:
    async with running(tmp_path) as server, client_of(server) as client:
        life = server.gateway.life
        for number in range(60):
            await tier_of(client, f"query {number}")
        await until(lambda: all(live.failed_safe for live in life.main.live.values()))
        save(with_limit(0.8, certified=certificate(rows=600)), server.path)
        await until(lambda: not any(live.failed_safe for live in life.main.live.values()))
        assert await tier_of(client) == "small"
        # And the old one comes back with what was known about it.
        save(with_limit(0.8), server.path)
        await until(lambda: all(live.failed_safe for live in life.main.live.values()))


async def test_audits_beyond_what_fits_are_lost_and_counted(tmp_path: Path) -> None:
    strong = scripted_tiers()["strong"]
    strong._latency = 0.5
    live = {"share": 1.0, "waiting": 1, "state": tmp_path / "live.json"}
    async with running(tmp_path, scripted_tiers(strong=strong), live=live) as server, client_of(server) as client:
        for number in range(4):
            await tier_of(client, f"query {number}")
        life = server.gateway.life
        assert life.audits.dropped == 3
        (watched, _) = life.main.live.values()
        assert watched.estimate().lost == 3
    assert watched.counts.settled == 1, "what was on its way is finished before the end"


async def test_a_live_state_that_is_none_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "live.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds no live risk"):
        async with running(tmp_path):
            pass


async def test_a_replaced_tier_is_closed_once_nothing_uses_it(tmp_path: Path) -> None:
    """Streams that began under the old policy end with its tiers, which then are closed; those of both stay open."""
    old, new = scripted_tiers(), scripted_tiers(small=ScriptedEngine(sure, identity=EngineIdentity("scripted", "new")))
    go = asyncio.Event()
    slow = SlowStream(old["strong"], go)
    tiers: dict[str, Engine] = {"small": old["small"], "strong": slow}
    async with running(tmp_path, tiers, **QUIET) as server, client_of(server) as client:
        life = server.gateway.life
        asked = {"model": "cascade", "messages": [{"role": "user", "content": "x"}], "stream": True}
        stream = await client.chat.completions.create(**asked)
        said = [(await anext(stream)).choices[0].delta.content]
        # The same models at another price are other tiers, and the first of them is another model now.
        tiers.update({"small": new["small"], "strong": new["strong"]})
        records = tuple(
            TierRecord(name=name, identity=identity_text(one.identity), price=(1.0, 1.0)) for name, one in new.items()
        )
        save(seal(certified(new).model_copy(update={"tiers": records})), server.path)
        await until(lambda: life.main.policy.tiers == records)
        assert await tier_of(client) == "small"
        # What nobody uses could be closed by now; the stream still needs its own.
        await life.sweep()
        assert not old["small"].closed
        assert not slow.inner.closed
        go.set()
        async for chunk in stream:
            said += [choice.delta.content or "" for choice in chunk.choices]
        assert "".join(filter(None, said)) == "an answer"
        await until(lambda: slow.inner.closed and old["small"].closed)
        assert not new["small"].closed
        assert await tier_of(client) == "small"
    assert new["small"].closed


class SlowStream(WrapperEngine):
    """Its streams stop after the first piece until they are told to go on."""

    def __init__(self, inner: ScriptedEngine, go: asyncio.Event) -> None:
        super().__init__(inner)
        self.go = go

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        async for piece in self.inner.stream(request):
            yield piece
            await self.go.wait()
