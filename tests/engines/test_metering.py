from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import pytest

from benchmarks.mock_server import Faults, MockServer
from benchmarks.mock_stream import HANG, StreamServer, chunk, chunks
from curator.engines.exchanges import ABORTED, Exchange, Purpose, current_purpose, listener, note, purpose
from curator.engines.http import HTTPEngine
from curator.engines.metering import MeteredEngine
from curator.engines.retry import RetryEngine, RetryPolicy
from curator.engines.scripted import ScriptedEngine
from curator.errors import BudgetExceededError, InvalidOutputError, RateLimitError, ServerError
from curator.types import (
    Completion,
    DecideRequest,
    Delta,
    GenerateRequest,
    Message,
    Option,
    Question,
    Sample,
    Sampling,
    Usage,
)

pytestmark = pytest.mark.anyio

CHAT = GenerateRequest((Message("user", "How many films are there?"),), Sampling(max_tokens=8))
ASK = DecideRequest("a great film", (Question("mood", "choice", "Mood?", (Option("positive"), Option("negative"))),))


class Tabs:
    """A meter that keeps what it is told."""

    def __init__(self, full: bool = False) -> None:
        self.exchanges: list[Exchange] = []
        self.opened: list[Purpose] = []
        self.closed = 0
        self.full = full

    def open(self, request: DecideRequest | GenerateRequest, why: Purpose) -> Tabs:
        if self.full:
            raise BudgetExceededError("nothing is left")
        self.opened.append(why)
        return self

    def add(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)

    def close(self) -> None:
        self.closed += 1


class Streaming(ScriptedEngine):
    """Streams `pieces`, then raises `error`."""

    def __init__(self, pieces: list[Delta], error: Exception | None = None) -> None:
        super().__init__(generate="never")
        self.pieces, self.error, self.stopped = pieces, error, False

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        try:
            for piece in self.pieces:
                yield piece
            if self.error is not None:
                raise self.error
        finally:
            self.stopped = True


PIECES = [Delta(text="one"), Delta(text=" two", logprobs=(-0.1, -0.2)), Delta(finish_reason="stop", usage=Usage(5, 3))]


async def test_an_engine_in_process_is_one_exchange_per_call() -> None:
    tabs = Tabs()
    engine = MeteredEngine(ScriptedEngine(generate=["one two", "three"]), tabs)
    await engine.generate(CHAT)
    with purpose("audit"):
        await engine.generate(CHAT)
    assert tabs.exchanges == [Exchange("request", Usage(5, 2)), Exchange("audit", Usage(5, 1))]
    assert tabs.closed == 2


async def test_usage_that_nobody_counts_is_unknown_and_never_zero() -> None:
    tabs = Tabs()
    await MeteredEngine(ScriptedEngine(generate=lambda _: Completion((Sample("x"),))), tabs).generate(CHAT)
    assert [exchange.usage for exchange in tabs.exchanges] == [None]


@pytest.mark.parametrize(("error", "usage"), [(RateLimitError("slow down"), Usage()), (ServerError("oh"), None)])
async def test_a_failure_is_free_only_where_the_prompt_was_not_read(error: Exception, usage: Usage | None) -> None:
    tabs = Tabs()
    with pytest.raises(type(error)):
        await MeteredEngine(ScriptedEngine(generate="x", faults=[error]), tabs).generate(CHAT)
    assert tabs.exchanges == [Exchange("request", usage, error=type(error).__name__)]


async def test_tries_after_a_failure_are_retries_unless_they_are_audits() -> None:
    fault = ServerError("oh")
    tabs = Tabs()
    metered = MeteredEngine(ScriptedEngine(generate=["a", "b"], faults=[fault, fault, None, fault, None]), tabs)
    engine = RetryEngine(metered, RetryPolicy(base=0.0))
    await engine.generate(CHAT)
    with purpose("audit"):
        await engine.generate(CHAT)
    assert [exchange.purpose for exchange in tabs.exchanges] == ["request", "retry", "retry", "audit", "audit"]


async def test_a_meter_may_keep_a_call_from_being_made() -> None:
    inner = ScriptedEngine(generate="x")
    with pytest.raises(BudgetExceededError):
        await MeteredEngine(inner, Tabs(full=True)).generate(CHAT)
    assert not inner.requests


async def test_an_engine_of_metered_engines_is_not_counted_twice() -> None:
    inner, outer = Tabs(), Tabs()
    engine = MeteredEngine(RetryEngine(MeteredEngine(ScriptedEngine(generate=["one"]), inner)), outer)
    await engine.generate(CHAT)
    assert len(inner.exchanges) == 1
    assert outer.exchanges == []


async def test_every_exchange_of_a_server_is_told_also_of_answers_that_nobody_can_use() -> None:
    """The probe of its dialect, an answer without choices that has a usage, and the answer."""
    tabs = Tabs()
    async with MockServer() as server:
        engine = MeteredEngine(HTTPEngine(server.url, "mock"), tabs)
        answered = await engine.decide(ASK)
        server.replies = {
            "/v1/chat/completions": {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}
        }
        with pytest.raises(InvalidOutputError):
            await engine.generate(CHAT)
        await engine.aclose()
    *probes, answer, broken = tabs.exchanges
    assert {probe.purpose for probe in probes} == {"probe"}
    assert (answer.purpose, broken.purpose) == ("request", "request")
    assert broken == Exchange("request", Usage(7, 2))
    told = [exchange.usage for exchange in tabs.exchanges[:-1] if exchange.usage]
    assert sum((usage.input_tokens for usage in told), 0) == answered.usage.input_tokens


