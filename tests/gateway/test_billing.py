from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from billing_upstream import BillingUpstream
from route_builders import policy, scripted

from cascade.gateway.billing import Billing, tiers_of
from cascade.gateway.budgets import Budgets
from cascade.gateway.hedging import HedgeEngine, HedgeSettings
from cascade.gateway.key_records import Caps
from cascade.gateway.ledger import Ledger, LedgerSettings
from cascade.gateway.ledger_files import SUFFIX, Entry
from cascade.gateway.replicas import Replicas
from cascade.router import Cascade
from curator.engines.base import Engine
from curator.engines.exchanges import purpose
from curator.engines.http import HTTPEngine
from curator.engines.metering import MeteredEngine
from curator.engines.pieces import streamed
from curator.engines.wrappers import RetryPolicy, wrap
from curator.errors import BudgetExceededError, ConfigError, GoldlessError, RateLimitError, ServerError
from curator.types import GenerateRequest, Message, Price, Sampling, Usage

pytestmark = pytest.mark.anyio

PRICES = {"small": Price(1.0, 2.0), "strong": Price(10.0, 20.0)}
RETRY = RetryPolicy(attempts=3, base=0.0, cap=0.0)


def prompt(text: str, **sampling: int) -> GenerateRequest:
    return GenerateRequest((Message("user", text),), Sampling(max_tokens=8, **sampling))


class Desk:
    """A ledger whose entries are kept, and billing over it."""

    def __init__(self, folder: Path | None = None) -> None:
        self.ledger = Ledger(LedgerSettings(folder=folder) if folder else None)
        self.billing = Billing(self.ledger)
        self.entries: list[Entry] = []
        put = self.ledger.put
        self.ledger.put = lambda entry: (self.entries.append(entry), put(entry))[1]  # type: ignore[method-assign]

    def metered(self, engine: Engine, tier: str, price: Price | None = None) -> Engine:
        return MeteredEngine(engine, self.billing.meter(tier, engine.identity.model, price or PRICES[tier]))

    @property
    def kinds(self) -> list[str]:
        return [entry.kind for entry in self.entries]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def cascade(tiers: Mapping[str, Engine], limit: float) -> Cascade:
    return Cascade(tiers, policy(tiers, prompt("x"), {"text": [limit]}))


async def test_what_was_served_is_an_answer_and_the_rest_are_drafts(desk: Desk) -> None:
    tiers = {name: desk.metered(scripted(name, generate=lambda _: "one two"), name) for name in ("small", "strong")}
    with desk.billing.open("q1", "k1") as bill:
        routed = await cascade(tiers, 2.0).route_text(prompt("a b c"))
        assert desk.entries == []
        bill.served(tiers_of(routed))
    assert [(e.request, e.key, e.tier, e.kind, e.certified) for e in desk.entries] == [
        ("q1", "k1", "small", "draft", None),
        ("q1", "k1", "strong", "answer", True),
    ]
    assert [entry.usage for entry in desk.entries] == [Usage(3, 2), Usage(3, 2)]
    assert bill.usage == routed.usage == Usage(6, 4, calls=2)
    assert bill.cost == pytest.approx((3 + 4 + 30 + 40) / 1e6)
    assert [entry.currency for entry in desk.entries] == ["USD", "USD"]


async def test_an_unknown_price_makes_an_unknown_cost(desk: Desk) -> None:
    meter = desk.billing.meter("small", "m", None)
    with desk.billing.open("q1") as bill:
        await MeteredEngine(scripted("m", generate=lambda _: "one"), meter).generate(prompt("a"))
    assert bill.cost is None
    assert desk.entries[0].cost is None
    assert desk.entries[0].usage == Usage(1, 1)


async def test_calls_that_no_request_causes_are_on_no_bill(desk: Desk) -> None:
    with purpose("probe"):
        await desk.metered(scripted("small", generate=lambda _: "one"), "small").generate(prompt("a"))
    assert [(e.request, e.key, e.kind) for e in desk.entries] == [("", "", "probe")]


