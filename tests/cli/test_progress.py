"""Speed, cost and projections from a run's counts; no real time passes here."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cli import progress as module
from cli.output import Output
from cli.progress import Pace, watch
from curator.annotate import Progress
from curator.types import Usage


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_reused_rows_neither_speed_up_nor_cheapen_the_projection() -> None:
    clock, counts = Clock(), Progress(total=1000)
    pace = Pace(counts, "USD", clock=clock)
    counts.done = counts.reused = 400
    assert (pace.rate, pace.eta, pace.projected) == (None, None, None)
    clock.now, counts.done, counts.sent, counts.cost = 10.0, 420, 20, 0.2
    assert pace.rate is None
    clock.now, counts.done, counts.sent, counts.cost = 20.0, 520, 120, 1.2
    assert pace.rate == pytest.approx(10.0)
    assert pace.eta == pytest.approx(48.0)
    assert pace.projected == pytest.approx(1.2 + 480 * 0.01)


def test_the_line_says_it_all() -> None:
    clock, counts = Clock(), Progress(total=3000, done=1, sent=1, usage=Usage(100, 0), cost=0.01)
    pace = Pace(counts, "EUR", clock=clock)
    assert pace.rate is None
    clock.now = 10.0
    counts.done, counts.sent, counts.failed, counts.usage, counts.cost = 1001, 1001, 2, Usage(99_000, 1_000), 1.001
    assert pace.line() == ("1,001/3,000 rows, 2 failed, 100.0 rows/s, ETA 20s, cost 1.00 of 3.00 EUR, 100,000 tokens")


def test_an_unknown_price_makes_no_projection() -> None:
    counts = Progress(total=10, done=5, sent=5, cost=1.0, unpriced=1)
    pace = Pace(counts, "USD", clock=Clock())
    assert pace.cost is None
    assert pace.projected is None
    assert "USD" not in pace.line()


def test_a_row_that_takes_three_requests() -> None:
    clock, counts = Clock(), Progress(total=300, done=3, sent=3)
    pace = Pace(counts, per_row=3, clock=clock)
    assert pace.rate is None
    clock.now, counts.done, counts.sent = 1.0, 33, 33
    assert pace.line() == "11/100 rows, 10.0 rows/s, ETA 9s, 0 tokens"


def test_the_total_may_be_unknown() -> None:
    pace = Pace(Progress(done=5, sent=5), clock=Clock())
    assert (pace.left, pace.eta, pace.projected) == (None, None, None)
    assert pace.line() == "5 rows, 0 tokens"


def test_plain_lines_where_stderr_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EVERY", 0.01)
    counts = Progress(total=5)
    with watch(Output(), counts):
        counts.done = counts.sent = 5
    said = capsys.readouterr()
    assert said.err.splitlines()[-1].startswith("5/5 rows")
    assert "\x1b" not in said.err
    assert said.out == ""


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with watch(Output(quiet=True), Progress(done=5)):
        pass
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen, out = io.StringIO(), Output()
    out.stderr = Console(file=screen, force_terminal=True, width=120)
    counts = Progress(total=20)
    with watch(out, counts):
        counts.done = counts.sent = 20
    assert "20/20 rows" in screen.getvalue()
    assert "━" in screen.getvalue()
