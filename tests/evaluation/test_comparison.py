"""Several arms on the same rows: exact tests by hand and against scipy and scikit-learn."""

from __future__ import annotations

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix

from curator.errors import InputError
from curator.evaluation import Arm, compare, confusion, mcnemar, per_class
from curator.evaluation.comparison import holm, sign_test

GOLD = np.array([0, 0, 1, 1, 2, 2])
RIGHT = Arm(GOLD.copy())
WORSE = Arm(np.array([0, 1, 1, 0, 2, -1]))


def test_mcnemar_by_hand():
    ours = np.array([True] * 6 + [False] + [True] * 3)
    theirs = np.array([False] * 6 + [True] + [True] * 3)
    found = mcnemar(ours, theirs)
    # Two-sided: 2 (C(7,0) + C(7,1)) / 2^7.
    assert (found.won, found.lost, found.p) == (6, 1, pytest.approx(16 / 128))
    assert mcnemar(theirs, ours).p == found.p
    assert mcnemar(ours, ours).p == 1.0


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(0, 200))
def test_the_sign_test_agrees_with_scipy(won, lost):
    expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert sign_test(won, lost) == pytest.approx(expected, rel=1e-9)


def test_the_sign_test_of_very_many_rows_is_a_number():
    assert sign_test(30_000, 30_000) == 1.0
    assert 0 <= sign_test(31_000, 29_000) < 1e-10
    assert sign_test(20_000, 0) == 0.0


def test_arms_of_other_rows_are_refused():
    with pytest.raises(InputError, match="same rows"):
        mcnemar(np.array([True]), np.array([True, False]))
    with pytest.raises(InputError, match="predictions for 6 gold"):
        compare({"short": Arm(GOLD[:5])}, GOLD)
    with pytest.raises(InputError, match="no arm to score"):
        compare({}, GOLD)
    with pytest.raises(InputError, match="no arm is called 'strong'"):
        compare({"weak": RIGHT}, GOLD, baseline="strong")


def test_holm_by_hand():
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03}) == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1, max_size=6))
def test_holm_never_lowers_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    assert list(adjusted) == list(p_values)
    assert all(p <= adjusted[name] <= 1 for name, p in p_values.items())
    ranked = sorted(p_values, key=p_values.__getitem__)
    assert [adjusted[name] for name in ranked] == sorted(adjusted.values())


def test_a_table_of_arms_and_their_differences():
    found = compare({"weak": WORSE, "strong": RIGHT}, GOLD)
    assert (found.rows, found.baseline) == (6, "weak")
    assert found.scores["weak"].accuracy.value == 0.5
    assert found.scores["weak"].answered == 5
    gain = found.differences["strong"]
    assert gain.accuracy.value == 0.5
    assert (gain.won, gain.lost, gain.p, gain.p_holm) == (3, 0, 0.25, 0.25)
    assert list(compare({"weak": WORSE, "strong": RIGHT}, GOLD, baseline="strong").differences) == ["weak"]
    assert orjson.loads(orjson.dumps(found.to_json()))["differences"]["strong"]["won"] == 3


def test_an_arm_without_confidence_or_distribution_has_no_such_scores():
    bare = compare({"a": RIGHT}, GOLD).scores["a"]
    assert (bare.confidence, bare.ece, bare.brier, bare.nll, bare.precision, bare.reliability) == (
        *[None] * 4,
        {},
        (),
    )
    sure = compare({"a": Arm(GOLD, confidence=np.array([1.0, 0.5, 0.5, np.nan, 1.0, 1.0]))}, GOLD).scores["a"]
    # |confidence - accuracy| by hand: 3 rows at 1, 2 at 0.5, 1 without one, which counts as 0.
    assert sure.ece == pytest.approx((3 * 0 + 2 * 0.5 + 1) / 6)
    assert sure.confidence == pytest.approx(4 / 6)
    assert sure.brier is None


def test_only_a_basis_that_something_vouches_for_is_calibrated():
    known = {basis: Arm(GOLD, basis=basis).calibrated for basis in ("", "raw", "batch", "mixed: audited(9), raw")}
    assert not any(known.values())
    assert Arm(GOLD, basis="audited(60)").calibrated
    assert Arm(GOLD, basis="reference:big").calibrated


def test_the_same_seed_gives_the_same_intervals_and_another_does_not():
    random = np.random.default_rng(0)
    gold = random.integers(0, 3, 200)
    arms = {
        "a": Arm(np.where(random.random(200) < 0.7, gold, 0)),
        "b": Arm(np.where(random.random(200) < 0.6, gold, 0)),
    }
    assert compare(arms, gold) == compare(arms, gold)
    assert compare(arms, gold) != compare(arms, gold, seed=1)


def test_per_class_by_hand():
    a, b, c, d = per_class(np.array([0, 0, 1, 0, -1]), np.array([0, 0, 0, 1, 2]), ("a", "b", "c", "d"))
    assert (a.gold, a.predicted, a.precision, a.recall, a.f1) == (3, 3, 2 / 3, 2 / 3, 2 / 3)
    assert (b.precision, b.recall, b.f1) == (0.0, 0.0, 0.0)
    assert (c.gold, c.predicted, c.precision, c.recall, c.f1) == (1, 0, None, 0.0, 0.0)
    assert (d.gold, d.precision, d.recall, d.f1) == (0, None, None, None)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_confusion_agrees_with_scikit_learn(pairs):
    predicted, gold = (np.array(column) for column in zip(*pairs, strict=True))
    table = confusion(predicted, gold, 4)
    known = predicted >= 0
    expected = confusion_matrix(gold[known], predicted[known], labels=range(4)) if known.any() else np.zeros((4, 4))
    assert (table[:, :4] == expected).all()
    assert (table[:, 4] == np.bincount(gold[~known], minlength=4)).all()
    assert table.sum() == len(gold)