async def test_audits_after_the_request_are_billed_and_paid_by_nobodys_budget(desk: Desk) -> None:
    engine = desk.metered(scripted("strong", generate=["one", "two"]), "strong")
    budgets, caps = Budgets(), Caps(total=1.0)
    going_on = asyncio.Event()

    async def audit() -> None:
        await going_on.wait()
        with purpose("audit"):
            await engine.generate(prompt("a b"))

    with desk.billing.open("q1", "k1", budgets.purse("k1", caps)) as bill:
        await engine.generate(prompt("a"))
        bill.served({"strong": True})
        task = asyncio.create_task(audit())
    spent = budgets.spent("k1")
    going_on.set()
    await task
    assert [(e.request, e.key, e.kind, e.certified) for e in desk.entries] == [
        ("q1", "k1", "answer", True),
        ("q1", "k1", "audit", None),
    ]
    assert budgets.spent("k1") == spent
    assert spent.total == pytest.approx(30 / 1e6)


async def test_a_budget_ends_retries_and_escalations(desk: Desk) -> None:
    """The draft is served, marked as a fallback, where the money does not reach for the strong tier."""
    small = desk.metered(scripted("small", generate=lambda _: "one two"), "small")
    strong = desk.metered(scripted("strong", generate=lambda _: "one two"), "strong")
    most = PRICES["small"].cost(Usage(64 + 5, 8))
    purse = Budgets().purse("", Caps(), most)
    with desk.billing.open("q1", "", purse):
        routed = await cascade({"small": small, "strong": strong}, 2.0).route_text(prompt("a b c"))
    assert (routed.answers[0].tier, str(routed.answers[0].outcome)) == ("small", "fallback")
    assert [attempt.error for attempt in routed.attempts] == ["", "BudgetExceededError"]
    assert desk.kinds == ["draft"]
    with pytest.raises(BudgetExceededError), desk.billing.open("q2", "", Budgets().purse("", Caps(), most / 2)):
        await small.generate(prompt("a b c"))


async def test_a_budget_cannot_be_held_to_without_a_price(desk: Desk) -> None:
    engine = MeteredEngine(scripted("m", generate=lambda _: "x"), desk.billing.meter("small", "m", None))
    purse = Budgets().purse("", Caps(), 1.0)
    with pytest.raises(ConfigError, match="tier 'small' has no price"), desk.billing.open("q1", "", purse):
        await engine.generate(prompt("a"))


async def test_money_is_booked_as_told_given_back_as_unbilled_and_kept_as_unknown(desk: Desk) -> None:
    faults = [None, RateLimitError("slow down"), ServerError("oh")]
    engine = desk.metered(scripted("small", generate=lambda _: "one two", faults=faults), "small")
    budgets, caps = Budgets(), Caps(total=1.0)
    booked = []
    for _ in faults:
        before = budgets.spent("k").total
        with contextlib.suppress(RateLimitError, ServerError), desk.billing.open("q", "k", budgets.purse("k", caps)):
            await engine.generate(prompt("a b c"))
        booked.append(round((budgets.spent("k").total - before) * 1e6, 6))
    assert booked == [3 + 4, 0, 64 + 5 + 2 * 8]
    assert budgets.spent("k").reserved == 0


async def test_no_interleaving_of_calls_and_cancellations_overspends(desk: Desk) -> None:
    """200 requests at once for a budget of about ten; every third is cancelled in the middle."""
    engine = desk.metered(scripted("small", generate=lambda _: "one two", latency=0.01), "small")
    budgets, caps = Budgets(), Caps(total=PRICES["small"].cost(Usage(69, 8)) * 10)
    highest = 0.0

    async def ask(number: int) -> None:
        nonlocal highest
        with desk.billing.open(f"q{number}", "k", budgets.purse("k", caps)):
            await asyncio.sleep(number % 7 / 1000)
            await engine.generate(prompt("a b c"))
        spent = budgets.spent("k")
        highest = max(highest, spent.total + spent.reserved)

    tasks = [asyncio.create_task(ask(number)) for number in range(200)]
    await asyncio.sleep(0.008)
    for task in tasks[::3]:
        task.cancel()
    outcomes = Counter(type(found).__name__ for found in await asyncio.gather(*tasks, return_exceptions=True))
    assert outcomes["BudgetExceededError"] > 0
    assert outcomes["NoneType"] > 0
    spent = budgets.spent("k")
    assert spent.reserved == 0
    assert caps.total is not None
    assert max(highest, spent.total) <= caps.total + 1e-12
    known = sum(entry.cost for entry in desk.entries if entry.cost is not None)
    unknown = sum(entry.usage is None for entry in desk.entries)
    assert spent.total == pytest.approx(known + unknown * caps.total / 10)


