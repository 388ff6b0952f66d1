"""The recorded outcomes as pairs: sizes and accuracies as published, signals without gold."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks._routing import SETS, _last_number
from cascade.deferral import Deferral as Rule
from cascade.deferral import Pair, curve


def load(shared_data, name):
    if not (shared_data / "routing").is_dir():
        pytest.skip(f"no routing/ in {shared_data}")
    return list(SETS[name](shared_data))


def test_routellm_is_as_published(shared_data):
    mmlu, gsm8k = load(shared_data, "routellm")
    assert len(mmlu.outcomes) == len(mmlu.texts) == len(mmlu.groups) == 14_042
    assert mmlu.outcomes.quality.mean(axis=0).round(3).tolist() == [0.681, 0.806]
    assert len(gsm8k.outcomes) == 1_319
    assert gsm8k.outcomes.quality.mean(axis=0).round(3).tolist() == [0.638, 0.857]
    assert set(gsm8k.signals) == {"prompt_short", "answer_short"}
    pair = Pair.of(mmlu.outcomes)
    # The averages of the paper, of the same prompts and one letter: a factor of 103.
    assert pair.strong_cost.mean() / pair.weak_cost.mean() == pytest.approx(24.7 / 0.24)


@pytest.mark.parametrize(("name", "pairs", "rows"), [("zeroeval", 15, 721), ("mmlu_pro", 5, 12_032)])
def test_votes_agree_with_being_right_and_are_charged(shared_data, name, pairs, rows):
    found = load(shared_data, name)
    assert len(found) == pairs
    assert min(len(recording.outcomes) for recording in found) == rows
    for recording in found:
        pair, votes = Pair.of(recording.outcomes), recording.signals["vote"]
        assert set(np.unique(votes)) <= {0.0, 0.5, 1.0}
        assert pair.weak[votes == 1].mean() > pair.weak[votes == 0].mean() + 0.1
        assert len(recording.vote_cost) == len(votes)
        assert (recording.vote_cost > 0).all()
        charged = curve(pair, Rule("vote", votes, recording.vote_cost)).cost[0]
        assert charged == pytest.approx(pair.weak_cost.mean() + recording.vote_cost.mean())


def test_equal_answers_get_equal_numbers(shared_data):
    recording = load(shared_data, "openai_gsm8k")[0]
    answers, right = recording.outcomes.answers, recording.outcomes.quality > 0.5
    both = right.all(axis=1)
    assert (answers[both, 0] == answers[both, 1]).mean() > 0.98
    one = right.sum(axis=1) == 1
    assert (answers[one, 0] == answers[one, 1]).mean() < 0.02


def test_dcrouter_has_scores_only(shared_data):
    for recording in load(shared_data, "dcrouter"):
        assert len(recording.outcomes) == 6_108
        assert set(recording.signals) == {"prompt_short"}
        assert (recording.outcomes.answers == -1).all()


@pytest.mark.parametrize(
    ("text", "number"),
    [("so 3 + 4 = 7.\nA: 7", "7"), ("It costs $1,250.50.", "1250.50"), ("none at all", ""), ("5 - 9 = -4", "4")],
)
def test_the_last_number_of_an_answer(text, number):
    assert _last_number(text) == number
