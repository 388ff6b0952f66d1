"""The generated corpus is what it says, and each arm finds what it is able to find."""

from __future__ import annotations

import pytest

from benchmarks.dedup_scale import BATCH, generate, measure, median, table


def test_the_corpus_is_repeatable_and_holds_every_kind() -> None:
    batches = list(generate(5000, 40))
    assert [len(batch) for batch in batches] == [BATCH, BATCH, 5000 - 2 * BATCH]
    assert batches == list(generate(5000, 40))
    kinds = [document.id.split("-")[0] for batch in batches for document in batch]
    shares = {kind: kinds.count(kind) / 5000 for kind in set(kinds)}
    assert shares == pytest.approx({"new": 0.8, "exact": 0.05, "near": 0.1, "boiler": 0.05}, abs=0.02)


@pytest.mark.parametrize(
    ("arm", "exact", "near"), [("near", 1, 1), ("exact", 1, 0), ("signatures", 0, 0), ("rensa", 1, 1)]
)
def test_each_arm_finds_what_it_can(arm: str, exact: int, near: int) -> None:
    found = measure(arm, 2500, 60)
    assert (found["exact_rejected"], found["new_rejected"], found["boiler_rejected"]) == (exact, 0, 0)
    assert found["near_rejected"] == pytest.approx(near, abs=0.03)
    assert arm in table([median([found, found])])
