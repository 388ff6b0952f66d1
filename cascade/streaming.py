"""The way of one prompt through the tiers, with its answer in pieces: a draft is held back until it may be served.

    stream = cascade.route_stream(request)
    async with aclosing(stream.pieces()) as pieces:
        async for piece in pieces:
            ...
    stream.routed       # how it was answered; None if it was not, or not to its end
    stream.attempts     # what was asked, also then: what to bill

A lower tier's draft is held until its rule has decided (`cascade.prefix` says how early that can be); a rejected one
leaves no piece behind, so answers are never mixed. The last tier's pieces are passed on as they come. Where a tier
fails after pieces of its answer were passed on, the failure is raised behind them: they are no answer, and no other
tier's can follow.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Final

from cascade.asking import Generating, refusal
from cascade.policy import Rule
from cascade.prefix import Fate, PrefixGate
from cascade.probing import failed
from cascade.route import Route, Tier
from cascade.routed import Attempt, Judgement, Outcome, Reason, Routed, Served, total
from cascade.signals import parse_signal
from cascade.tracing import NOBODY, decide_span, tell_judgement
from curator.engines.exchanges import error_name
from curator.engines.pieces import Collector, pieces_of, prompt_tokens, streamed
from curator.engines.tries import Try, noted
from curator.errors import GoldlessError, RefusalError
from curator.types import Completion, Delta, GenerateRequest, Usage

EARLY: Final = "its beginning was served before it turned out to be no answer that the rule serves"


class Reading:
    """One tier's stream while it is read, and what it took if it does not come to its end."""

    def __init__(self, tier: Tier, request: GenerateRequest) -> None:
        self.collector = Collector()
        self.tries: list[Try] = []
        self.failed = False
        self.whole: Completion | None = None
        """The answer, once it has come to its end."""
        self._tier = tier
        self._request = request
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self._began

    async def pieces(self) -> AsyncGenerator[Delta, None]:
        """What the tier says, without usage. Raises: what the engine raises; ServerError where an end is missing."""
        async with aclosing(streamed(self._tier.engine, self._request)) as pieces:
            while (piece := await self._step(pieces)) is not None:
                self.collector.add(piece)
                if piece.text or piece.tool_calls or piece.tokens or piece.logprobs or piece.finish_reason:
                    yield piece if piece.usage is None else replace(piece, usage=None, cost=None)
        self.whole = self.collector.completion(self.seconds)

    async def _step(self, pieces: AsyncGenerator[Delta, None]) -> Delta | None:
        # What is noted is collected by step: between two, the caller's own code runs in this context.
        with noted() as tries:
            try:
                return await anext(pieces, None)
            finally:
                self.tries += tries

    def attempt(self, judgement: Judgement[Completion], error: BaseException | None = None) -> Attempt[Completion]:
        """The attempt where it was given up, or failed with `error`: billed as far as the engine told, else estimated.
        Where nothing came, it is unknown, as for any failure."""
        tally = self.collector.tally
        usage, estimated = tally.taken(prompt_tokens(self._request))
        cost = self._tier.cost(usage, tally.cost)
        if estimated and error is not None and not tally.output:
            usage, estimated = Usage(), False
            cost = failed(error).cost if isinstance(error, GoldlessError) else None
        usage = sum((tried.usage for tried in self.tries), usage + Usage(calls=len(self.tries)))
        money = total([cost, *self._tier.known(self.tries)])
        said = error_name(error)
        return Attempt(self._tier.name, (judgement,), usage, money, self.seconds, said, tuple(self.tries), estimated)


class Hold:
    """The pieces of a draft on which nobody has decided yet."""

    def __init__(self, gate: PrefixGate) -> None:
        self.fate = Fate.WAIT
        self._gate = gate
        self._held: list[Delta] = []

    def add(self, piece: Delta, logprobs: Sequence[float]) -> list[Delta]:
        """The next piece; `logprobs` are those of all so far. Returns what may be passed on now."""
        self._held.append(piece)
        if self.fate is Fate.WAIT:
            self.fate = self._gate.fate(logprobs)
        return self.release() if self.fate is Fate.RELEASE else []

    def release(self) -> list[Delta]:
        """What was held."""
        released, self._held = self._held, []
        return released


