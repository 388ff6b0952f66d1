"""The demo's end: its cascade behind the real server, asked by the `openai` client; one query's trace, and the bill."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel

from cli.output import amount
from curator.types import DecideRequest, JsonObject

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from cascade.gateway.gateway import Gateway
    from cascade.gateway.ledger import Group, Total
    from cascade.gateway.settings import ServeSettings
    from cascade.policy import Policy
    from curator.engines.base import Engine

NEEDS: Final = ("openai", "opentelemetry.sdk")
AT_ONCE: Final = 4
"""Requests on their way at a time: enough for the tiers to batch, few enough for a trace to show mostly work."""
MOST: Final = 40
"""Reviews that are asked about: enough for some to be passed on."""
PROMPT: Final = "In one short sentence: what does this film review say?\n\n"
LENGTH: Final = 24
"""Tokens that the chat may generate."""
PATIENCE: Final = 600.0
"""Seconds for one request: a model on a CPU may be slow, and busy with something else."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer over HTTP: the trace that it was asked under, how many tiers were asked, and what the last tier alone
    costs, where that is known."""

    trace: str
    attempts: int
    baseline: float | None


@dataclass(frozen=True, slots=True)
class Billed:
    """What one tier took, over all requests: its calls by what they were for, tokens, money."""

    tier: str
    kinds: Mapping[str, int]
    input_tokens: int
    output_tokens: int
    cost: float


@dataclass(frozen=True, slots=True)
class Demonstrated:
    """What the server did: how many decisions it was asked for, what it said in a chat (empty: no tier chats), the
    trace of one query as lines, whether that one was escalated, and the bill beside the last tier's alone."""

    address: str
    decisions: int
    chat: str
    trace: Sequence[str]
    escalated: bool
    bill: Sequence[Billed]
    baseline: float | None
    currency: str

    @property
    def cost(self) -> float:
        """Money for everything."""
        return sum(one.cost for one in self.bill)

    @property
    def said(self) -> str:
        """The bill in a sentence."""
        asked = f"{self.decisions} decisions" + (" and a chat" if self.chat else "")
        if not self.baseline:
            return f"{asked}: {amount(self.cost, self.currency)}"
        share = 1 - self.cost / self.baseline
        word = f"{share:.0%} saved" if share >= 0 else f"{-share:.0%} more"
        alone = amount(self.baseline, self.currency)
        return f"{asked}: {amount(self.cost, self.currency)}, the last tier alone {alone} ({word})"

    @property
    def rows(self) -> list[dict[str, object]]:
        """The bill, one row per tier."""
        return [
            {
                "tier": one.tier,
                "calls": sum(one.kinds.values()),
                "for": ", ".join(f"{count} {kind}" for kind, count in sorted(one.kinds.items())),
                "input tokens": one.input_tokens,
                "output tokens": one.output_tokens,
                "cost": f"{one.cost:.6f} {self.currency}",
            }
            for one in self.bill
        ]

    def to_json(self) -> JsonObject:
        """All of it."""
        bill: JsonObject = {
            one.tier: {
                "calls": dict(one.kinds),
                "input_tokens": one.input_tokens,
                "output_tokens": one.output_tokens,
                "cost": one.cost,
            }
            for one in self.bill
        }
        return {
            "decisions": self.decisions,
            "chat": self.chat,
            "trace": list(self.trace),
            "escalated": self.escalated,
            "bill": bill,
            "cost": self.cost,
            "baseline": self.baseline,
        }


def servable() -> bool:
    """Whether the packages that this part needs are installed."""
    return all(find_spec(name.partition(".")[0]) and find_spec(name) for name in NEEDS)


async def demonstrate(
    folder: Path, path: Path, engines: Mapping[str, Engine], requests: Sequence[DecideRequest]
) -> Demonstrated:
    """Serve the policy at `path` with engines that are open already (tier -> engine, they stay open), ask the server
    about `requests` and for a chat, and stop it. Ledger and live risk go into `folder`."""
    from cascade.gateway.server import listening
    from cascade.gateway.settings import LimitSettings, LiveTable, ResilienceSettings, ServeSettings
    from cli.logs import remembered
    from cli.span_tree import tree

    serve = ServeSettings(
        port=0,
        policy=path,
        ledger=folder / "ledger",
        live=LiveTable(state=folder / "live.json"),
        limits=LimitSettings(seconds=PATIENCE),
        resilience=ResilienceSettings(timeout=PATIENCE),
    )
    gateway = _gateway(serve, engines, requests[0])
    asked = requests[:MOST]
    try:
        with remembered() as finished:
            async with listening(gateway) as address, _client(address) as client:
                replies, (chat, alone) = await _ask(client, gateway.settings.name, asked)
            # The server has stopped: what followed its answers is on the bill, too.
            chosen = max(replies, key=lambda reply: reply.attempts)
            spans = [one for one in finished() if one.context and f"{one.context.trace_id:032x}" == chosen.trace]
    finally:
        gateway.access.close()
    bill = _bill(gateway.access.billing.ledger.totals, gateway.life.main.policy)
    known = [one for one in (*(reply.baseline for reply in replies), alone) if one is not None]
    baseline = sum(known) if len(known) == len(replies) + 1 else None
    return Demonstrated(address, len(asked), chat, tree(spans), chosen.attempts > 1, bill, baseline, gateway.currency)


