from __future__ import annotations

import os
import resource
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from killing import killed_beyond

from cascade.gateway import budget_journal
from cascade.gateway.budgets import NANO, Budgets, Reservation, Spent
from cascade.gateway.key_records import Caps
from curator.errors import BudgetExceededError, ConfigError, StoreError

HERE = Path(__file__).parent
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


class Time:
    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> datetime:
        return self.at


def reserve(budgets: Budgets, caps: Caps, money: float, *, cap: float | None = None) -> Reservation:
    purse = budgets.purse("k", caps, cap)
    assert purse is not None
    return purse.reserve(money)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "budgets" / "journal"


@pytest.mark.parametrize(
    ("caps", "said"),
    [(Caps(day=1.0), "for the day"), (Caps(month=1.0), "for the month"), (Caps(total=1.0), "in all")],
)
def test_a_cap_is_reserved_before_and_settled_after(caps: Caps, said: str) -> None:
    budgets = Budgets(now=Time())
    first = reserve(budgets, caps, 0.7)
    with pytest.raises(BudgetExceededError, match=f"{said} of this API key is 1 USD: 1 is left, of which calls in"):
        reserve(budgets, caps, 0.4)
    first.settle(0.1)
    first.settle(0.1)
    reserve(budgets, caps, 0.9).settle(0.9)
    with pytest.raises(BudgetExceededError, match="0 is left, and the next call may take 1e-06"):
        reserve(budgets, caps, 1e-6)
    assert budgets.spent("k") == Spent(1.0, 1.0, 1.0, 0.0)


def test_a_call_that_cost_nothing_gives_all_back_and_one_that_nobody_knows_keeps_it() -> None:
    budgets = Budgets()
    reserve(budgets, Caps(total=1.0), 1.0).settle(0.0)
    reserve(budgets, Caps(total=1.0), 1.0).settle(None)
    assert budgets.spent("k").total == 1.0


def test_days_and_months_begin_anew_and_the_total_does_not() -> None:
    time = Time()
    budgets, caps = Budgets(now=time), Caps(day=1.0, month=1.9, total=3.0)
    reserve(budgets, caps, 1.0).settle(1.0)
    over_midnight = reserve(budgets, Caps(), 0.25, cap=1.0)
    late = reserve(budgets, Caps(total=3.0), 0.5)
    time.at += timedelta(days=1)
    assert budgets.spent("k") == Spent(0.0, 0.0, 1.0, 0.5)
    late.settle(0.5)
    over_midnight.settle(0.25)
    reserve(budgets, caps, 1.0).settle(1.0)
    assert budgets.spent("k") == Spent(1.0, 1.0, 2.5, 0.0)
    with pytest.raises(BudgetExceededError, match="for the day"):
        reserve(budgets, caps, 0.1)
    time.at += timedelta(days=1)
    with pytest.raises(BudgetExceededError, match="in all"):
        reserve(budgets, caps, 0.51)


def test_a_request_has_a_cap_of_its_own() -> None:
    budgets = Budgets()
    assert budgets.purse("k", Caps()) is None
    purse = budgets.purse("k", Caps(), 0.5)
    assert purse is not None
    purse.reserve(0.3).settle(0.2)
    with pytest.raises(BudgetExceededError, match=r"of this request is 0\.5 USD: 0\.3 is left"):
        purse.reserve(0.31)
    purse.reserve(0.3).settle(None)


def test_a_restart_remembers(path: Path) -> None:
    time = Time()
    budgets, caps = Budgets(path, now=time), Caps(day=1.0, total=2.0)
    for _ in range(10):
        reserve(budgets, caps, 0.05).settle(0.03)
    reserve(budgets, caps, 0.5)  # under way when the process ends
    budgets.close()
    again = Budgets(path, now=time)
    assert again.spent("k") == Spent(0.8, 0.8, 0.8, 0.0)
    with pytest.raises(BudgetExceededError):
        reserve(again, caps, 0.21)
    again.close()
    time.at += timedelta(days=40)
    later = Budgets(path, now=time)
    assert later.spent("k") == Spent(0.0, 0.0, 0.8, 0.0)
    later.close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_journal_is_written_anew_now_and_then(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_journal, "LINES", 20)
    budgets, caps = Budgets(path, now=Time()), Caps(total=10.0)
    under_way = reserve(budgets, caps, 1.0)
    for _ in range(100):
        reserve(budgets, caps, 0.01).settle(0.01)
    assert len(path.read_bytes().splitlines()) <= 24
    under_way.settle(0.5)
    budgets.close()
    again = Budgets(path, now=Time())
    assert again.spent("k").total == 1.5
    again.close()


