"""The slope of a series of memory."""

from __future__ import annotations

import pytest

from benchmarks.gateway_memory import slope


def test_the_slope_is_per_thousand_requests() -> None:
    assert slope([(1000, 50_000.0), (2000, 50_010.0), (3000, 50_020.0)]) == pytest.approx(10.0)
    assert slope([(1000, 7.0), (2000, 7.0)]) == 0
