"""curator/preferences.py: pairs in, the same pairs out of an immutable version."""

from __future__ import annotations

from dataclasses import replace

import pytest

from curator.errors import InputError
from curator.preferences import Preference, freeze_preferences, read_preferences
from curator.store import Store
from curator.task import classify, solve
from curator.types import Document, Message

TASK = solve(int, "Solve it.")
PROMPT = (Message("system", "Be brief."), Message("user", "1 + 1?"))


def pair(name: str = "a", chosen: str = "2", rejected: str = "3", confidence: float = 0.75) -> Preference:
    details = {"chosen": {"engine": "weak", "sample": 0}, "rejected": {"engine": "strong", "sample": 7}}
    return Preference(Document(name, f"text of {name}", {"n": 1}), PROMPT, chosen, rejected, confidence, details)


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path / "s.duckdb")
    store.add_documents([[Document(name, f"text of {name}", {"n": 1}) for name in "abc"]], source="s", run_id="r")
    return store


def freeze(store: Store, *pairs: Preference, settings=None, task=TASK):
    with store.run("progressive", {}) as run:
        return freeze_preferences(task, store, run, iter(pairs), settings or {"cap": 1}, {"skipped": 3})


def test_pairs_come_back_as_they_were_in_their_order(store):
    pairs = [pair("b"), pair("a", "zwei «2»", "drei\n"), pair("b", "II", "III", 1.0)]
    made = freeze(store, *pairs)
    assert (made.version, made.kind, made.rows, made.task_id) == (1, "preferences", 3, TASK.id)
    assert (made.policy, made.report) == ({"cap": 1}, {"skipped": 3})
    assert list(read_preferences(store, 1)) == pairs


def test_a_version_of_pairs_never_changes_when_its_documents_do(store):
    freeze(store, pair("a"))
    store.add_documents([[Document("a", "new text")]], source="s", run_id="r")
    assert next(read_preferences(store, 1)).document.text == "text of a"
    assert freeze(store, pair("a")).version == 2


def test_the_same_pairs_are_the_same_version_and_any_other_are_not(store):
    first = freeze(store, pair("a"), pair("b"))
    assert freeze(store, pair("a"), pair("b")) == first
    others = [
        freeze(store, pair("b"), pair("a")),
        freeze(store, pair("a")),
        freeze(store, pair("a"), pair("b", chosen="4")),
        freeze(store, pair("a"), pair("b", rejected="4")),
        freeze(store, pair("a"), pair("b", confidence=0.5)),
        freeze(store, pair("a"), replace(pair("b"), details={})),
        freeze(store, pair("a"), replace(pair("b"), prompt=PROMPT[1:])),
        freeze(store, pair("a"), pair("b"), settings={"cap": 2}),
        freeze(store, pair("a"), pair("b"), task=classify(["x", "y"], "Which?")),
    ]
    assert [made.version for made in others] == list(range(2, 11))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (pair(chosen="3"), "prefers an answer to itself"),
        (pair(chosen=" "), "empty answer"),
        (pair(rejected=""), "empty answer"),
        (pair(confidence=1.5), "confidence 1.5"),
        (pair(confidence=float("nan")), "confidence nan"),
        (replace(pair(), prompt=()), "no prompt"),
        (pair("zz"), "'zz' is not in the store"),
    ],
)
def test_a_pair_that_teaches_nothing_is_refused_and_nothing_is_written(store, bad, message):
    with pytest.raises(InputError, match=message):
        freeze(store, pair("a"), bad)
    assert store.datasets() == []


def test_no_pairs_are_no_version(store):
    with pytest.raises(InputError, match="not one preference pair"):
        freeze(store)


def test_a_text_that_no_encoding_knows_is_kept_as_far_as_it_can_be(store):
    freeze(store, pair("a", chosen="two \ud83d", rejected="3"))
    assert next(read_preferences(store, 1)).chosen == "two \N{REPLACEMENT CHARACTER}"
