"""Weak labels, then a handful of gold: what each arm knows, and that nothing else of gold is read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from curator.errors import InputError
from curator.methods.knowledge_free import Few, knowledge_free
from tests.methods.weak_builders import noisy, world

POOL, GOLD = world()
TRAIN = np.flatnonzero(~POOL.held)[:200]
FEW = Few(TRAIN, GOLD[TRAIN])


def accuracy(student) -> float:
    return float((student.probabilities.argmax(1) == GOLD[POOL.test]).mean())


def test_a_handful_of_gold_mends_what_weak_labels_get_wrong_in_the_same_way():
    teacher = noisy(GOLD, 0.5, honest=False, stubborn=True)
    none, ten, fifty = knowledge_free(POOL, teacher, FEW)
    assert (none.budget, ten.budget, fifty.budget) == (0, 10, 50)
    assert none.gold_only is None
    assert (none.weak_then_gold.probabilities == none.weak_only.probabilities).all()
    assert accuracy(fifty.weak_then_gold) > accuracy(fifty.weak_only) + 0.1


def test_weak_labels_help_where_gold_alone_is_little():
    _, ten = knowledge_free(POOL, noisy(GOLD, 0.3), FEW, (0, 10))
    assert accuracy(ten.weak_then_gold) > accuracy(ten.gold_only)
    assert (ten.gold_only.rows, ten.weak_then_gold.rows) == (10, 10)


def test_too_little_gold_to_learn_from_alone_is_said():
    few = Few(TRAIN[:4], GOLD[TRAIN[:4]])
    (four,) = knowledge_free(POOL, noisy(GOLD, 0.3), few, (4, 50))
    assert four.gold_only is None
    assert "4 labelled rows are too few" in four.why
    assert (four.weak_then_gold.probabilities != four.weak_only.probabilities).any()


def test_gold_that_was_not_given_is_not_read():
    """Other gold on the rest of the rows gives the same students: it is nowhere in the arguments."""
    teacher = noisy(GOLD, 0.3)
    first, second = (knowledge_free(POOL, teacher, FEW, (10,))[0] for _ in range(2))
    assert first.weak_then_gold.head.linear.weight.tobytes() == second.weak_then_gold.head.linear.weight.tobytes()
    with pytest.raises(InputError, match="held out for testing"):
        knowledge_free(POOL, teacher, Few(POOL.test[:10], GOLD[POOL.test[:10]]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.data())
def test_draws_take_classes_in_turn(options, data):
    few = Few(np.arange(len(options)), np.array(options))
    count = data.draw(st.integers(0, len(options)))
    drawn = few.draw(count, 0)
    assert len(drawn.rows) == count
    assert (few.options[drawn.rows] == drawn.options).all()
    assert len(set(drawn.options.tolist())) == min(count, len(set(options)))


def test_few_rows_that_make_no_sense():
    with pytest.raises(InputError, match="or a row twice"):
        Few(np.array([1, 1]), np.array([0, 1]))
    with pytest.raises(InputError, match="5 gold rows are wanted, 2 were given"):
        Few(np.array([1, 2]), np.array([0, 1])).draw(5, 0)
