"""Micro-batches: requests in flight that one model runs together, in one worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from curator.errors import EngineError, GoldlessError

Item = TypeVar("Item")
Answer = TypeVar("Answer")
T = TypeVar("T")


class Worker:
    """The one thread that a model runs in. `name` is the engine's, for messages."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._threads = ThreadPoolExecutor(1, thread_name_prefix=f"goldless-{name.partition(':')[0]}")

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in the thread.

        Raises: EngineError for whatever torch and transformers raise (out of memory, kernels, shapes).
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except GoldlessError:
            raise
        except Exception as error:
            raise EngineError(f"{self._name} failed: {type(error).__name__}: {error}") from error

    async def aclose(self) -> None:
        """Wait for what runs. Calling twice is fine."""
        await asyncio.to_thread(self._threads.shutdown)


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Item, Answer]):
    item: Item
    answer: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher(Generic[Item, Answer]):
    """Collects what is asked while the model runs, and hands it over in micro-batches.

    `choose` names the places of the items to run together with the first, which waits longest; `work`, run in the
    worker's thread, answers a batch in order. Answers leave as soon as their batch is done.
    """

    def __init__(
        self,
        worker: Worker,
        choose: Callable[[Sequence[Item]], Sequence[int]],
        work: Callable[[Sequence[Item]], Sequence[Answer]],
    ) -> None:
        self._worker = worker
        self._choose = choose
        self._work = work
        self._waiting: list[_Waiting[Item, Answer]] = []
        self._pump: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Answer:
        """The answer to one item.

        Raises: what `work` raised for its batch, foreign errors as EngineError.
        """
        waiting: _Waiting[Item, Answer] = _Waiting(item)
        self._waiting.append(waiting)
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._run())
        return await waiting.answer

    def cancel(self) -> None:
        """Fail what is in flight."""
        if self._pump is not None:
            self._pump.cancel()
        for waiting in self._waiting:
            waiting.answer.cancel()
        self._waiting.clear()

    async def _run(self) -> None:
        """Run micro-batches until nobody waits."""
        while batch := self._take():
            try:
                answers = await self._worker.run(partial(self._work, [waiting.item for waiting in batch]))
            except Exception as error:
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)
                continue
            for waiting, answer in zip(batch, answers, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)

    def _take(self) -> list[_Waiting[Item, Answer]]:
        self._waiting = [waiting for waiting in self._waiting if not waiting.answer.done()]
        if not self._waiting:
            return []
        chosen = set(self._choose([waiting.item for waiting in self._waiting]))
        batch = [waiting for place, waiting in enumerate(self._waiting) if place in chosen]
        self._waiting = [waiting for place, waiting in enumerate(self._waiting) if place not in chosen]
        return batch
