"""What is kept of a text's log-probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from curator.engines.sampled import deciles, sample


def test_deciles_are_numpys():
    values = np.random.default_rng(0).normal(-1, 1, 57)
    assert deciles(values.tolist()) == pytest.approx(np.quantile(values, np.linspace(0, 1, 11)).tolist())


def test_one_token_is_every_decile():
    assert deciles([-0.5]) == (-0.5,) * 11


def test_a_sample_sums_up_its_tokens_or_says_nothing():
    found = sample("hi", "stop", [-1.0, -3.0])
    assert (found.logprob, found.deciles[0], found.deciles[-1]) == (-2.0, -3.0, -1.0)
    assert (sample("hi", "stop", []).logprob, sample("hi", "stop", []).deciles) == (None, ())