@contextlib.asynccontextmanager
async def upstreams(**changed: float) -> AsyncIterator[tuple[BillingUpstream, BillingUpstream]]:
    async with BillingUpstream(seed=1, **changed) as small, BillingUpstream(seed=2, **changed) as strong:
        yield small, strong


def read(folder: Path) -> list[dict]:
    return [row for file in folder.glob(f"*{SUFFIX}") for row in pq.read_table(file).to_pylist()]


def tokens(entries: list[dict]) -> tuple[int, int]:
    known = [entry for entry in entries if entry["input_tokens"] is not None and not entry["estimated"]]
    return sum(e["input_tokens"] for e in known), sum(e["output_tokens"] for e in known)


async def test_the_ledger_is_what_the_upstreams_billed_to_the_token_under_faults(tmp_path: Path) -> None:
    """2,000 requests, with a fault in a quarter of all attempts, retries, escalations, fallbacks, audits and callers
    that go away."""
    desk = Desk(tmp_path)
    async with upstreams(faults=0.25) as servers:
        tasks: dict[str, asyncio.Task[None]] = {}
        tiers = {}
        for name, server in zip(("small", "strong"), servers, strict=True):
            # A caller goes away just when its attempt hangs.
            server.hung = lambda text: tasks[text.split()[0]].cancel()
            engine = HTTPEngine(server.url, name, concurrency=64)
            tiers[name] = wrap(desk.metered(engine, name), retry=RETRY, price=PRICES[name])
        route, places = cascade(tiers, 0.9), asyncio.Semaphore(48)

        async def ask(number: int) -> None:
            async with places:
                with desk.billing.open(f"q{number}", f"k{number % 3}") as bill:
                    asked = prompt(f"q{number}" + " word" * (number % 9))
                    with contextlib.suppress(GoldlessError):
                        bill.served(tiers_of(await route.route_text(asked)))
                    if number % 10 == 0:
                        with purpose("audit"), contextlib.suppress(GoldlessError):
                            await tiers["strong"].generate(asked)

        for number in range(2000):
            tasks[f"q{number}"] = asyncio.create_task(ask(number))
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        for engine in tiers.values():
            await engine.aclose()
        desk.ledger.close()
        rows = read(tmp_path)
        for name, server in zip(("small", "strong"), servers, strict=True):
            own = [row for row in rows if row["tier"] == name]
            assert tokens(own) == server.told()
            assert sum(row["input_tokens"] is None for row in own) == server.untold > 50
    assert len(rows) == len(desk.entries) == desk.ledger.counts.written
    kinds = Counter(row["kind"] for row in rows)
    assert min(kinds[kind] for kind in ("answer", "draft", "retry", "audit", "aborted")) > 20, kinds
    totals = desk.ledger.totals.values()
    assert (sum(t.input_tokens for t in totals), sum(t.output_tokens for t in totals)) == tokens(rows)
    assert sum(t.unknown for t in totals) == sum(server.untold for server in servers)
    assert sum(t.cost for t in totals) == pytest.approx(sum(row["cost"] or 0.0 for row in rows))


async def test_hedges_are_billed_whether_they_win_or_lose(desk: Desk) -> None:
    async with upstreams() as servers:
        slow = scripted("m", generate=lambda _: "never", latency=30.0)
        replicas = Replicas(
            {
                "slow": desk.metered(slow, "small"),
                "fast": desk.metered(_Named(HTTPEngine(servers[0].url, "m"), slow), "small"),
            }
        )
        engine = HedgeEngine(replicas, HedgeSettings(share=1.0, delay=0.01))
        with desk.billing.open("q1") as bill:
            for _ in range(6):
                await engine.generate(prompt("a b c"))
            bill.served({"small": False})
        await engine.aclose()
        assert tokens([_row(entry) for entry in desk.entries]) == servers[0].told()
    assert len([entry for entry in desk.entries if entry.usage is None]) == len(slow.requests)
    assert "hedge" in desk.kinds
    assert "aborted" in desk.kinds


