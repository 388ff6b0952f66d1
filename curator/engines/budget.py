"""Caps on calls, tokens and money: reserved before a request is sent, settled after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from curator.engines.base import Engine, render_messages
from curator.engines.exchanges import BILLED
from curator.engines.pieces import Tally, prompt_bytes, streamed
from curator.engines.wire import Memo
from curator.engines.wrapper import Request, Result, WrapperEngine
from curator.errors import BudgetExceededError, ConfigError
from curator.types import Completion, DecideRequest, Decisions, Delta, GenerateRequest, Price, Usage

CHAT_TOKENS: Final = 64
"""Allowance per call for what a chat template adds to the text."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Caps; None is no cap. `money` is in the currency of `price`, or of the engines' own prices."""

    calls: int | None = None
    tokens: int | None = None
    money: float | None = None
    price: Price | None = None


@dataclass(frozen=True, slots=True)
class Spent:
    """Calls, tokens (input and output) and money."""

    calls: int = 0
    tokens: int = 0
    money: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.calls + other.calls, self.tokens + other.tokens, self.money + other.money)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.calls - other.calls, self.tokens - other.tokens, self.money - other.money)


class Account:
    """A budget being spent, by any number of engines and requests at once.

    `spent` is settled; `reserved` is what requests in flight may still take. A request that would pass
    a cap only if everything in flight took its worst waits until that is known.
    """

    def __init__(self, budget: Budget) -> None:
        for name in ("calls", "tokens", "money"):
            if (cap := getattr(budget, name)) is not None and cap < 0:
                raise ConfigError(f"the cap on {name} is negative: {cap}")
        self.budget = budget
        self.spent = Spent()
        self.reserved = Spent()
        self._waiting: list[asyncio.Future[None]] = []

    async def reserve(self, need: Spent) -> None:
        """Set `need` aside. Raises: BudgetExceededError if that cannot be had any more."""
        while True:
            if over := self._over(self.spent + need):
                raise self._exceeded(over, need)
            if not self._over(self.spent + self.reserved + need):
                self.reserved += need
                return
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn

    def settle(self, need: Spent, actual: Spent) -> None:
        """Give `need` back and book `actual`."""
        self.reserved -= need
        self.spent += actual
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    def _over(self, sum_: Spent) -> str:
        """The first cap that `sum_` passes, or nothing."""
        budget = self.budget
        if budget.calls is not None and sum_.calls > budget.calls:
            return "calls"
        if budget.tokens is not None and sum_.tokens > budget.tokens:
            return "tokens"
        if budget.money is not None and sum_.money > budget.money * (1 + 1e-12):
            return "money"
        return ""

    def _exceeded(self, name: str, need: Spent) -> BudgetExceededError:
        cap, used, wanted = (getattr(part, name) for part in (self.budget, self.spent, need))
        return BudgetExceededError(
            f"the cap of {cap:g} on {name} is reached: {used:g} used, the next request may take {wanted:g}",
            hint=f"raise the budget's {name}; what is done is kept, and a second run goes on from there",
        )


class BudgetEngine(WrapperEngine):
    """Refuses the request that would pass a cap, before it is sent.

    The estimate is an upper bound, so that a cap holds: a byte-level tokenizer makes at most one token
    per byte, and `CHAT_TOKENS` are allowed for the chat template of each call. It is only held while a
    request is in flight; what is booked is the usage that the server reports, or the estimate where it
    reports none, or the estimated input where the request failed after it may have been read. `price` is this
    engine's, where engines of several prices share an account. Raises: ConfigError for a cap on money without one.
    """

    def __init__(self, inner: Engine, budget: Budget | Account, price: Price | None = None) -> None:
        super().__init__(inner)
        self.account = budget if isinstance(budget, Account) else Account(budget)
        self.price = price or self.account.budget.price
        if self.account.budget.money is not None and self.price is None:
            raise ConfigError("a cap on money needs a price", hint="pass price=Price(input, output) per million tokens")

    async def around(self, call: Callable[[Request], Awaitable[Result]], request: Request) -> Result:
        calls, input_tokens, output_tokens = self.estimate(request)
        need = self._spent(Usage(input_tokens, output_tokens, calls=calls))
        await self.account.reserve(need)
        actual = Spent(calls=1)
        try:
            result = await call(request)
            actual = self._booked(result, input_tokens, need)
        except BILLED:
            actual = self._spent(Usage(input_tokens))
            raise
        finally:
            self.account.settle(need, actual)
        return result

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """The reservation is held until the stream ends. One that breaks or is closed is booked as far as its pieces
        tell, else with the estimated input and the tokens that came."""
        calls, input_tokens, output_tokens = self.estimate(request)
        need = self._spent(Usage(input_tokens, output_tokens, calls=calls))
        await self.account.reserve(need)
        actual, tally = Spent(calls=1), Tally()
        try:
            async with aclosing(streamed(self.inner, request)) as pieces:
                async for piece in pieces:
                    tally.add(piece)
                    yield piece
            actual = self._booked(Completion((), tally.usage or Usage(), tally.cost), input_tokens, need)
        except (*BILLED, GeneratorExit):
            actual = self._spent(tally.taken(input_tokens)[0])
            raise
        finally:
            self.account.settle(need, actual)

    def estimate(self, request: DecideRequest | GenerateRequest) -> tuple[int, int, int]:
        """Upper bounds: calls, input tokens, output tokens."""
        bound = upper_bound(request)
        return bound.calls, bound.input_tokens, bound.output_tokens

    def _booked(self, result: Decisions | Completion, input_tokens: int, need: Spent) -> Spent:
        usage = result.usage
        if not usage.input_tokens and not usage.output_tokens:
            return Spent(usage.calls, need.tokens, need.money)
        actual = self._spent(usage)
        return actual if result.cost is None else Spent(actual.calls, actual.tokens, result.cost)

    def _spent(self, usage: Usage) -> Spent:
        tokens = usage.input_tokens + usage.output_tokens
        return Spent(usage.calls, tokens, self.price.cost(usage) if self.price else 0.0)


def upper_bound(request: DecideRequest | GenerateRequest) -> Usage:
    """The most that a request can take: a byte-level tokenizer makes at most one token per byte."""
    if isinstance(request, DecideRequest):
        questions = len(request.questions)
        constant, output = _constant(request)
        return Usage(constant + questions * len(request.state.encode()), output, calls=questions)
    return Usage(prompt_bytes(request) + CHAT_TOKENS, request.n * request.sampling.max_tokens)


def _around_state(request: DecideRequest) -> tuple[int, int]:
    """Bytes that all questions together put around the state, and the most tokens of their answers."""
    blank = DecideRequest("", request.questions, request.template, request.demonstrations)
    constant = output = 0
    for question in request.questions:
        messages = render_messages(blank, question)
        constant += CHAT_TOKENS + sum(len(message.content.encode()) for message in messages)
        output += 24 + 2 * max(len(label.encode()) for label in question.labels)
    return constant, output


_constant: Final = Memo(_around_state)
