"""curator/store/models.py: what was trained, and on what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from curator.errors import InputError
from curator.store import ModelRecord, Store

RECORD = ModelRecord(
    "tuned", "sft", "wheel:smollm2-135m", "b179", 3, "d41d", "models/tuned", "e3b0", {"rows": 48, "loss": 0.25}, "run-1"
)


def test_a_record_comes_back_with_its_time(store):
    made = store.add_model(RECORD)
    assert made.created_at
    assert replace(made, created_at="") == RECORD
    assert Store(store.path).models() == [made]


def test_the_latest_of_a_name_counts_and_the_older_one_stays(store):
    first = store.add_model(RECORD)
    other = store.add_model(replace(RECORD, name="head", kind="head"))
    second = store.add_model(replace(RECORD, sha256="ffff"))
    assert store.models() == [first, other, second]
    assert store.model("tuned") == second
    assert store.model("head").kind == "head"


def test_a_name_that_is_not_there_is_answered_with_those_that_are(store):
    with pytest.raises(InputError, match="none was trained yet"):
        store.model("tuned")
    store.add_model(RECORD)
    with pytest.raises(InputError, match=r"no trained model 'tuend' \(there are tuned\)"):
        store.model("tuend")
