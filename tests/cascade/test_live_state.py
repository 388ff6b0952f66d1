"""Live risk of several processes as one."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from route_builders import policy, row, scripted

from cascade.live import LiveRisk, LiveSettings
from cascade.live_state import LiveState, pooled
from cascade.policy import QuestionPolicy
from curator.errors import InputError

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SETTINGS = LiveSettings(share=0.5, delta=0.1)


def entry(limit: float = 0.8) -> QuestionPolicy:
    tiers = {"small": scripted("small", decide=[]), "strong": scripted("strong", decide=[])}
    (found,) = policy(tiers, row(), {"mood": [limit]}).questions
    return found.model_copy(update={"path": ((0.9,), (0.95,))})


def served(queries: int, risk: float, seed: int, *, after: timedelta = timedelta()) -> LiveRisk:
    """A process that served so many queries, at most until its first alarm."""
    live, chance = LiveRisk(entry(), SETTINGS, coin=random.Random(seed)), random.Random(seed + 100)
    for number in range(queries):
        audit = live.serve(f"{seed}-{number}", "small", 0.9, NOW + after)
        if audit is not None:
            live.settle(audit, chance.random() < risk)
        if live.alarms:
            break
    return live


def whole(states: list[LiveState]) -> LiveRisk:
    return LiveRisk(entry(), SETTINGS, state=pooled(states))


def test_counts_add_up_and_the_interval_is_that_of_one_process_that_saw_it_all() -> None:
    parts = [served(400, 0.02, seed) for seed in range(3)]
    together = whole([part.state for part in parts])
    assert together.counts.queries == 1200
    for name in ("accepted", "audits", "settled", "disagreed", "weight", "open_weight"):
        assert getattr(together.counts, name) == sum(getattr(part.counts, name) for part in parts)
    found, alone = together.estimate(), [part.estimate() for part in parts]
    assert found.low <= 0.02 <= found.high < min(one.high for one in alone)
    assert found.evidence <= sum(one.evidence for one in alone) / len(alone)


def test_one_process_is_its_own_pool() -> None:
    alone = served(200, 0.02, 1)
    assert pooled([alone.state]) == alone.state
    assert whole([alone.state]).estimate() == alone.estimate()


def test_only_what_was_seen_at_the_tightest_level_counts_and_every_alarm_is_kept() -> None:
    quiet, late, early = served(300, 0.0, 1), served(4000, 0.6, 2, after=timedelta(hours=1)), served(4000, 0.6, 3)
    assert (quiet.level, late.level, early.level) == (0, 2, 2)
    found = pooled([quiet.state, late.state, early.state])
    assert (found.level, found.counts.queries) == (2, 0)
    assert found.alarms == (*early.alarms, *late.alarms)


def test_a_process_adopts_what_another_found() -> None:
    quiet, alarmed = served(300, 0.0, 1), served(4000, 0.6, 2)
    quiet.adopt(alarmed.state)
    assert (quiet.level, quiet.thresholds, quiet.counts.queries) == (2, (0.95,), 0)
    assert quiet.alarms == alarmed.alarms
    before = alarmed.state
    alarmed.adopt(served(300, 0.0, 1).state)
    assert alarmed.state == before


def test_states_of_different_things_are_no_pool() -> None:
    state = served(10, 0.0, 1).state
    for changed in ({"question": "another"}, {"certificate": "another"}, {"share": 0.25}):
        (name,) = changed
        with pytest.raises(InputError, match=f"different {name}s"):
            pooled([state, state.model_copy(update=changed)])
    with pytest.raises(InputError, match="no live state"):
        pooled([])
    with pytest.raises(InputError, match="of the question"):
        served(10, 0.0, 1).adopt(state.model_copy(update={"question": "another"}))
