"""Simulated streams, seeded: what must hold at all times at once is checked at all times at once."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from cascade.sequential import Bets, DriftTest, risk_bounds
from curator.confidence import Bools, Floats, Ints
from curator.errors import ConfigError

STREAMS = 600
ALPHA, DELTA = 0.1, 0.1
Rate = Callable[[int], float]


def simulate(rate: Rate, share: float, queries: int, seed: int) -> Bools:
    """Audited disagreements (streams, queries) of a risk that moves as `rate` says."""
    rng = np.random.default_rng(seed)
    rates = np.array([rate(at) for at in range(queries)])
    found: Bools = rng.random((STREAMS, queries)) < share * rates
    return found


def alarms(events: Bools, share: float) -> Ints:
    """The query (streams,) at which the drift test raises its alarm, -1 for never."""
    first = np.full(len(events), -1, np.int64)
    bets = Bets.at(ALPHA, share)
    for number, stream in enumerate(events):
        test = DriftTest(bets)
        for at, loud in enumerate(stream.tolist()):
            test.see(share if loud else None)
            if loud and test.value >= 1 / DELTA:
                first[number] = at
                break
    return first


def peeking(events: Bools, share: float) -> float:
    """How often a test made for one look at the end (one-sided z), looked at after every query, rejects ever."""
    seen = np.arange(1, events.shape[1] + 1)
    rate, null = events.cumsum(axis=1) / seen, share * ALPHA
    z: Floats = (rate - null) / np.sqrt(null * (1 - null) / seen)
    return float((z[:, 50:] > 1.2816).any(axis=1).mean())


def allowed(bound: float) -> float:
    return bound + 2 * math.sqrt(bound * (1 - bound) / STREAMS)


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_false_alarms_are_bounded_at_the_boundary_for_all_time(share: float) -> None:
    events = simulate(lambda _: ALPHA, share, 2000, seed=1)
    assert (alarms(events, share) >= 0).mean() <= allowed(DELTA)
    # The same check tells a test that may not be looked at more than once.
    assert peeking(events, share) > 2 * allowed(DELTA)


@pytest.mark.parametrize(("begin", "most"), [(0, 300), (1500, 600)])
def test_a_drift_is_found(begin: int, most: int) -> None:
    events = simulate(lambda at: 0.05 if at < begin else 0.3, 0.2, begin + 1500, seed=2)
    found = alarms(events, 0.2)
    delays = found[found >= begin] - begin
    print(f"drift of 0.05 to 0.3 at {begin}: median delay {np.median(delays):.0f}, p90 {np.quantile(delays, 0.9):.0f}")
    assert (found >= begin).mean() > 0.98
    assert np.median(delays) < most


def test_unequal_probabilities_bias_nothing() -> None:
    """Half of the answers are audited four times as often, and those disagree more rarely."""
    rng, share = np.random.default_rng(3), 0.1
    bets, false, estimates = Bets.at(ALPHA, share), 0, []
    for _ in range(STREAMS):
        test, weight = DriftTest(bets), 0.0
        often = rng.random(800) < 0.5
        wrong = rng.random(800) < np.where(often, 0.02, 0.18)
        drawn = rng.random(800) < np.where(often, 0.4, 0.1)
        raised = False
        for chance, loud in zip(np.where(often, 0.4, 0.1).tolist(), (wrong & drawn).tolist(), strict=True):
            test.see(chance if loud else None)
            weight += loud / chance
            raised |= loud and test.value >= 1 / DELTA
        false += raised
        estimates.append(weight / 800)
    assert false / STREAMS <= allowed(DELTA)
    assert np.mean(estimates) == pytest.approx(ALPHA, abs=3 * np.std(estimates) / math.sqrt(STREAMS))


def covered(rate: Rate, edges: Callable[[int, int, float], tuple[float, float]], share: float) -> float:
    """Share of streams whose interval holds the mean risk so far at every one of many looks."""
    events = simulate(rate, share, 2000, seed=4)
    means = np.cumsum([rate(at) for at in range(2000)]) / np.arange(1, 2001)
    looks = [*range(20, 200, 5), *range(200, 2000, 20)]
    held = 0
    for stream in np.cumsum(events, axis=1):
        bounds = (edges(at, int(stream[at - 1]), share) for at in looks)
        held += all(low <= means[at - 1] <= high for at, (low, high) in zip(looks, bounds, strict=True))
    return held / STREAMS


def sequence(at: int, count: int, share: float) -> tuple[float, float]:
    return risk_bounds(at, count / share, count / share, Bets.at(ALPHA, share), DELTA)


def fixed(at: int, count: int, share: float) -> tuple[float, float]:
    """Wilson's interval, which holds at one time."""
    rate, z = count / at, 1.6449
    middle = (rate + z * z / (2 * at)) / (1 + z * z / at)
    half = z / (1 + z * z / at) * math.sqrt(rate * (1 - rate) / at + z * z / (4 * at * at))
    return (middle - half) / share, (middle + half) / share


@pytest.mark.parametrize(
    "rate", [lambda _: 0.1, lambda _: 0.02, lambda at: 0.02 if at < 700 else 0.4], ids=["at alpha", "below", "moving"]
)
def test_the_interval_holds_at_all_times_at_once(rate: Rate) -> None:
    assert covered(rate, sequence, 0.5) >= 1 - allowed(DELTA)


def test_an_interval_for_one_time_does_not() -> None:
    assert covered(lambda _: 0.1, fixed, 0.5) < 1 - 2 * allowed(DELTA)


def test_the_interval_narrows_and_holds_what_is_unknown() -> None:
    bets = Bets.at(0.05, 0.1)
    assert risk_bounds(0, 0, 0, bets, 0.05) == (0.0, 1.0)
    low, high = risk_bounds(20_000, 800, 800, bets, 0.05)
    assert 0.02 < low < 0.04 < high < 0.07
    assert risk_bounds(20_000, 800, 900, bets, 0.05)[1] > high
    assert risk_bounds(20_000, 800, 900, bets, 0.05)[0] == low
    assert risk_bounds(100, 0, 0, bets, 0.05)[0] == 0
    assert risk_bounds(10, 100, 100, bets, 0.05)[1] == 1


@pytest.mark.parametrize(("alpha", "share"), [(0.0, 0.1), (1.2, 0.1), (0.1, 0.0), (0.1, 1.5)])
def test_rates_that_cannot_be_are_refused(alpha: float, share: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        Bets.at(alpha, share)
