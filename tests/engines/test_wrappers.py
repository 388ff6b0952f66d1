"""Retry, concurrency, budget, price and tracing around an engine."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from stream_reader import read

from benchmarks.mock_server import Faults, MockServer
from benchmarks.mock_stream import HANG, StreamServer, chunk
from curator.engines.base import EngineIdentity, StreamingEngine
from curator.engines.http import HTTPEngine
from curator.engines.scripted import ScriptedEngine, Streamed
from curator.engines.wrappers import (
    Account,
    Budget,
    BudgetEngine,
    ConcurrencyEngine,
    PricedEngine,
    RetryEngine,
    RetryPolicy,
    Spent,
    TracingEngine,
    WrapperEngine,
    wrap,
)
from curator.errors import (
    AuthenticationError,
    BudgetExceededError,
    ConfigError,
    EngineTimeoutError,
    RateLimitError,
    ServerError,
)
from curator.types import (
    Completion,
    DecideRequest,
    Decisions,
    Delta,
    GenerateRequest,
    Message,
    Option,
    Price,
    Question,
    Sample,
    Sampling,
    Usage,
)

pytestmark = pytest.mark.anyio

MOOD = Question("mood", "choice", "Mood?", (Option("good"), Option("bad")))
ROW = DecideRequest("a fine day", (MOOD,))
FAST = RetryPolicy(base=0.0, cap=0.0)


def scripted(**settings):
    return ScriptedEngine(decide=lambda request: "good", generate=lambda request: "fine", **settings)


# Retry


async def test_retry_repeats_what_may_pass_and_counts_the_failed_attempts():
    inner = scripted(faults=[RateLimitError("slow"), ServerError("500"), EngineTimeoutError("late")])
    result = await RetryEngine(inner, FAST).decide(ROW)
    assert len(inner.requests) == 4
    assert result.usage.calls == 1 + 3


async def test_retry_leaves_alone_what_will_not_pass():
    inner = scripted(faults=[AuthenticationError("no")])
    with pytest.raises(AuthenticationError):
        await RetryEngine(inner, FAST).decide(ROW)
    assert len(inner.requests) == 1


async def test_retry_gives_up_after_its_attempts_with_the_last_error():
    inner = scripted(faults=[ServerError("first"), ServerError("second"), ServerError("third")])
    with pytest.raises(ServerError, match="second"):
        await RetryEngine(inner, RetryPolicy(attempts=2, base=0.0)).decide(ROW)


async def test_retry_does_not_wait_longer_than_its_time():
    inner = scripted(faults=[RateLimitError("slow", retry_after=3600)])
    with pytest.raises(RateLimitError):
        await RetryEngine(inner, RetryPolicy(total=60)).decide(ROW)
    assert len(inner.requests) == 1


def test_backoff_is_jittered_bounded_and_honours_the_server():
    policy = RetryPolicy(base=1.0, cap=8.0)
    for failures, most in [(1, 1), (2, 2), (3, 4), (4, 8), (9, 8)]:
        delays = [policy.delay(failures, None) for _ in range(200)]
        assert 0 <= min(delays) < most / 4
        assert most * 3 / 4 < max(delays) <= most
    assert all(5 <= policy.delay(1, 5.0) <= 6 for _ in range(50))
    with pytest.raises(ConfigError):
        RetryPolicy(attempts=0)


# Concurrency


class Gate(WrapperEngine):
    """An engine that answers when told to, and notes how many it holds."""

    def __init__(self, capacity=10**6):
        super().__init__(scripted())
        self.capacity = capacity
        self.busy = self.most = self.rejected = 0

    async def around(self, call, request):
        self.busy += 1
        self.most = max(self.most, self.busy)
        try:
            over = self.busy > self.capacity
            await asyncio.sleep(0)
            if over:
                self.rejected += 1
                raise RateLimitError("slow down")
            return await call(request)
        finally:
            self.busy -= 1


async def test_concurrency_starts_low_doubles_and_stops_at_the_limit():
    inner = Gate()
    engine = ConcurrencyEngine(inner, start=2, limit=8)
    first = asyncio.gather(*(engine.decide(ROW) for _ in range(2)))
    await first
    assert engine.width == 4
    await asyncio.gather(*(engine.decide(ROW) for _ in range(200)))
    assert engine.width == 8
    assert inner.most == 8
    assert engine.concurrency == 8


async def test_concurrency_settles_near_what_the_server_takes():
    inner = Gate(capacity=10)
    engine = RetryEngine(ConcurrencyEngine(inner, start=64, limit=64), RetryPolicy(attempts=1000, base=0.0, cap=0.0))
    await asyncio.gather(*(engine.decide(ROW) for _ in range(3000)))
    assert 8 <= engine.inner.width <= 16
    assert inner.rejected < 1000


async def test_a_stray_rejection_does_not_collapse_concurrency():
    faults = {i: RateLimitError("stray") for i in range(0, 20_000, 50)}
    engine = ConcurrencyEngine(scripted(faults=faults), start=64, limit=64)
    await asyncio.gather(*(engine.decide(ROW) for _ in range(5000)), return_exceptions=True)
    assert engine.width > 48


async def test_an_overloaded_server_halves_concurrency_down_to_one():
    engine = ConcurrencyEngine(scripted(faults={i: EngineTimeoutError("late") for i in range(1000)}), start=16)
    await asyncio.gather(*(engine.decide(ROW) for _ in range(200)), return_exceptions=True)
    assert engine.width == 1


async def test_cancelled_waiters_give_their_turn_on():
    engine = ConcurrencyEngine(scripted(latency=0.01), start=1, limit=1)
    tasks = [asyncio.ensure_future(engine.decide(ROW)) for _ in range(6)]
    await asyncio.sleep(0)
    for task in tasks[1:4]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(r, Decisions) for r in results] == [True, False, False, False, True, True]
    assert await engine.decide(ROW)


# Budget


@pytest.mark.parametrize("calls", [0, 1, 7])
async def test_a_cap_on_calls_holds_under_concurrency(calls):
    inner = scripted(latency=0.001)
    engine = BudgetEngine(inner, Budget(calls=calls))
    results = await asyncio.gather(*(engine.decide(ROW) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(r, Decisions) for r in results) == calls
    assert all(isinstance(r, Decisions | BudgetExceededError) for r in results)
    assert len(inner.requests) == calls
    assert engine.account.spent.calls == calls
    assert engine.account.reserved == Spent()


async def test_a_cap_on_tokens_is_used_up_but_never_passed():
    inner = ScriptedEngine(generate=lambda request: Completion((Sample("x"),), Usage(70, 10)), latency=0.001)
    engine = BudgetEngine(inner, Budget(tokens=2000))
    request = GenerateRequest((Message("user", "word " * 60),), Sampling(max_tokens=20))
    results = await asyncio.gather(*(engine.generate(request) for _ in range(40)), return_exceptions=True)
    done = sum(isinstance(r, Completion) for r in results)
    need = sum(engine.estimate(request)[1:])
    assert engine.account.spent.tokens == 80 * done <= 2000
    assert engine.account.spent.tokens + need > 2000
    error = next(r for r in results if isinstance(r, BudgetExceededError))
    assert "the cap of 2000 on tokens is reached" in str(error)


async def test_a_cap_on_money_books_the_real_cost():
    price = Price(1e6, 2e6)
    inner = ScriptedEngine(generate=lambda request: Completion((Sample("x"),), Usage(3, 2)))
    engine = wrap(inner, retry=None, budget=Budget(money=1000.0), price=price)
    request = GenerateRequest((Message("user", "hi"),), Sampling(max_tokens=4))
    assert (await engine.generate(request)).cost == 7.0
    account = engine.inner.account
    assert account.spent == Spent(1, 5, 7.0)
    assert account.reserved.money == pytest.approx(0.0)
    account.spent = Spent(1, 5, 999.0)
    with pytest.raises(BudgetExceededError, match="money"):
        await engine.generate(request)


def test_a_cap_on_money_needs_a_price():
    with pytest.raises(ConfigError, match="price"):
        BudgetEngine(scripted(), Budget(money=5.0))
    with pytest.raises(ConfigError, match="price"):
        wrap(scripted(), budget=Budget(money=5.0))
    with pytest.raises(ConfigError, match="negative"):
        Account(Budget(calls=-1))


async def test_failures_are_booked_as_far_as_the_server_may_bill_them():
    inner = scripted(faults=[RateLimitError("slow"), EngineTimeoutError("late")])
    engine = BudgetEngine(inner, Budget(tokens=10**6))
    with pytest.raises(RateLimitError):
        await engine.decide(ROW)
    assert engine.account.spent == Spent(1, 0, 0.0)
    with pytest.raises(EngineTimeoutError):
        await engine.decide(ROW)
    assert engine.account.spent == Spent(2, engine.estimate(ROW)[1], 0.0)
    assert engine.account.reserved == Spent()


async def test_retries_are_paid_from_the_budget():
    inner = scripted(faults=[ServerError("500")] * 10)
    engine = wrap(inner, retry=FAST, budget=Budget(calls=3))
    with pytest.raises(BudgetExceededError):
        await engine.decide(ROW)
    assert len(inner.requests) == 3


async def test_usage_that_no_server_reports_is_booked_as_estimated():
    inner = ScriptedEngine(decide=lambda request: Decisions((None,), Usage(0, 0)))
    engine = BudgetEngine(inner, Budget(tokens=10**6))
    await engine.decide(ROW)
    assert engine.account.spent.tokens == sum(engine.estimate(ROW)[1:])


def test_the_estimate_counts_every_question_and_the_whole_text():
    two = DecideRequest("日本語", (MOOD, Question("again", "choice", "Again?", MOOD.options)))
    engine = BudgetEngine(scripted(), Budget(calls=1))
    assert engine.estimate(two)[0] == 2
    longer = DecideRequest("日本語日本語", two.questions)
    assert engine.estimate(longer)[1] - engine.estimate(two)[1] == 2 * 9


async def test_one_account_is_shared_by_several_engines():
    account = Account(Budget(calls=3))
    engines = [BudgetEngine(scripted(), account) for _ in range(2)]
    for i in range(3):
        await engines[i % 2].decide(ROW)
    with pytest.raises(BudgetExceededError):
        await engines[1].decide(ROW)


# Price and assembly


async def test_price_fills_in_what_is_unknown_only():
    inner = ScriptedEngine(generate=[Completion((), Usage(1_000_000, 0)), Completion((), Usage(1, 1), cost=0.5)])
    engine = PricedEngine(inner, Price(3.0, 15.0))
    request = GenerateRequest((Message("user", "hi"),))
    assert (await engine.generate(request)).cost == 3.0
    assert (await engine.generate(request)).cost == 0.5


async def test_wrap_assembles_in_the_documented_order():
    inner = scripted()
    engine = wrap(inner, budget=Budget(calls=5), price=Price(1, 1), concurrency=3)
    kinds = []
    while isinstance(engine, WrapperEngine):
        kinds.append(type(engine))
        engine = engine.inner
    assert kinds == [RetryEngine, ConcurrencyEngine, BudgetEngine, TracingEngine, PricedEngine]
    assert engine is inner
    assert type(wrap(inner, retry=None, trace=False)) is ConcurrencyEngine


async def test_wrappers_pass_on_identity_preview_and_closing():
    inner = scripted()
    engine = wrap(inner, concurrency=3)
    assert engine.identity == inner.identity
    assert engine.capabilities == inner.capabilities
    assert engine.concurrency == 3
    assert await engine.preview(ROW) == await inner.preview(ROW)
    assert (await engine.generate(GenerateRequest((Message("user", "hi"),)))).samples[0].text == "fine"
    await engine.aclose()
    assert inner.closed


async def test_all_rows_come_through_a_faulty_server():
    faults = Faults(
        rate_limit=0.05, server_error=0.02, invalid_json=0.02, drop=0.02, half=0.02, retry_after="0", seed=7
    )
    async with MockServer(faults=faults, labels=("good", "bad")) as server:
        engine = wrap(HTTPEngine(server.url, "mock", dialect="chat"), retry=RetryPolicy(base=0.01))
        results = await asyncio.gather(*(engine.decide(DecideRequest(f"row {i}", (MOOD,))) for i in range(300)))
        await engine.aclose()
    failed = sum(count for name, count in server.counts.items() if not name.startswith("/"))
    assert len(results) == 300
    assert failed > 20


# Streams through all of them

CHAT = GenerateRequest((Message("user", "How many?"),), Sampling(max_tokens=10))


def streaming(*replies, **settings):
    return ScriptedEngine(generate=list(replies), **settings)


async def test_a_stream_goes_through_all_wrappers_with_usage_and_cost():
    engine = wrap(streaming("It is 42"), price=Price(1e6, 2e6), budget=Budget(money=200))
    assert isinstance(engine, StreamingEngine)
    found = [piece async for piece in engine.stream(CHAT)]
    assert [piece.text for piece in found] == ["It", " is", " 42", "", ""]
    assert (found[-1].usage, found[-1].cost) == (Usage(2, 3), 8.0)


async def test_an_engine_without_stream_is_wrapped_all_the_same():
    class Plain:
        identity = EngineIdentity("scripted", "plain")
        capabilities, concurrency = frozenset({"generate"}), 1
        generate = staticmethod(streaming("It is 42").generate)

    engine = wrap(Plain())
    assert [piece.text async for piece in engine.stream(CHAT)] == ["It is 42", ""]


async def test_a_stream_is_retried_before_its_first_piece_only():
    inner = streaming("fine", faults=[RateLimitError("slow"), ServerError("500")])
    found = [piece async for piece in RetryEngine(inner, FAST).stream(CHAT)]
    assert found[0].text == "fine"
    assert found[-1].usage.calls == 3
    broken = streaming(Streamed(["half", ServerError("it broke")]), "fine")
    found, error = await read(RetryEngine(broken, FAST).stream(CHAT))
    assert ([piece.text for piece in found], str(error), len(broken.requests)) == (["half"], "it broke", 1)


@pytest.mark.parametrize("how", ["end", "close", "fail", "cancel"])
async def test_a_stream_holds_its_slot_until_it_is_over(how):
    script = Streamed(["a", ServerError("it broke")] if how == "fail" else ["a", "b"])
    inner = ScriptedEngine(generate=lambda request: script)
    engine = ConcurrencyEngine(inner, limit=1)
    first = engine.stream(CHAT)
    await anext(first)
    second = asyncio.create_task(engine.generate(CHAT) if how == "fail" else anext(engine.stream(CHAT)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(inner.requests) == 1
    if how == "close":
        await first.aclose()
    elif how == "cancel":
        with pytest.raises(asyncio.CancelledError):
            await first.athrow(asyncio.CancelledError())
    else:
        await read(first)
    with suppress(ServerError):
        await second
    assert len(inner.requests) == 2


async def test_a_budget_is_held_until_the_stream_ends_and_books_what_it_took():
    account = Account(Budget(tokens=1000))
    pieces = BudgetEngine(streaming("It is 42"), account).stream(CHAT)
    await anext(pieces)
    assert account.reserved.tokens == 9 + 64 + 10
    assert [piece.usage async for piece in pieces][-1] == Usage(2, 3)
    assert (account.reserved, account.spent) == (Spent(), Spent(1, 5))


@pytest.mark.parametrize("how", ["close", "fail"])
async def test_a_stream_that_does_not_end_is_booked_by_what_came(how):
    account = Account(Budget(tokens=1000))
    inner = streaming(Streamed(["a", "b", ServerError("it broke")]))
    pieces = BudgetEngine(inner, account).stream(CHAT)
    await anext(pieces)
    if how == "close":
        await pieces.aclose()
    else:
        assert isinstance((await read(pieces))[1], ServerError)
    assert account.reserved == Spent()
    assert account.spent == Spent(1, 9 + 64 + (1 if how == "close" else 2))
    told = streaming(Streamed([Delta(text="a", usage=Usage(2, 1)), "b"]))
    pieces = BudgetEngine(told, account).stream(CHAT)
    await anext(pieces)
    await pieces.aclose()
    assert account.spent.tokens == 9 + 64 + (1 if how == "close" else 2) + 3


async def test_closing_a_wrapped_stream_closes_the_one_inside():
    async with StreamServer([chunk("a"), HANG]) as server:
        engine = wrap(HTTPEngine(server.url, "mock"), budget=Budget(calls=5), price=Price(1, 1))
        pieces = engine.stream(CHAT)
        assert (await anext(pieces)).text == "a"
        await pieces.aclose()
        await server.until(lambda: server.gone == 1)
        await engine.aclose()
