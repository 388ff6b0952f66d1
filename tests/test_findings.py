"""Each finding appears where the figures carry it, and only there."""

from __future__ import annotations

import numpy as np
import pytest

from curator.evaluation.answers import Answer, Gold
from curator.evaluation.joined import Evaluation, join
from curator.findings import findings, p_value
from curator.task import classify

TOPIC = classify(["a", "b", "c"], "Which?").closed[0]


def made(truth: str, basis: str = "batch", confidence: object = 0.9, **arms: str) -> Evaluation:
    """Rows of one letter each; `-` is unanswered. `confidence` is one number, or one per row."""
    sure = np.broadcast_to(np.asarray(confidence, dtype=float), len(truth)).tolist()
    gold = {f"{i:04}": value for i, value in enumerate(truth)}
    answers = {
        name: {f"{i:04}": Answer(value, sure[i], basis) for i, value in enumerate(values) if value != "-"}
        for name, values in arms.items()
    }
    return join(TOPIC, Gold("gold", gold), answers)


def said(found: Evaluation) -> str:
    return "\n".join(findings(found))


def test_few_rows_are_called_few():
    assert "That is few" in said(made("abc" * 10, labels="abc" * 10))
    assert "That is few" not in said(made("abc" * 40, labels="abc" * 40))


def test_labels_no_better_than_a_constant():
    truth = "a" * 90 + "b" * 30
    assert "Always answering `a` would be right on 75.0%" in said(made(truth, labels="a" * 120))
    assert "Always answering" not in said(made(truth, labels=truth))


def test_unanswered_rows_are_counted_per_arm():
    found = made("ab" * 10, labels="ab" * 9 + "aa", other="-" * 5 + "a" * 15)
    assert "`other` has no answer to 5 of 20 rows, which count as wrong." in said(found)


def test_a_confidence_that_is_off_is_said_to_be():
    truth, wrong = "ab" * 50, "ab" * 35 + "ba" * 15
    assert (
        "*uncalibrated* (basis batch): it says 90.0% on average, 70.0% of the answers are right, so it is too high by "
    )
    text = said(made(truth, labels=wrong))
    assert "The confidence is *uncalibrated* (basis batch)" in text
    assert "it says 90.0% on average, 70.0% of the answers are right, so it is too high by 20.0 points" in text
    assert "goldless audit" in text
    audited = said(made(truth, basis="audited(60)", labels=wrong))
    assert "uncalibrated" not in audited
    assert "Ask whether gold and the rows that it was calibrated on are alike." in audited
    fitting = said(made(truth, basis="audited(60)", confidence=0.7, labels=wrong))
    assert "too high" not in fitting
    assert "too low" not in fitting


@pytest.mark.parametrize(
    ("confidence", "sentence"),
    [
        ([0.9] * 50 + [0.6] * 50, "is right more often (100.0% against 40.0%)"),
        ([0.6] * 50 + [0.9] * 50, "is right less often (40.0% against 100.0%)"),
        ([0.9, 0.9, 0.6, 0.6] * 25, "do not show that higher confidence is right more often"),
        ([0.9] * 100, "the same on all rows"),
    ],
)
def test_whether_confidence_orders_the_rows(confidence, sentence):
    assert sentence in said(made("ab" * 50, confidence=confidence, labels="ab" * 35 + "ba" * 15))


def test_classes_that_gold_lacks_or_nobody_answers():
    text = said(made("ab" * 30, labels="a" * 60))
    assert "Gold has no row of `c`" in text
    assert "`labels` never answers `b`" in text


def test_the_most_frequent_wrong_answer():
    text = said(made("a" * 60 + "b" * 60, labels="a" * 50 + "c" * 10 + "b" * 57 + "a" * 3))
    assert "The most frequent wrong answer is `c` where gold says `a`: 10 of 13 wrong answers (76.9%)" in text
    assert "most frequent wrong" not in said(made("ab" * 20, labels="ab" * 20))


def test_arms_are_told_apart_only_where_they_can_be():
    truth = "ab" * 50
    better = said(made(truth, labels="ab" * 35 + "ba" * 15, student=truth))
    assert "`student` is better than `labels` (+30.0 points" in better
    assert "exact McNemar p < 0.0001)" in better
    assert "`student` is worse than `labels`" in said(made(truth, labels=truth, student="ab" * 35 + "ba" * 15))
    alike = said(made(truth, labels=truth, student="ab" * 49 + "aa", other=truth))
    assert "`student` and `labels` cannot be told apart" in alike
    assert "exact McNemar p = 1, p = 1 corrected for 2 tests)" in alike


def test_pgr_is_a_figure_or_a_reason():
    truth = "ab" * 100
    weak, student = "ab" * 60 + "ba" * 40, "ab" * 80 + "ba" * 20
    assert "PGR of `student` between `labels` and `ceiling`: 0.50 (95% interval" in said(
        made(truth, labels=weak, student=student, ceiling=truth)
    )
    text = said(made(truth, labels=truth, student=student, ceiling=truth))
    assert "undefined: ceiling - weak is 0.0 points" in text
    assert "Compare the accuracies instead." in text


def test_p_values():
    assert [p_value(p) for p in (1.0, 0.0421, 0.00012, 0.00009)] == ["1", "0.042", "0.00012", "< 0.0001"]
