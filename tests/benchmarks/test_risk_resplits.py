"""The measuring of certificates, on outcomes whose answer is known beforehand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks._routing import Recording
from benchmarks.risk_resplits import arms, measure, split, table
from cascade.certify import CertifySettings
from cascade.outcomes import Outcomes


@pytest.fixture
def recording() -> Recording:
    random = np.random.default_rng(0)
    sure = random.random(600)
    answers = np.stack([(random.random(600) > sure).astype(np.int64), np.zeros(600, dtype=np.int64)], axis=1)
    unknown = np.full((600, 1), np.nan)
    signals = {
        "answer_short": np.concatenate([sure[:, None], unknown], axis=1),
        "vote": np.concatenate([(answers[:, :1] == 0).astype(float), unknown], axis=1),
    }
    cost, latency = np.tile([0.1, 1.0], (600, 1)), np.full((600, 2), np.nan)
    outcomes = Outcomes(("weak", "strong"), answers, signals, cost, latency, np.ones((600, 2)))
    return Recording("made up", outcomes, vote_cost=np.full(600, 0.2))


def test_the_arms_hide_gold_and_charge_the_voters(recording: Recording) -> None:
    found = dict(arms(recording))
    assert set(found["own"].signals) == {"answer_short"}
    assert all(np.isnan(outcomes.quality).all() for outcomes in found.values())
    assert found["vote"].cost[0].tolist() == [pytest.approx(0.3), 1.0]
    assert list(dict(arms(replace(recording, vote_cost=None)))) == ["own"]


def test_a_perfect_voter_saves_what_it_can(recording: Recording) -> None:
    own, vote = (dict(arms(recording))[name] for name in ("own", "vote"))
    one = split(vote, CertifySettings(alpha=0.05))
    assert (one.passed, one.broken, one.broken_half) == (True, False, False)
    assert one.share == pytest.approx(0.5, abs=0.06)
    assert one.saved == pytest.approx(one.share - 0.3)
    row = measure(own, 0.05, 10)
    assert row["rows"] == 600
    assert row["broken"] <= 0.3
    assert row["saved_low"] <= row["saved"] <= row["saved_high"] < one.saved


def test_the_table_is_markdown() -> None:
    row = {"pair": "a -> b", "signals": "own", "alpha": 0.05, "rows": 600, "differ": 0.5, "passed": 1.0}
    row |= {"broken": 0.0123456, "broken_other_half": 0.0, "share": 0.25, "saved": -0.5}
    assert table([row]).splitlines()[-1] == "| a -> b | own | 0.05 | 600 | 0.5 | 1 | 0.0123 | 0 | 0.25 | -0.5 |"
