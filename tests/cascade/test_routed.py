"""What a route took: sums, and what is unknown."""

from __future__ import annotations

import pytest

from cascade.routed import Attempt, Routed, total
from curator.types import Decision, Usage


def routed(*costs: float | None) -> Routed[Decision]:
    attempts = tuple(Attempt("small", (), Usage(10, 1, 4), cost, 0.1) for cost in costs)
    return Routed((), attempts, 0.2)


@pytest.mark.parametrize(
    ("costs", "known"),
    [((), 0.0), ((0.5,), 0.5), ((0.5, 0.25), 0.75), ((0.5, None), None), ((None,), None), ((0.0, 0.0), 0.0)],
)
def test_a_sum_is_unknown_where_one_part_is(costs, known):
    assert total(costs) == known
    assert total(iter(costs)) == known
    assert routed(*costs).cost == known


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_usage_is_of_all_attempts(count):
    assert routed(*[1.0] * count).usage == Usage(10 * count, count, 4 * count, count)
