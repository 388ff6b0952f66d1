"""What the beginning of a draft says of its final score: never more than is certain."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from route_builders import CHAT

from cascade.policy import Rule, Scorer
from cascade.prefix import Fate, PrefixGate, may_be_invalid, score_bounds
from cascade.signals import parse_signal, text_signals
from curator.engines.sampled import sample
from curator.types import ChatRequest, Completion, GenerateRequest, Sampling

MOST = 16
TOOLED = ChatRequest(CHAT.messages, CHAT.sampling, tools=({"type": "function", "function": {"name": "add"}},))


def rule(*signals, limit=0.5, weights=None, **scorer):
    made = Scorer(signals=signals, weights=weights or (1.0 / len(signals),) * len(signals), **scorer)
    return Rule(tier="small", scorer=made, threshold=limit)


def score(made, logprobs):
    """The final score of a whole answer, as the router computes it."""
    completion = Completion((sample("x", "stop", logprobs),))
    specs = [parse_signal(name) for name in made.scorer.signals]
    values = text_signals(specs, completion, CHAT)
    return float(made.scorer.score(np.array([[values[spec.name] for spec in specs]]))[0])


RULES = [
    rule("sequence_probability"),
    rule("prefix_probability:4"),
    rule("token_quantile:0.2"),
    rule("sequence_probability", "prefix_probability:8", "token_quantile:0", weights=(2.0, -1.0, 0.5), bias=0.1),
    rule("prefix_probability:2", knots=(0.0, 0.4, 0.6, 1.0), values=(0.1, 0.3, 0.2, 0.9)),
    rule("sequence_probability", weights=(-1.0,), knots=(-1.0, 0.0), values=(0.0, 1.0)),
]


@pytest.mark.parametrize("made", RULES)
def test_the_final_score_lies_within_the_bounds_of_every_beginning(made):
    coin = random.Random(5)
    for _ in range(100):
        logprobs = [-coin.expovariate(coin.choice((0.5, 5, 50))) for _ in range(coin.randint(1, MOST))]
        final = score(made, logprobs)
        for count in range(len(logprobs) + 1):
            low, high = PrefixGate(made, CHAT).bounds(logprobs[:count])
            assert low - 1e-12 <= final <= high + 1e-12


@pytest.mark.parametrize("made", RULES)
@pytest.mark.parametrize("limit", [0.1, 0.3, 0.6, 0.9])
def test_what_is_decided_early_is_what_would_be_decided_late(made, limit):
    made = made.model_copy(update={"threshold": limit})
    coin, decided = random.Random(6), 0
    for _ in range(200):
        logprobs = [-coin.expovariate(coin.choice((0.5, 5, 50))) for _ in range(coin.randint(1, MOST))]
        gate = PrefixGate(made, CHAT)
        fates = [gate.fate(logprobs[: count + 1]) for count in range(len(logprobs))]
        fate = next((one for one in fates if one is not Fate.WAIT), Fate.WAIT)
        decided += fate is not Fate.WAIT
        if fate is not Fate.WAIT:
            assert (score(made, logprobs) >= limit) is (fate is Fate.RELEASE)
    # A low limit is out of reach of no beginning of a text; nor is any, where a surer text scores lower.
    assert decided or limit < 0.6 or made.scorer.weights[0] < 0


def test_a_prefix_decides_exactly_when_it_is_complete():
    gate = PrefixGate(rule("prefix_probability:3", limit=0.9), CHAT)
    assert [gate.fate([-0.01] * count) for count in (1, 2, 3)] == [Fate.WAIT, Fate.WAIT, Fate.RELEASE]
    gate = PrefixGate(rule("prefix_probability:3", limit=0.9), CHAT)
    assert gate.fate([-2.0]) is Fate.ABORT


def test_a_rule_of_the_whole_text_releases_nothing_but_gives_up_what_cannot_reach_it():
    gate = PrefixGate(rule("sequence_probability", limit=0.5), CHAT)
    assert not gate.releases
    assert gate.fate([-0.001]) is Fate.WAIT
    # 16 tokens at most: even if the others are certain, the mean is at most -12 / 16.
    assert gate.bounds([-12.0]) == (0.0, pytest.approx(math.exp(-0.75)))
    assert gate.fate([-12.0, 0.0]) is Fate.ABORT


def test_what_may_be_invalid_is_never_released_early():
    schema = GenerateRequest(CHAT.messages, CHAT.sampling, schema={"type": "object"})
    for request in (schema, TOOLED):
        assert may_be_invalid(request)
        gate = PrefixGate(rule("prefix_probability:1", limit=0.5), request)
        assert gate.fate([-0.001]) is Fate.WAIT
        assert gate.fate([-9.0, -9.0]) is Fate.ABORT


def test_a_draft_that_the_next_tier_is_compared_with_is_not_given_up():
    assert PrefixGate(rule("sequence_probability", limit=0.9), CHAT, compared=True).fate([-99.0]) is Fate.WAIT


def test_signals_that_need_more_than_tokens_decide_nothing():
    gate = PrefixGate(rule("self_verification", limit=0.5), CHAT)
    assert not gate.aborts
    assert gate.bounds([-9.0]) == (0.0, 1.0)
    mixed = PrefixGate(rule("prefix_probability:1", "valid", limit=0.7), CHAT)
    assert mixed.fate([-0.1]) is Fate.RELEASE


def test_more_tokens_than_were_allowed_do_not_break_the_bounds():
    request = GenerateRequest(CHAT.messages, Sampling(max_tokens=2))
    low, high = PrefixGate(rule("token_quantile:0.5"), request).bounds([-1.0] * 4)
    assert (low, high) == (0.0, pytest.approx(math.exp(-1.0)))


def test_bounds_of_a_score_that_is_not_monotone():
    scorer = Scorer(signals=("sequence_probability",), weights=(1.0,), knots=(0, 0.5, 1), values=(0.0, 1.0, 0.2))
    assert score_bounds(scorer, [(0.25, 1.0)]) == (0.2, 1.0)
    assert score_bounds(scorer, [(1.0, 1.0)]) == (0.2, 0.2)
