"""An engine under a meter: every exchange with a model is told, whatever becomes of its answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from curator.engines.base import Engine, Preview, StreamingEngine
from curator.engines.exchanges import Exchange, Purpose, current_purpose, listener, note, purpose
from curator.engines.wrapper import Request, Result, WrapperEngine
from curator.types import Completion, DecideRequest, Delta, GenerateRequest, Usage


class Tab(Protocol):
    """What one call of an engine runs up."""

    def add(self, exchange: Exchange) -> None:
        """One exchange has ended; also after `close`, where something went on in the background."""
        ...

    def close(self) -> None:
        """The call has ended. Called once."""
        ...


class Meter(Protocol):
    """Who is told what an engine takes."""

    def open(self, request: DecideRequest | GenerateRequest, purpose: Purpose) -> Tab:
        """A call begins. Raises: what shall keep it from being made (BudgetExceededError)."""
        ...


class MeteredEngine(WrapperEngine):
    """Tells `meter` of every exchange with `inner`.

    An engine that notes no exchanges (a model in this process, a script) is one exchange per call, with the usage of
    its answer. Around an engine that is itself made of metered ones nothing is told, so that nothing counts twice.
    """

    def __init__(self, inner: Engine, meter: Meter) -> None:
        super().__init__(inner)
        self.meter = meter

    async def around(self, call: Callable[[Request], Awaitable[Result]], request: Request) -> Result:
        recorder = self._recorder(request, current_purpose())
        try:
            with recorder.heard():
                result = await call(request)
                recorder.answered(result)
            return result
        except BaseException as error:
            recorder.failed(error)
            raise
        finally:
            recorder.tab.close()

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Delta, None]:
        """The inner engine's pieces. Raises: as its `stream`."""
        if not isinstance(self.inner, StreamingEngine):
            for piece in _pieces(await self.generate(request)):
                yield piece
            return
        recorder, seen = self._recorder(request, current_purpose()), _Seen(request)
        pieces = self.inner.stream(request)
        try:
            while True:
                # Between two pieces the caller's own code runs in this context: it must not be heard.
                try:
                    with recorder.heard():
                        piece = await anext(pieces)
                except StopAsyncIteration:
                    break
                seen.add(piece)
                yield piece
            recorder.streamed(seen)
        except BaseException as error:
            recorder.streamed(seen, error)
            raise
        finally:
            with recorder.heard():
                await pieces.aclose()
            recorder.tab.close()

    async def preview(self, request: DecideRequest) -> tuple[Preview, ...]:
        """What the inner engine would send; what it must ask the server for that is metered too."""
        recorder = self._recorder(request, "probe")
        try:
            with recorder.heard(), purpose("probe"):
                return await self.inner.preview(request)
        finally:
            recorder.tab.close()

    def _recorder(self, request: DecideRequest | GenerateRequest, why: Purpose) -> _Recorder:
        if isinstance(outer := listener.get(), _Recorder):
            outer.inside = True
        return _Recorder(self.meter.open(request, why))


class _Recorder:
    """One call's exchanges on their way to its tab. `inside` says that a metered engine is at work below this one."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.inside = False
        self._heard = False

    @contextmanager
    def heard(self) -> Iterator[None]:
        """What is noted in the block comes here."""
        token = listener.set(self)
        try:
            yield
        finally:
            listener.reset(token)

    def add(self, exchange: Exchange) -> None:
        self._heard = True
        self.tab.add(exchange)

    def answered(self, result: Result) -> None:
        """The call's own usage, which counts where no exchange was heard."""
        if not self._told():
            usage = result.usage
            known = usage if usage.input_tokens + usage.output_tokens else None
            self.add(Exchange(current_purpose(), known, result.cost))

    def failed(self, error: BaseException) -> None:
        """The same for a call that failed."""
        if not self._told():
            with self.heard():
                note(None, error)

    def streamed(self, seen: _Seen, error: BaseException | None = None) -> None:
        """The same for a stream: what was seen of it was certainly produced."""
        if not self._told():
            with self.heard():
                guess = None if seen.usage else seen.estimate()
                note(seen.usage or guess, error, estimated=guess is not None)

    def _told(self) -> bool:
        return self._heard or self.inside


class _Seen:
    """What has come of a stream."""

    def __init__(self, request: GenerateRequest) -> None:
        self._input = sum(len(message.content.encode("utf-8", "replace")) for message in request.messages) // 4
        self._output = 0
        self.usage: Usage | None = None

    def add(self, piece: Delta) -> None:
        # A piece is a token, or tells the tokens that it is made of.
        self._output += max(len(piece.logprobs), len(piece.tokens), bool(piece.text or piece.tool_calls))
        self.usage = piece.usage or self.usage

    def estimate(self) -> Usage | None:
        """Tokens, at four bytes each in the prompt; None where nothing has come."""
        return Usage(self._input, self._output) if self._output else None


def _pieces(found: Completion) -> list[Delta]:
    """An answer that came at once, as a stream."""
    last = len(found.samples) - 1
    return [
        Delta(
            number,
            sample.text,
            tool_calls=sample.tool_calls,
            tokens=sample.tokens,
            finish_reason=sample.finish_reason,
            usage=found.usage if number == last else None,
        )
        for number, sample in enumerate(found.samples)
    ]