def test_damaged_lines_never_lose_money(path: Path) -> None:
    budgets, caps = Budgets(path, now=Time()), Caps(total=10.0)
    reserve(budgets, caps, 1.0).settle(0.25)
    reserve(budgets, caps, 1.0).settle(0.25)
    budgets.close()
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:-1], lines[-1][:5], b'["?"]', b"\xff"]))
    again = Budgets(path, now=Time())
    assert again.spent("k").total == 1.25
    again.close()


def test_two_servers_do_not_share_a_journal(path: Path) -> None:
    budgets = Budgets(path)
    with pytest.raises(ConfigError, match="another process uses the budget journal"):
        Budgets(path)
    budgets.close()
    budgets.close()
    Budgets(path).close()


def test_a_journal_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        Budgets(tmp_path / "file" / "journal")


def _on_a_full_disk(path: Path) -> None:
    """In a process that may write no more than 200 bytes into a file."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
    budgets, caps = Budgets(path, now=Time()), Caps(total=10.0)
    reserve(budgets, caps, 1e-3).settle(1e-3)
    with pytest.raises(StoreError, match="cannot be written"):  # noqa: PT012
        for _ in range(10):
            reserve(budgets, caps, 1e-3).settle(1e-3)


def test_what_cannot_be_written_down_is_not_spent(path: Path) -> None:
    if not (child := os.fork()):
        try:
            _on_a_full_disk(path)
        except BaseException:
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    again = Budgets(path, now=Time())
    assert 0 < again.spent("k").total < 0.01
    again.close()


def test_a_kill_forgets_nothing_that_was_spent(path: Path) -> None:
    """The child says what it has settled before it goes on; what it may have had under way is booked too."""
    settled = killed_beyond(HERE / "killed_spender.py", path, 299)
    again = Budgets(path)
    thousandths = round(again.spent("k").total * 1000)
    again.close()
    assert settled <= thousandths <= settled + 5


CAPS = st.builds(
    Caps,
    day=st.sampled_from([None, 1.0]),
    month=st.sampled_from([None, 2.0]),
    total=st.sampled_from([None, 3.0]),
)


class Interleaved(RuleBasedStateMachine):
    """Calls of two keys and of requests with caps of their own, in any order, over days and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.time = Time()
        self.path = Path(self.folder.name) / "journal"
        self.budgets = Budgets(self.path, now=self.time)
        self.open: list[tuple[Reservation, int, str]] = []
        self.booked: dict[tuple[str, str], int] = {}

    @initialize(caps=st.tuples(CAPS, CAPS))
    def begin(self, caps: tuple[Caps, Caps]) -> None:
        self.caps = dict(zip("ab", caps, strict=True))

    @rule(key=st.sampled_from("ab"), need=st.integers(0, NANO), cap=st.sampled_from([None, 0.5]))
    def call(self, key: str, need: int, cap: float | None) -> None:
        purse = self.budgets.purse(key, self.caps[key], cap)
        if purse is None:
            return
        try:
            reservation = purse.reserve(need / NANO)
        except BudgetExceededError:
            return
        assert cap is None or need <= cap * NANO
        day = f"{self.time.at:%Y-%m-%d}" if self.caps[key].any else ""
        self.open.append((reservation, need, f"{key}{day}"))

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, 99), share=st.one_of(st.none(), st.floats(0, 1)))
    def end(self, which: int, share: float | None) -> None:
        reservation, need, whose = self.open.pop(which % len(self.open))
        actual = need if share is None else int(need * share)
        reservation.settle(None if share is None else actual / NANO)
        self._book(whose, actual)

    @rule(days=st.integers(0, 20))
    def wait(self, days: int) -> None:
        self.time.at += timedelta(days=days)

    @rule()
    def restart(self) -> None:
        self.budgets.close()
        self.budgets = Budgets(self.path, now=self.time)
        for _, need, whose in self.open:
            self._book(whose, need)
        self.open = []

    @invariant()
    def no_cap_is_passed_and_no_money_is_lost(self) -> None:
        today = f"{self.time.at:%Y-%m-%d}"
        for key in "ab" if hasattr(self, "caps") else "":
            found, caps = self.budgets.spent(key), self.caps[key]
            booked = {scope: money for (name, scope), money in self.booked.items() if name == key}
            for scope, spent in ((today, found.day), (today[:7], found.month), ("", found.total)):
                assert round(spent * NANO) == sum(m for day, m in booked.items() if day.startswith(scope))
            if caps.total is not None:
                assert found.total + found.reserved <= caps.total + 1e-9
            held = sum(need for _, need, whose in self.open if whose == key + today) / NANO
            if caps.day is not None:
                assert found.day + held <= caps.day + 1e-9

    def _book(self, whose: str, money: int) -> None:
        if whose[1:]:
            place = (whose[0], whose[1:])
            self.booked[place] = self.booked.get(place, 0) + money

    def teardown(self) -> None:
        self.budgets.close()
        self.folder.cleanup()


TestInterleaved = Interleaved.TestCase
TestInterleaved.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