@dataclass
class StreamRoute(Route[Completion]):
    """The state of one prompt on its way; `routed` is how it was answered, once its pieces have come to their end."""

    asking: Generating
    routed: Routed[Completion] | None = None
    passing: str = ""
    """The tier whose pieces are passed on before they are an answer."""

    @property
    def attempts(self) -> tuple[Attempt[Completion], ...]:
        """What was asked so far, what failed and what was given up included."""
        return tuple(self._attempts)

    @property
    def served(self) -> Served[Completion] | None:
        """How the answer is served, once that is decided: for a draft that was held to its end before its first piece
        is passed on, else behind the last one."""
        return self._served.get(0)

    async def pieces(self) -> AsyncGenerator[Delta, None]:
        """The pieces of the answer, without usage. Closing the generator stops the tier that is at work.

        Raises: as `Route.run`; also in the middle, what a tier failed with whose pieces were passed on.
        """
        began, last = time.perf_counter(), len(self.tiers) - 1
        if self.cap is not None:
            self.cap.request()
        for number in range(last):
            rule = self.paths[0].rule(number)
            if rule is not None and self._open() and self._can(number):
                async with aclosing(self._draft(number, rule)) as pieces:
                    async for piece in pieces:
                        yield piece
        if self._open():
            async with aclosing(self._last(last)) as pieces:
                async for piece in pieces:
                    yield piece
        self.routed = Routed((self._served[0],), self.attempts, time.perf_counter() - began, self._baseline())

    def _draft(self, number: int, rule: Rule) -> AsyncGenerator[Delta, None]:
        """A lower tier's answer, if it is served; else nothing."""
        gate = PrefixGate(rule, self.asking.request, self._compared(number))
        early = gate.aborts or gate.releases
        return self._held(number, rule, gate) if early else self._at_once(number)

    async def _at_once(self, number: int) -> AsyncGenerator[Delta, None]:
        """A draft on which nothing can be decided before it is whole."""
        await self._try(number, [0])
        for piece in self._whole():
            yield piece

    async def _held(self, number: int, rule: Rule, gate: PrefixGate) -> AsyncGenerator[Delta, None]:
        """A draft that may be released or given up while it is written."""
        reading, hold = Reading(self.tiers[number], self.asking.request), Hold(gate)
        try:
            async with aclosing(reading.pieces()) as pieces:
                async for piece in pieces:
                    for sure in hold.add(piece, reading.collector.logprobs()):
                        self.passing = self.tiers[number].name
                        yield sure
                    if hold.fate is Fate.ABORT:
                        self._give_up(number, reading, rule, gate)
                        return
        except (GoldlessError, GeneratorExit, asyncio.CancelledError) as error:
            self._stopped(number, reading, error, begun=hold.fate is Fate.RELEASE)
        await self._settle(number, reading)
        if self._open() and hold.fate is Fate.RELEASE:
            self._serve_early(number)
        for piece in hold.release() if not self._open() else ():
            yield piece

    async def _last(self, last: int) -> AsyncGenerator[Delta, None]:
        """The last tier's answer as it comes; where it fails before its first piece, the strongest other one."""
        if self.cap is not None and (capped := self.cap.take()) is not None:
            await self._rescue(last, capped, self.cap.serves_draft, capped.message)
            for piece in self._whole():
                yield piece
            return
        before, begun, reading = len(self._attempts), False, Reading(self.tiers[last], self.asking.request)
        self._failure = None
        try:
            try:
                async with aclosing(reading.pieces()) as pieces:
                    async for piece in pieces:
                        begun, self.passing = True, self.tiers[last].name
                        yield piece
            except (GoldlessError, GeneratorExit, asyncio.CancelledError) as error:
                self._stopped(last, reading, error, begun)
            await self._settle(last, reading)
        finally:
            if self.cap is not None:
                self.cap.settle(total(attempt.cost for attempt in self._attempts[before:]))
        await self._close(last)
        for piece in self._whole() if not begun else ():
            yield piece

    async def _settle(self, number: int, reading: Reading) -> None:
        """Judge and note what a tier said to its end, or that it declined; a stream that failed is noted already."""
        if reading.failed:
            return
        reply = refusal(1) if reading.whole is None else self.asking.reply(reading.whole)
        try:
            judged = await self._judge(number, 0, reply.answers[0], Reason.LAST)
        except asyncio.CancelledError as error:
            self._lose(number, reading, error)
            raise
        self._note(number, [0], reply, [judged], reading.seconds, reading.tries)

    def _stopped(self, number: int, reading: Reading, error: BaseException, begun: bool) -> None:
        """Note a stream that failed, or that nobody wants any more. Raises: `error`, unless another tier may answer."""
        if isinstance(error, RefusalError) and not begun:
            return
        self._lose(number, reading, error)
        if begun or not isinstance(error, GoldlessError):
            raise error

    def _lose(self, number: int, reading: Reading, error: BaseException) -> None:
        self._failure = error if isinstance(error, GoldlessError) else None
        judgement: Judgement[Completion] = Judgement(self.asking.names[0], None, Reason.FAILED)
        self._attempts.append(reading.attempt(judgement, error))
        self._answers[number, 0] = judgement
        reading.failed = True

    def _give_up(self, number: int, reading: Reading, rule: Rule, gate: PrefixGate) -> None:
        """Note a draft with the score that it could get at best. Its answer is not known: a rescue would ask again."""
        name, tier = self.asking.names[0], self.tiers[number].name
        most = gate.bounds(reading.collector.logprobs())[1]
        judgement: Judgement[Completion] = Judgement(name, None, Reason.BELOW, {}, most, rule.limit)
        with decide_span() if self.watching else NOBODY as current:
            if current is not None:
                tell_judgement(current, tier, judgement)
        self._attempts.append(reading.attempt(judgement))

    def _serve_early(self, number: int) -> None:
        """An answer of which pieces are out already is the answer, but no certificate covers it."""
        declined = self._answers[number, 0].answer is None
        self._serve(number, 0, Outcome.REFUSED if declined else Outcome.ACCEPTED, EARLY)
        self._served[0] = replace(self._served[0], certified=False)

    def _compared(self, number: int) -> bool:
        """Whether the next tier's rule looks at this one's answer."""
        rule = self.paths[0].rule(number + 1)
        return rule is not None and any(parse_signal(name).needs == "tier" for name in rule.scorer.signals)

    def _whole(self) -> Iterator[Delta]:
        """The pieces of the answer that is served, if there is one."""
        answer = self._served[0].answer if self._served else None
        pieces = pieces_of(answer) if answer is not None else iter(())
        return takewhile(lambda piece: piece.usage is None, pieces)