def _gateway(serve: ServeSettings, engines: Mapping[str, Engine], like: DecideRequest) -> Gateway:
    """The gateway that `goldless serve` makes, around engines that are open."""
    from cascade.gateway.access import Access
    from cascade.gateway.billing import Billing
    from cascade.gateway.gateway import Gateway
    from cascade.gateway.ledger import Ledger, LedgerSettings
    from cascade.gateway.policy_life import PolicyLife
    from cascade.gateway.stack import stacked
    from cascade.gateway.tiers import TierPool

    billing = Billing(Ledger(None if serve.ledger is None else LedgerSettings(folder=serve.ledger)))
    pool = TierPool(
        lambda record, currency, last: stacked(
            {record.name: engines[record.name]},
            serve,
            record.name,
            price=record.price_in(currency),
            billing=billing,
            last=last,
        )
    )
    return Gateway(serve, PolicyLife(serve, pool.cascade), pool, Access(billing), template=like.template)


def _client(address: str) -> AsyncOpenAI:
    import openai

    # A proxy of the environment must not be asked for what runs in this process.
    direct = openai.DefaultAsyncHttpxClient(trust_env=False)
    return openai.AsyncOpenAI(
        base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=PATIENCE, http_client=direct
    )


async def _ask(
    client: AsyncOpenAI, model: str, requests: Sequence[DecideRequest]
) -> tuple[list[Reply], tuple[str, float | None]]:
    """Raises: EngineError where the server does not answer."""
    import openai

    from curator.errors import EngineError

    try:
        return await _decide(client, model, requests), await _chat(client, model, requests[0].state)
    except openai.OpenAIError as error:
        raise EngineError(f"the demo's server did not answer: {error}", hint="run the demo again, with -v") from error


async def _decide(client: AsyncOpenAI, model: str, requests: Sequence[DecideRequest]) -> list[Reply]:
    import asyncio

    from cascade.wire.extras import BLOCK
    from curator.engines.shapes import decisions_question

    free = asyncio.Semaphore(AT_ONCE)

    async def one(request: DecideRequest) -> Reply:
        trace = secrets.token_hex(16)
        async with free:
            answer = await client.decisions.create(
                model=model,
                input=request.state,
                questions=[decisions_question(question, question.instructions) for question in request.questions],  # type: ignore[misc]
                extra_headers={"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"},
            )
        block = _Block.model_validate((answer.model_extra or {})[BLOCK])
        return Reply(trace, len(block.attempts), block.cost.baseline)

    return list(await asyncio.gather(*map(one, requests)))


async def _chat(client: AsyncOpenAI, model: str, state: str) -> tuple[str, float | None]:
    """What is said to a prompt, and what that costs without the cascade; nothing where no tier generates text."""
    import openai

    from cascade.wire.extras import BLOCK

    try:
        answer = await client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": PROMPT + state}], max_tokens=LENGTH, temperature=0.0
        )
    except openai.APIStatusError:
        return "", 0.0
    block = _Block.model_validate((answer.model_extra or {})[BLOCK])
    return " ".join((answer.choices[0].message.content or "").split()), block.cost.amount


def _bill(totals: Mapping[Group, Total], policy: Policy) -> list[Billed]:
    """Per tier, in the policy's order."""
    from cascade.gateway.ledger import Total

    found = []
    for tier in policy.tiers:
        kinds, whole = Counter[str](), Total()
        for group, total in totals.items():
            if group.tier == tier.name:
                kinds[group.kind] += total.attempts
                whole.add(total)
        found.append(Billed(tier.name, dict(kinds), whole.input_tokens, whole.output_tokens, whole.cost))
    return found


class _Cost(BaseModel):
    amount: float | None
    baseline: float | None


class _Block(BaseModel):
    """What the demo reads of the `goldless` block."""

    attempts: list[object]
    cost: _Cost
