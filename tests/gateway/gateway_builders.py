"""A gateway in this process, on loopback, with scripted tiers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
from route_builders import FUN, MOOD, policy, row

from cascade.artifact import save, seal
from cascade.gateway.access import Access
from cascade.gateway.billing import Billing
from cascade.gateway.gateway import Gateway
from cascade.gateway.keys import Keyring
from cascade.gateway.ledger import Ledger, LedgerSettings
from cascade.gateway.policy_life import PolicyLife
from cascade.gateway.server import listening
from cascade.gateway.settings import ServeSettings
from cascade.gateway.stack import cap_of, stacked
from cascade.gateway.tiers import TierPool
from cascade.policy import Policy
from cascade.traffic_writer import TrafficWriter
from curator.engines.base import Engine, EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.types import DecideRequest, Template

TEMPLATE = Template(order="state_first")


def sure(request: DecideRequest) -> dict[str, list[float]] | list[float]:
    """The small tier's script: sure of the first option but where the state says hard."""
    chances = [0.6, 0.4] if "hard" in request.state else [0.9, 0.1]
    return {question.name: chances for question in request.questions}


def second(request: DecideRequest) -> dict[str, str]:
    """The strong tier's script: the second option of everything."""
    return {question.name: question.labels[-1] for question in request.questions}


def scripted_tiers(**changed: ScriptedEngine) -> dict[str, ScriptedEngine]:
    small = ScriptedEngine(sure, lambda _: "a draft", identity=EngineIdentity("scripted", "small"))
    strong = ScriptedEngine(second, lambda _: "an answer", identity=EngineIdentity("scripted", "strong"))
    return {"small": small, "strong": strong, **changed}


@dataclass
class Running:
    """A gateway that listens at `url`, its tiers, and where its policy is."""

    url: str
    gateway: Gateway
    tiers: Mapping[str, Engine]
    path: Path


def certified(tiers: Mapping[str, Engine], **changed: object) -> Policy:
    """Both questions are certified for the small tier, at 0.8, asked together or alone."""
    asked = replace(row("", MOOD, FUN), template=TEMPLATE)
    return seal(policy(tiers, asked, {"mood": [0.8], "fun": [0.8]}, **changed))


def settings(folder: Path, **changed: object) -> ServeSettings:
    given: dict[str, object] = {
        "port": 0,
        "policy": folder / "policy.json",
        "watch_seconds": 0.05,
        "live": {"state": folder / "live.json", "share": 1.0},
        "limits": {"drain_seconds": 5.0},
    }
    return ServeSettings.model_validate({**given, **changed})


@asynccontextmanager
async def running(
    folder: Path,
    tiers: Mapping[str, Engine] | None = None,
    found: Policy | None = None,
    writer: TrafficWriter | None = None,
    keys: Keyring | None = None,
    scrape: Callable[[], bytes] | None = None,
    **changed: object,
) -> AsyncIterator[Running]:
    """Serve `tiers` with the policy `found` (by default `certified`), with settings that differ by `changed`."""
    engines: Mapping[str, Engine] = tiers or scripted_tiers()
    given = settings(folder, **changed)
    save(found or certified(engines), given.policy)
    billing = Billing(Ledger(LedgerSettings(folder=given.ledger) if given.ledger else None))
    pool = TierPool(
        lambda record, currency, last: stacked(
            {record.name: engines[record.name]},
            given,
            record.name,
            price=record.price_in(currency),
            billing=billing,
            last=last,
        ),
        fallback=given.fallback,
        cap=cap_of(given),
    )
    life = PolicyLife(given, pool.cascade, writer, keep=pool.keep)
    gateway = Gateway(given, life, pool, Access(billing, keys=keys), template=TEMPLATE, scrape=scrape)
    async with listening(gateway) as url:
        yield Running(url, gateway, engines, given.policy)
    await pool.aclose()
    gateway.access.close()


MOOD_BODY = {
    "type": "choice",
    "name": "mood",
    "instructions": "Which mood?",
    "choices": [{"value": "good"}, {"value": "bad"}],
}
FUN_BODY = {"type": "predicate", "name": "fun", "instructions": "Is it fun?"}


async def settled(server: Running) -> None:
    """Wait until no request is in flight. Raises: TimeoutError"""
    with anyio.fail_after(20):
        while server.gateway.admission.in_flight:  # noqa: ASYNC110
            await anyio.sleep(0.02)