class _Named(MeteredEngine):
    """An engine that says it is another, as replicas of one model do."""

    def __init__(self, inner: Engine, like: Engine) -> None:
        super().__init__(inner, Billing(Ledger()).meter("unused", "", None))
        self.like = like

    identity = property(lambda self: self.like.identity)  # type: ignore[assignment]

    async def generate(self, request: GenerateRequest) -> object:  # type: ignore[override]
        return await self.inner.generate(request)


def _row(entry: Entry) -> dict:
    usage = entry.usage
    return {
        "input_tokens": usage and usage.input_tokens,
        "output_tokens": usage and usage.output_tokens,
        "estimated": entry.estimated,
    }


async def test_streams_are_billed_as_told_and_estimated_where_they_were_closed(desk: Desk) -> None:
    async with upstreams() as (server, _):
        engine = desk.metered(HTTPEngine(server.url, "small"), "small")
        budgets = Budgets()
        with desk.billing.open("q1", "k", budgets.purse("k", Caps(total=1.0))) as bill:
            async for _ in streamed(engine, prompt("all of it")):
                pass
            bill.served({"small": False})
        assert tokens([_row(entry) for entry in desk.entries]) == server.told()
        with desk.billing.open("q2", "k", budgets.purse("k", Caps(total=1.0))) as bill:
            stream = streamed(engine, prompt("slow " * 7))
            await anext(stream)
            await stream.aclose()
        await engine.aclose()
    whole, closed = desk.entries
    assert (whole.kind, whole.estimated, closed.kind, closed.estimated) == ("answer", False, "aborted", True)
    assert closed.usage is not None
    assert closed.usage == replace(closed.usage, input_tokens=35 // 4)
    assert closed.usage.output_tokens >= 1
    assert closed.cost is not None
    assert budgets.spent("k").total == pytest.approx((whole.cost or 0.0) + closed.cost, abs=1e-9)


async def test_streams_under_faults_are_billed_to_the_token_too(desk: Desk) -> None:
    """600 streams: a quarter of the attempts fails, a fifth of the readers leaves after the first piece."""
    async with upstreams(faults=0.25) as (server, _):
        tasks: dict[str, asyncio.Task[None]] = {}
        server.hung = lambda text: tasks[text.split()[1]].cancel()
        engine = wrap(desk.metered(HTTPEngine(server.url, "small"), "small"), retry=RETRY)
        places = asyncio.Semaphore(32)

        async def read(number: int) -> None:
            leaves = number % 5 == 0
            async with places:
                with desk.billing.open(f"q{number}"), contextlib.suppress(GoldlessError):
                    asked = prompt(f"{'slow' if leaves else 'fine'} q{number}")
                    async with contextlib.aclosing(streamed(engine, asked)) as pieces:
                        async for _ in pieces:
                            if leaves:
                                break

        for number in range(600):
            tasks[f"q{number}"] = asyncio.create_task(read(number))
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        await engine.aclose()
    rows = [_row(entry) for entry in desk.entries]
    assert tokens(rows) == server.told()
    untold = [row for row in rows if row["estimated"] or row["input_tokens"] is None]
    assert len(untold) == sum(not attempt.told for attempt in server.attempts)
    assert sum(row["estimated"] for row in rows) > 50
    assert Counter(desk.kinds)["retry"] > 50


async def test_a_bill_is_closed_from_another_task_too(desk: Desk) -> None:
    engine = desk.metered(scripted("small", generate=lambda _: "x"), "small")

    async def pieces() -> AsyncIterator[int]:
        with desk.billing.open("q1"):
            await engine.generate(prompt("a"))
            yield 1

    stream = pieces()
    await asyncio.create_task(anext(stream))  # type: ignore[arg-type]
    assert desk.kinds == []
    await asyncio.create_task(stream.aclose())  # type: ignore[attr-defined]
    assert desk.kinds == ["draft"]


async def test_a_failed_request_leaves_drafts_and_its_bill_is_closed(desk: Desk) -> None:
    engine = desk.metered(scripted("small", generate=lambda _: "x", faults=[ServerError("oh")]), "small")
    with desk.billing.open("q1") as bill, contextlib.suppress(ServerError):
        await engine.generate(prompt("a"))
    assert desk.kinds == ["draft"]
    assert bill.tokens(unknown=7) == 7
    bill.close()
    assert desk.kinds == ["draft"]
