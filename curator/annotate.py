"""Documents x task x engine -> completions and annotations.

Each request has a key, the hash of what is sent and who answers. A request whose answer is in the
ledger is linked, not sent; equal requests of one run are sent once; an answer is in the ledger
before the next request takes its place. A row that fails becomes a record with an error code; only
what would fail every row (credentials, budget, a dead server) stops the run.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from curator.engines.base import Engine, EngineIdentity
from curator.errors import (
    AuthenticationError,
    BudgetExceededError,
    ContextLengthError,
    EngineError,
    GoldlessError,
    InputError,
    InvalidOutputError,
    MissingExtraError,
    ModelNotFoundError,
    RefusalError,
    RequestRejectedError,
    StoreError,
    WeightsError,
)
from curator.records import AnnotationRecord, CompletionRecord
from curator.requests import PLAIN, Prompting, Work, check_capabilities, fitted_key, shortened
from curator.task import Output, Task
from curator.types import Completion, DecideRequest, Decisions, Document, GenerateRequest, Usage

FATAL = (
    AuthenticationError,
    BudgetExceededError,
    InputError,
    MissingExtraError,
    ModelNotFoundError,
    StoreError,
    WeightsError,
)
_CODES: tuple[tuple[type[EngineError], str], ...] = (
    (ContextLengthError, "context_length"),
    (RefusalError, "refusal"),
    (InvalidOutputError, "invalid_output"),
    (RequestRejectedError, "rejected"),
)
_REMEMBERED = 65_536
_GIVE_UP_AFTER = 64
_SHRINK_TRIES = 8


class Ledger(Protocol):
    """Where answers are kept: a run of the store."""

    def known(self, keys: Sequence[str]) -> Mapping[str, str | None]:
        """Key -> error code or None, for the keys that have been answered."""
        ...

    def append(self, *records: CompletionRecord | AnnotationRecord) -> None:
        """Keep records; they survive a kill of the process from here on."""
        ...


@dataclass(slots=True)
class Progress:
    """Counts of a run, updated as it goes. `cost` is the known money, `unpriced` how many answers
    came without a price; `tiers` how many each tier of a cascade gave, per question."""

    total: int | None = None
    done: int = 0
    sent: int = 0
    reused: int = 0
    failed: int = 0
    truncated: int = 0
    usage: Usage = field(default_factory=lambda: Usage(calls=0))
    cost: float = 0.0
    unpriced: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    tiers: dict[str, int] = field(default_factory=dict)

    def fail(self, code: str) -> None:
        self.failed += 1
        self.errors[code] = self.errors.get(code, 0) + 1

    def spend(self, answer: Decisions | Completion) -> None:
        self.sent += 1
        self.usage = self.usage + answer.usage
        if answer.cost is None:
            self.unpriced += 1
        else:
            self.cost += answer.cost
        for one in answer.answers if isinstance(answer, Decisions) else (answer,):
            if one is not None and one.served_by:
                self.tiers[one.served_by] = self.tiers.get(one.served_by, 0) + 1


async def annotate(
    batches: Iterable[Sequence[Document]],
    task: Task[Output],
    engine: Engine,
    ledger: Ledger,
    *,
    prompting: Prompting = PLAIN,
    progress: Progress | None = None,
) -> Progress:
    """Answer `task` for every document as `prompting` says, `engine.concurrency` requests at a time.

    Raises: GoldlessError where every further row would fail the same way. What was answered until
    then is in the ledger; calling again goes on from there.
    """
    check_capabilities(task, engine)
    return await _Annotator(task, engine, ledger, prompting, progress or Progress()).run(batches)


class _Annotator:
    def __init__(
        self, task: Task[Output], engine: Engine, ledger: Ledger, prompting: Prompting, progress: Progress
    ) -> None:
        self.task = task
        self.engine = engine
        self.ledger = ledger
        self.prompting = prompting
        self.long_text = prompting.long_text
        self.progress = progress
        self.identity: EngineIdentity = engine.identity
        self.annotation_id = prompting.annotation_id(task, engine.identity)
        self.waiting: dict[str, list[Work]] = {}
        # What was answered a moment ago may not be in the database yet, only in its journal.
        self.answered: OrderedDict[str, str | None] = OrderedDict()
        self.failures_in_a_row = 0
        self.fatal: GoldlessError | None = None
        self.last_error: GoldlessError | None = None

    async def run(self, batches: Iterable[Sequence[Document]]) -> Progress:
        queue = self._unanswered(self.prompting.blocks(batches))
        lock = asyncio.Lock()
        workers = [asyncio.create_task(self._worker(queue, lock)) for _ in range(max(1, self.engine.concurrency))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if self.fatal is not None:
            raise self.fatal
        if self.last_error is not None and not self.progress.sent + self.progress.reused:
            # Not one answer came: what stopped them all is the news, not that there are no labels.
            raise self.last_error
        return self.progress

    async def _worker(self, queue: AsyncIterator[Work], lock: asyncio.Lock) -> None:
        # After a fatal error nothing new is sent, but what is on its way has been paid for: it is kept.
        while self.fatal is None:
            async with lock:
                work = await anext(queue, None)
            if work is None:
                return
            try:
                await self._answer(work)
            except GoldlessError as error:
                self.fatal = self.fatal or error

    async def _unanswered(self, batches: Iterable[Sequence[Document]]) -> AsyncIterator[Work]:
        """The work that has to be sent, prepared one batch ahead in a thread."""
        iterator = iter(batches)
        ahead = asyncio.create_task(asyncio.to_thread(self._prepare, iterator))
        try:
            while (prepared := await ahead) is not None:
                ahead = asyncio.create_task(asyncio.to_thread(self._prepare, iterator))
                works, known = prepared
                for work in works:
                    if self._settle_known(work, known):
                        continue
                    yield work
        finally:
            ahead.cancel()

    def _prepare(self, batches: Iterator[Sequence[Document]]) -> tuple[list[Work], dict[str, str | None]] | None:
        documents = next(batches, None)
        if documents is None:
            return None
        works = self.prompting.work(self.task, self.identity, documents)
        known = dict(self.ledger.known([work.key for work in works]))
        long_keys = [fitted_key(key, self.long_text) for key, error in known.items() if error == "context_length"]
        if long_keys and self.long_text != "skip":
            known.update(self.ledger.known(long_keys))
        return works, known

    def _settle_known(self, work: Work, known: Mapping[str, str | None]) -> bool:
        """Link `work` to an answer that exists or is on its way. False if it has to be sent."""
        if work.key in self.waiting:
            self.waiting[work.key].append(work)
            return True
        error = self._recall(work.key, known)
        if error == "context_length" and self.long_text != "skip":
            work.key, work.too_long = fitted_key(work.key, self.long_text), True
            if work.key in self.waiting:
                self.waiting[work.key].append(work)
                return True
            error = self._recall(work.key, known)
        if error == "unanswered":
            self.waiting[work.key] = []
            return False
        self.progress.reused += 1
        self.ledger.append(self._linked(work, error))
        return True

    def _recall(self, key: str, known: Mapping[str, str | None]) -> str | None:
        return self.answered[key] if key in self.answered else known.get(key, "unanswered")

    async def _answer(self, work: Work) -> None:
        try:
            answer = await (self._ask_fitted(work) if work.too_long else self._ask(work.request))
        except ContextLengthError as error:
            if self.long_text == "skip" or work.too_long:
                return self._record(work, None, error)
            # The full text's key says so, so that the next run does not send it again.
            self._record_as_too_long(work)
            return await self._answer(work)
        except FATAL:
            raise
        except GoldlessError as error:
            return self._record(work, None, error)
        return self._record(work, answer, None)

    async def _ask(self, request: DecideRequest | GenerateRequest) -> Decisions | Completion:
        if isinstance(request, DecideRequest):
            return await self.engine.decide(request)
        return await self.engine.generate(request)

    async def _ask_fitted(self, work: Work) -> Decisions | Completion:
        """Shorten the text until it fits. A server that tells its limit takes one or two tries."""
        share = 1.0
        for _ in range(_SHRINK_TRIES):
            try:
                return await self._ask(shortened(work.request, share, self.long_text) if share < 1 else work.request)
            except ContextLengthError as error:
                known = error.limit > 0 and error.needed > error.limit
                share *= 0.95 * error.limit / error.needed if known else 0.5
        raise ContextLengthError(f"{work.document_id}: the prompt does not fit even with a text cut to {share:.1%}")

    def _record_as_too_long(self, work: Work) -> None:
        self._remember(work.key, "context_length")
        self.ledger.append(_completion(work, self.identity, None, "context_length"))
        waiting = self.waiting.pop(work.key)
        work.key, work.too_long = fitted_key(work.key, self.long_text), True
        for other in waiting:
            other.key, other.too_long = work.key, True
        self.waiting[work.key] = waiting

    def _record(self, work: Work, answer: Decisions | Completion | None, error: GoldlessError | None) -> None:
        code = _code(error) if error else None
        self.last_error = error or self.last_error
        if answer is not None:
            self.progress.spend(answer)
        records: list[CompletionRecord | AnnotationRecord] = []
        if error is None or not error.retryable:
            self.failures_in_a_row = 0
            self._remember(work.key, code)
            records.append(_completion(work, self.identity, answer and work.kept(answer), code))
        else:
            self.failures_in_a_row += 1
        records += [self._linked(linked, code) for linked in (work, *self.waiting.pop(work.key, []))]
        self.ledger.append(*records)
        if error is not None and self.failures_in_a_row >= _GIVE_UP_AFTER:
            # Nothing has come back for so long that the next million rows would fail too.
            raise error

    def _remember(self, key: str, error: str | None) -> None:
        self.answered[key] = error
        if len(self.answered) > _REMEMBERED:
            self.answered.popitem(last=False)

    def _linked(self, work: Work, error: str | None) -> AnnotationRecord:
        """The record that links a document to its answer, counted."""
        self.progress.done += 1
        if error:
            self.progress.fail(error)
        self.progress.truncated += work.too_long and not error
        return work.annotation(self.annotation_id, self.prompting.round, error, work.too_long)


def _completion(
    work: Work, identity: EngineIdentity, answer: Decisions | Completion | None, error: str | None
) -> CompletionRecord:
    kind: Literal["decide", "generate"] = "decide" if isinstance(work.request, DecideRequest) else "generate"
    return CompletionRecord(work.key, identity, kind, answer, error)


def _code(error: GoldlessError) -> str:
    if error.retryable:
        return "unavailable"
    return next((code for kind, code in _CODES if isinstance(error, kind)), "failed")