@pytest.mark.parametrize("usage", [None, "many", {}, *({"prompt_tokens": count} for count in ("7", -7, 1 << 60, [1]))])
async def test_a_usage_that_is_none_is_unknown(usage: object) -> None:
    tabs = Tabs()
    reply = {"choices": [{"message": {"content": "x"}}]} | ({} if usage is None else {"usage": usage})
    async with MockServer(replies={"/v1/chat/completions": reply}) as server:
        engine = MeteredEngine(HTTPEngine(server.url, "mock"), tabs)
        with contextlib.suppress(InvalidOutputError):
            await engine.generate(CHAT)
        await engine.aclose()
    assert [exchange.usage for exchange in tabs.exchanges] == [None]


@pytest.mark.parametrize(
    ("fault", "usage", "error"),
    [
        ("rate_limit", Usage(), "RateLimitError"),
        ("server_error", None, "ServerError"),
        ("half", None, "ServerError"),
        ("invalid_json", None, "ServerError"),
    ],
)
async def test_a_failed_exchange_is_told_once(fault: str, usage: Usage | None, error: str) -> None:
    tabs = Tabs()
    async with MockServer(faults=Faults(script=[fault])) as server:
        engine = MeteredEngine(HTTPEngine(server.url, "mock"), tabs)
        with pytest.raises((RateLimitError, ServerError)):
            await engine.generate(CHAT)
        await engine.aclose()
    assert tabs.exchanges == [Exchange("request", usage, error=error)]


async def test_a_call_that_is_cancelled_may_have_been_billed() -> None:
    tabs = Tabs()
    async with MockServer(faults=Faults(script=["hang"])) as server:
        engine = MeteredEngine(HTTPEngine(server.url, "mock"), tabs)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await engine.generate(CHAT)
        await engine.aclose()
    assert tabs.exchanges == [Exchange("request", None, error="CancelledError")]
    assert tabs.closed == 1


async def test_a_stream_has_the_usage_of_its_last_piece() -> None:
    tabs, inner = Tabs(), Streaming(PIECES)
    assert [piece async for piece in MeteredEngine(inner, tabs).stream(CHAT)] == PIECES
    assert tabs.exchanges == [Exchange("request", Usage(5, 3))]
    assert inner.stopped


async def test_a_stream_that_is_closed_is_estimated_from_what_was_seen() -> None:
    tabs, inner = Tabs(), Streaming(PIECES)
    stream = MeteredEngine(inner, tabs).stream(CHAT)
    await anext(stream)
    await anext(stream)
    assert listener.get() is None
    await stream.aclose()
    assert tabs.exchanges == [Exchange("request", Usage(6, 3), error="CancelledError", estimated=True)]
    assert inner.stopped
    assert tabs.closed == 1


async def test_a_stream_that_breaks_before_its_first_piece_is_unknown() -> None:
    for pieces, estimated in ((PIECES[:1], True), ([], False)):
        tabs = Tabs()
        with pytest.raises(ServerError):
            async for _ in MeteredEngine(Streaming(pieces, ServerError("gone")), tabs).stream(CHAT):
                pass
        (exchange,) = tabs.exchanges
        assert (exchange.error, exchange.estimated) == ("ServerError", estimated)
        assert exchange.usage == (Usage(6, 1) if estimated else None)


async def test_a_stream_over_http_is_one_exchange_also_where_it_is_closed() -> None:
    tabs = Tabs()
    told = {"prompt_tokens": 9, "completion_tokens": 1}
    async with StreamServer(
        lambda body: chunks("a", "b") if len(tabs.opened) == 1 else [chunk("a", usage=told), HANG]
    ) as server:
        engine = MeteredEngine(HTTPEngine(server.url, "mock"), tabs)
        assert [piece.text async for piece in engine.stream(CHAT)] == ["a", "b", "", ""]
        pieces = engine.stream(CHAT)
        await anext(pieces)
        await pieces.aclose()
        await engine.aclose()
    assert tabs.exchanges == [Exchange("request", Usage(7, 3)), Exchange("request", Usage(9, 1), error=ABORTED)]


async def test_the_question_whose_neighbour_failed_is_billed() -> None:
    questions = tuple(Question(name, "choice", name, ASK.questions[0].options) for name in ("one", "two"))
    tabs = Tabs()
    async with MockServer() as server:
        engine = MeteredEngine(HTTPEngine(server.url, "mock", dialect="structured"), tabs)
        await engine.decide(ASK)
        server.faults = Faults(script=[""] * (sum(server.counts.values()) + 1) + ["rate_limit"])
        tabs.exchanges.clear()
        with pytest.raises(RateLimitError):
            await engine.decide(DecideRequest("fine", questions))
        await engine.aclose()
    answered, failed = tabs.exchanges
    assert answered.usage is not None
    assert answered.usage.input_tokens > 0
    assert failed == Exchange("request", Usage(), error="RateLimitError")


def test_all_that_an_audit_takes_is_audit() -> None:
    with purpose("audit"), purpose("probe"), purpose("hedge"), purpose("retry"):
        assert current_purpose() == "audit"
    with purpose("probe"), purpose("hedge"), purpose("retry"):
        assert current_purpose() == "hedge"
    assert current_purpose() == "request"


def test_what_nobody_listens_to_is_not_noted() -> None:
    note(Usage(1, 1))
    assert listener.get() is None
