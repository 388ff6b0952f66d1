"""Sums over the last seconds."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from cascade.gateway.windows import RollingSums


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5))))
def test_what_is_added_counts_for_its_time_and_at_most_a_tenth_longer(steps):
    now, added = 0, []
    window = RollingSums(10.0, 2, lambda: float(now))
    for wait, number in steps:
        now += wait
        window.add(1, number)
        added.append((now, number))
        count, total = window.sums()
        surely = [number for moment, number in added if now - moment <= 10]
        perhaps = [number for moment, number in added if now - moment <= 11]
        assert len(surely) <= count <= len(perhaps)
        assert sum(surely) <= total <= sum(perhaps)


def test_it_costs_the_same_however_many_calls_there_are():
    ticks = itertools.count()
    window = RollingSums(10.0, 1, lambda: next(ticks) / 1000)
    for _ in range(20_000):
        window.add(1)
    assert len(window._slices) <= 11
    window.clear()
    assert window.sums() == (0,)
