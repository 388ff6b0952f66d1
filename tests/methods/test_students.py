"""Pools, teachers and single students: disjoint sides, rows that a teacher has seen, and what cannot be learnt from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from curator.errors import InputError
from curator.methods.students import Pool, Teacher, encode, held_out, keep, mean_answer, train
from curator.training.head_settings import HeadSettings
from curator.types import Option, Question, Template
from tests.methods.weak_builders import noisy, world


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=8), min_size=1, max_size=40, unique=True), st.floats(0.05, 0.95))
def test_which_side_a_row_is_on_depends_on_its_id_alone(ids, share):
    found = held_out(ids, share)
    assert found.tolist() == [bool(held_out([name], share)[0]) for name in ids]
    # A larger share takes rows in and lets none out.
    assert not (found & ~held_out(ids, min(0.99, share + 0.04))).any()


def test_about_the_share_is_held_out():
    assert held_out([f"r{i}" for i in range(5000)], 0.3).mean() == pytest.approx(0.3, abs=0.03)
    with pytest.raises(InputError, match="share of rows held out is 0"):
        held_out(["a"], 0)


def test_a_pool_needs_rows_on_both_sides():
    with pytest.raises(InputError, match=r"5 rows? to train on|rows to train on and") as raised:
        Pool.split([f"r{i}" for i in range(5)], np.zeros((5, 2), np.float32), ("a", "b"))
    assert "label more documents" in raised.value.hint
    with pytest.raises(InputError, match="3 ids, 4 features"):
        Pool(("a", "b", "c"), np.zeros((4, 2), np.float32), ("a", "b"), np.zeros(3, bool))


def test_rows_that_a_teacher_was_trained_on_are_neither_taught_nor_tested():
    pool, gold = world()
    teacher = noisy(gold, 0.2)
    seen = frozenset(pool.ids[:100])
    experienced = Teacher("t", teacher.probabilities, seen=seen)
    assert teacher.labelled(pool).all()
    assert (~experienced.labelled(pool)).nonzero()[0].tolist() == list(range(100))
    silent = teacher.probabilities.copy()
    silent[3] = np.nan
    assert Teacher("s", silent).classes()[3] == -1
    assert not Teacher("s", silent).labelled(pool)[3]
    with pytest.raises(InputError, match="the pool has 900 rows and 3 options"):
        Teacher("short", teacher.probabilities[:5]).fresh(pool)


def test_a_student_never_learns_from_held_out_rows():
    pool, gold = world()
    targets = np.eye(3)[gold]
    first = train(pool, targets, np.ones(len(gold)), ("naive", HeadSettings()))
    targets[pool.held] = np.roll(targets[pool.held], 1, axis=1)
    second = train(pool, targets, np.ones(len(gold)), ("naive", HeadSettings()))
    assert first.head.linear.weight.tobytes() == second.head.linear.weight.tobytes()
    assert first.rows == int((~pool.held).sum())
    assert mean_answer([first, second]).shape == (int(pool.held.sum()), 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(900, int), "the naive arm: every row is labelled 'red'"),
        (np.arange(900) % 2, "the naive arm: no row is labelled 'blue'"),
    ],
)
def test_classes_that_are_missing_are_named(labels, message):
    pool, _ = world()
    with pytest.raises(InputError, match=message):
        train(pool, np.eye(3)[labels], np.ones(900), ("naive", HeadSettings()))


def test_texts_are_encoded_alone_or_in_their_prompt(tiny_encoder, tmp_path, monkeypatch):
    from curator.engines.encoder import Encoder

    monkeypatch.setenv("GOLDLESS_CACHE", str(tmp_path))
    encoder = Encoder(str(tiny_encoder))
    question = Question("tone", "choice", "Kind?", (Option("yes"), Option("no")))
    alone = encode(["a good film", "a bad film"], encoder, question)
    assert alone.shape == (2, 32)
    assert (encode(["a bad film"], encoder, question)[0] == alone[1]).all()
    assert (encode(["a bad film"], encoder, question, Template())[0] != alone[1]).any()


@pytest.mark.anyio
@pytest.mark.parametrize("template", [None, Template()])
async def test_a_student_that_is_kept_answers_as_it_did(tiny_encoder, tmp_path, monkeypatch, template):
    from curator.engines import connect
    from curator.engines.encoder import Encoder
    from curator.types import DecideRequest

    monkeypatch.setenv("GOLDLESS_CACHE", str(tmp_path))
    encoder, question = Encoder(str(tiny_encoder)), Question("tone", "choice", "Kind?", (Option("yes"), Option("no")))
    texts = [f"{'a good' if i % 2 else 'a bad'} film {i}" for i in range(80)]
    pool = Pool.split(texts, encode(texts, encoder, question, template), question.labels)
    student = train(pool, np.eye(2)[np.arange(80) % 2], np.ones(80), ("naive", HeadSettings()))
    model = keep(student, tmp_path / "kept", encoder, question, template)
    assert model.heads[0].spec.dataset == student.dataset != ""
    engine = connect(f"head:{tmp_path / 'kept'}")
    for row, expected in zip(pool.test[:3], student.probabilities[:3], strict=True):
        (answer,) = (await engine.decide(DecideRequest(texts[row], (question,)))).answers
        assert answer.probabilities == pytest.approx(expected, abs=1e-5)
    await engine.aclose()
