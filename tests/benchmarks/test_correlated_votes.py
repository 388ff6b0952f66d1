"""The three arms of the correlated-votes set (BENCHMARKS.md s.5)."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.correlated_votes import arms, generate, main, majority
from curator.calibration import calibrate_with_audits
from curator.evaluation import ece
from curator.independent import combine_independent
from curator.types import Label

SEEDS = range(8)


@pytest.fixture(scope="module")
def measured():
    return [arms(seed) for seed in SEEDS]


def test_the_set_is_the_published_one():
    votes = generate(0)
    result, right = majority(votes)
    assert votes.votes.shape == (20_000, 5)
    assert right.mean() == pytest.approx(0.777, abs=0.01)
    assert result.share.mean() == pytest.approx(0.907, abs=0.01)
    assert ece(result.share, right) == pytest.approx(0.13, abs=0.01)
    assert (votes.second == votes.gold).mean() == pytest.approx(0.80, abs=0.01)


def test_votes_alone_are_uncalibrated_and_discounted(measured):
    result, _ = majority(generate(0))
    assert not Label("1", float(result.confidence[0]), result.basis).calibrated
    assert (result.confidence <= result.share).all()
    assert result.effective_votes.max() < 1.5
    assert all(run["ece_votes_alone"] < 0.12 for run in measured)
    assert all(run["ece_votes_alone"] < run["ece_majority_share"] for run in measured)


def test_an_independent_second_voter_calibrates(measured):
    assert all(run["ece_second_voter"] <= 0.05 for run in measured)
    assert all(run["accuracy_second_voter"] > run["accuracy"] + 0.05 for run in measured)
    combined = combine_independent(generate(0).shares, generate(0).second, "other")
    assert Label("1", 0.9, combined.basis).calibrated


def test_a_hundred_audited_rows_calibrate(measured):
    """On average: the accuracy of 100 rows has a standard error of 4 points, so single draws of the
    audited rows can miss 0.05 whatever the calibrator."""
    errors = [run["ece_audited"] for run in measured]
    assert np.mean(errors) <= 0.05
    assert max(errors) <= 0.10
    basis = calibrate_with_audits(np.linspace(0.2, 0.9, 100), np.arange(100) > 30).basis
    assert basis == "audited(100)"
    assert Label("1", 0.9, basis).calibrated


def test_the_command_prints_a_table_and_writes_json(capsys, tmp_path):
    main(["--seeds", "1", "--json", str(tmp_path / "out.json")])
    assert "ece_audited" in capsys.readouterr().out
    assert (tmp_path / "out.json").read_text().startswith("{")
