"""The whole circle, twice, on real models: what was served makes the next cascade cheaper at the same risk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from benchmarks.flywheel import Circle, Sizes, corpus, rule_of_thumb


def test_the_traffic_is_in_a_seeded_order_without_labels(shared_data: Path) -> None:
    texts = corpus(shared_data)
    assert len(texts) == len(set(texts)) > 4000
    assert texts == corpus(shared_data)
    assert texts != corpus(shared_data, seed=1)


@pytest.mark.parametrize(
    ("text", "label"),
    [("Who was Galileo ?", "human"), ("How many miles ?", "number"), ("Which colour is it ?", "entity")],
)
def test_rules_of_thumb_go_by_words(text: str, label: str) -> None:
    assert rule_of_thumb(text) == label


@pytest.mark.engine
@pytest.mark.timeout(1800)
def test_a_second_turn_costs_less_at_the_same_risk(shared_data: Path, tmp_path: Path) -> None:
    circle = Circle(tmp_path, corpus(shared_data), replace(Sizes(), served=500), alpha=0.1)
    circle.begin()
    first, second = circle.turn(0), circle.turn(1)
    print(first, second, sep="\n")
    assert first.verdict == second.verdict == "PASS"
    # Two standard errors of 500 queries at alpha.
    assert max(first.risk, second.risk) <= 0.1 + 0.027
    assert second.cost < 0.9 * first.cost < first.strong_alone
    assert (first.asked, second.asked) == (100, 0), "what the traffic brought is not asked again"
    assert second.labels > 2 * first.labels
