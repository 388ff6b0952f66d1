"""An engine under a meter: every exchange with a model is told, whatever becomes of its answer."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol

from curator.engines.base import Engine, Preview
from curator.engines.context import Setting
from curator.engines.exchanges import Exchange, Listener, Purpose, current_purpose, listener, note, purpose
from curator.engines.pieces import Tally, prompt_tokens, streamed
from curator.engines.wrapper import Request, Result, WrapperEngine
from curator.types import DecideRequest, Delta, GenerateRequest


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
        recorder, tally = self._recorder(request, current_purpose()), Tally()
        pieces = streamed(self.inner, request)
        try:
            while True:
                # Between two pieces the caller's own code runs in this context: it must not be heard.
                try:
                    with recorder.heard():
                        piece = await anext(pieces)
                except StopAsyncIteration:
                    break
                tally.add(piece)
                yield piece
            recorder.streamed(tally, request)
        except BaseException as error:
            recorder.streamed(tally, request, error)
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

    def heard(self) -> Setting[Listener | None]:
        """What is noted in the block comes here."""
        return Setting(listener, self)

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

    def streamed(self, tally: Tally, request: GenerateRequest, error: BaseException | None = None) -> None:
        """The same for a stream: what was seen of it was certainly produced."""
        if self._told():
            return
        usage, estimated = tally.taken(prompt_tokens(request))
        with self.heard():
            if usage.output_tokens or not estimated:
                note(usage, error, estimated=estimated)
            else:
                note(None, error)

    def _told(self) -> bool:
        return self._heard or self.inside
