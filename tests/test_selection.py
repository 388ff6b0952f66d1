"""Selection: thresholds, coverage, quotas, reasons, and independence of the order of rows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator.errors import ConfigError, InputError
from curator.selection import COVERAGE, LOW_CONFIDENCE, QUOTA, UNANSWERED, SelectionPolicy, select

rows = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from([0.2, 0.4, 0.4, 0.9, np.nan])),
    min_size=1,
    max_size=40,
)
policies = st.builds(
    SelectionPolicy,
    min_confidence=st.sampled_from([0.0, 0.4, 0.8]),
    coverage=st.sampled_from([0.3, 0.5, 1.0]),
    coverage_of=st.sampled_from(["rows", "class"]),
    balanced=st.booleans(),
    quota=st.sampled_from([None, 1, 3]),
    max_rows=st.sampled_from([None, 2, 5]),
    seed=st.integers(0, 3),
)


def run(data, policy, ids=None):
    names = ids or [f"d{i}" for i in range(len(data))]
    return select(names, [c for c, _ in data], np.array([s for _, s in data]), policy)


@given(rows, policies)
def test_every_dropped_row_has_a_reason_and_every_kept_row_meets_the_policy(data, policy):
    result = run(data, policy)
    assert all(bool(reason) != kept for reason, kept in zip(result.reasons, result.keep, strict=True))
    kept = [data[i] for i in np.flatnonzero(result.keep)]
    assert all(c is not None and s >= policy.min_confidence for c, s in kept)
    counts = Counter(c for c, _ in kept)
    assert all(count <= (policy.quota or 99) for count in counts.values())
    assert len(kept) <= (policy.max_rows or 99)
    if policy.balanced:
        assert not counts or max(counts.values()) - min(counts.values()) <= (0 if policy.max_rows is None else 1)


@given(rows, policies, st.randoms(use_true_random=False))
def test_the_order_of_rows_never_matters(data, policy, random):
    ids = [f"d{i}" for i in range(len(data))]
    kept = {ids[i] for i in np.flatnonzero(run(data, policy, ids).keep)}
    order = list(range(len(data)))
    random.shuffle(order)
    shuffled = run([data[i] for i in order], policy, [ids[i] for i in order])
    assert {ids[order[i]] for i in np.flatnonzero(shuffled.keep)} == kept


def test_reasons_name_the_first_stage_that_dropped_a_row():
    data = [("a", 0.9), ("a", 0.8), ("a", 0.7), ("b", 0.6), ("b", 0.1), (None, 0.9), ("b", np.nan)]
    result = run(data, SelectionPolicy(min_confidence=0.5, coverage=0.75, quota=2))
    assert result.reasons == ("", "", QUOTA, COVERAGE, LOW_CONFIDENCE, UNANSWERED, UNANSWERED)
    assert result.report() == {
        "kept": 2,
        "dropped": {COVERAGE: 1, LOW_CONFIDENCE: 1, QUOTA: 1, UNANSWERED: 2},
    }


def test_coverage_of_each_class_keeps_its_best_share():
    data = [("a", 0.9), ("a", 0.8), ("b", 0.3), ("b", 0.2)]
    assert run(data, SelectionPolicy(coverage=0.5)).keep.tolist() == [True, True, False, False]
    by_class = run(data, SelectionPolicy(coverage=0.5, coverage_of="class"))
    assert by_class.keep.tolist() == [True, False, True, False]


def test_balanced_takes_as_many_of_each_class_as_the_smallest_has():
    data = [("a", 0.9), ("a", 0.8), ("a", 0.7), ("b", 0.2)]
    assert run(data, SelectionPolicy(balanced=True)).keep.tolist() == [True, False, False, True]


def test_the_seed_decides_among_equals_and_only_among_equals():
    data = [("a", 0.5)] * 30 + [("a", 0.9)]
    picks = [run(data, SelectionPolicy(max_rows=10, seed=seed)).keep for seed in range(3)]
    assert all(pick[30] and pick.sum() == 10 for pick in picks)
    assert (picks[0] != picks[1]).any() or (picks[0] != picks[2]).any()


@pytest.mark.parametrize(
    "settings", [{"min_confidence": 1.5}, {"coverage": 0.0}, {"coverage": 2.0}, {"quota": 0}, {"max_rows": -1}]
)
def test_settings_outside_their_range_are_refused(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        SelectionPolicy(**settings)


def test_lengths_that_differ_are_refused():
    with pytest.raises(InputError, match="do not match"):
        select(["x"], ["a", "b"], np.array([0.5]), SelectionPolicy())
