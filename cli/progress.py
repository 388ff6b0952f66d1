"""A run as it goes: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cli.output import Output, amount, duration

if TYPE_CHECKING:
    from rich.console import RenderableType

    from curator.annotate import Progress

EVERY = 10.0
"""Seconds between plain lines."""
BAR_EVERY = 0.25
"""Seconds between redraws of the bar."""


class Shown(Protocol):
    """What is shown of a run: how much is done, of how much (None while that is not known), and all in one line."""

    @property
    def done(self) -> int: ...

    @property
    def total(self) -> int | None: ...

    def line(self) -> str: ...


@dataclass
class Pace:
    """What can be said about a run's speed and cost from its counts so far.

    Answers that were reused cost no time, so speed and projections rest on the others. A row takes
    `per_row` requests, which is what `progress` counts.
    """

    progress: Progress
    currency: str = ""
    per_row: int = 1
    clock: Callable[[], float] = time.monotonic
    _first: tuple[float, int] | None = field(init=False, default=None)
    _last: tuple[float, int] = field(init=False, default=(0.0, 0))

    @property
    def done(self) -> int:
        """Requests that are answered."""
        return self.progress.done

    @property
    def total(self) -> int | None:
        """Requests in all; None while their number is not known."""
        return self.progress.total

    @property
    def fresh(self) -> int:
        """Requests that were really sent."""
        return self.progress.done - self.progress.reused

    @property
    def rate(self) -> float | None:
        """Requests per second from the first answer seen to the last; None before there are two."""
        if self.fresh != self._last[1]:
            self._last = (self.clock(), self.fresh)
            self._first = self._first or self._last
        if self._first is None or self._last[0] <= self._first[0]:
            return None
        return (self._last[1] - self._first[1]) / (self._last[0] - self._first[0])

    @property
    def left(self) -> int | None:
        """Requests still to come; None while their number is not known."""
        return None if self.progress.total is None else max(0, self.progress.total - self.progress.done)

    @property
    def eta(self) -> float | None:
        """Seconds to go."""
        return None if self.left is None or not self.rate else self.left / self.rate

    @property
    def cost(self) -> float | None:
        """Money so far; None where any answer had no price."""
        return None if self.progress.unpriced else self.progress.cost

    @property
    def projected(self) -> float | None:
        """Money at the end, if the rest is like what was asked so far."""
        if self.cost is None or self.left is None or not self.progress.sent or not self.fresh:
            return None
        return self.cost + self.cost / self.fresh * self.left

    def line(self) -> str:
        """All of it in one line, the most wanted first. The second cost is the projected one."""
        counts = self.progress
        total = "" if counts.total is None else f"/{counts.total // self.per_row:,}"
        parts = [f"{counts.done // self.per_row:,}{total} rows"]
        parts += [f"{counts.failed:,} failed"] if counts.failed else []
        parts += [f"{counts.reused:,} reused"] if counts.reused else []
        parts += [f"{self.rate / self.per_row:.1f} rows/s"] if self.rate else []
        parts += [f"ETA {duration(self.eta)}"] if self.left and self.eta else []
        if self.cost:
            parts.append(f"cost {amount(self.cost)} of {amount(self.projected, self.currency)}")
        parts += [f"{counts.usage.input_tokens + counts.usage.output_tokens:,} tokens"]
        return ", ".join(parts)


@contextlib.contextmanager
def watch(out: Output, progress: Progress, *, currency: str = "", per_row: int = 1) -> Iterator[None]:
    """Show `progress` on stderr while the block runs; nothing under `--quiet`."""
    with showing(out, Pace(progress, currency, per_row)):
        yield


@contextlib.contextmanager
def showing(out: Output, shown: Shown) -> Iterator[None]:
    """Show anything that goes on in the same way."""
    if out.quiet:
        yield
    elif out.stderr.is_terminal and not out.stderr.is_dumb_terminal:
        with _bar(out, shown):
            yield
    else:
        with _lines(out, shown):
            yield


@contextlib.contextmanager
def _bar(out: Output, pace: Shown) -> Iterator[None]:
    from rich.live import Live

    with Live(get_renderable=lambda: _drawn(pace), console=out.stderr, refresh_per_second=1 / BAR_EVERY):
        yield


def _drawn(pace: Shown) -> RenderableType:
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    bar = ProgressBar(total=pace.total, completed=pace.done, pulse=pace.total is None, width=16)
    row = Table.grid(padding=(0, 1))
    row.add_column()
    row.add_column(no_wrap=True, overflow="ellipsis")
    row.add_row(bar, Text(pace.line() if pace.done else "getting ready"))
    return row


@contextlib.contextmanager
def _lines(out: Output, pace: Shown) -> Iterator[None]:
    stop, said = threading.Event(), [""]

    def report() -> None:
        if pace.done and (line := pace.line()) != said[-1]:
            out.say(line)
            said[:] = [line]

    def keep_reporting() -> None:
        while not stop.wait(EVERY):
            report()

    thread = threading.Thread(target=keep_reporting, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        report()
