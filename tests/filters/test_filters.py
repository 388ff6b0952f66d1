"""Building filters from a mapping, naming them, and applying them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator.errors import ConfigError
from curator.filters import build_filters, judge, settings_hash
from curator.sources import open_source
from curator.types import Document, Json, Verdict

OWN = "from curator.types import Verdict\ndef polite(document):\n    return 'damn' not in document.text\n"


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own_filters.py").write_text(OWN)
    return f"{tmp_path}/own_filters.py:polite"


def test_filters_are_built_cheap_ones_first_own_ones_last(own: str) -> None:
    config: dict[str, Json] = {"polite": own, "language": {"allowed": ["en"]}, "repetition": True, "length": {}}
    assert [name for name, _ in build_filters(config)] == ["length", "repetition", "language", "polite"]


def test_a_filter_may_be_switched_off(own: str) -> None:
    assert build_filters({"length": False, "polite": False}) == []


def test_the_first_filter_that_rejects_decides(own: str) -> None:
    filters = build_filters({"length": {"min_chars": 5}, "polite": own})
    documents = [Document("a", "damn"), Document("b", "damn it"), Document("c", "well, well")]
    assert [(name, stage, verdict.reason) for name, stage, verdict in judge(filters, documents)] == [
        ("a", "length", "length.too_short"),
        ("b", "polite", "filter.polite"),
    ]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"lenght": {}}, "unknown filter 'lenght' (did you mean 'length'?"),
        ({"mine": True}, 'mine = "module:function"'),
        ({"mine": "no colon"}, "unknown filter 'mine'"),
        ({"length": {"min_char": 1}}, "filter 'length' has no setting 'min_char' (did you mean 'min_chars'?"),
        ({"length": 5}, "give a table of settings, true or false"),
        ({"length": {"min_chars": 5, "max_chars": 4}}, "the minimum 5 is above the maximum 4"),
        ({"length": {"min_words": "5", "max_words": 4}}, "filter 'length'"),
        ({"repetition": {"top_ngrams": {"two": 0.1}}}, "give limits by n"),
        ({"repetition": {"top_ngrams": {"0": 0.1}}}, "an n below 1"),
        ({"repetition": {"character_runs": 20}}, "not a share between 0 and 1"),
        ({"language": {"allowed": ["english"]}}, "unknown code 'english'"),
        ({"language": {"allowed": "en"}}, "give a list of codes"),
        ({"language": {"allowed": []}}, "give a list of codes"),
        ({"mine": "no_such_module:f"}, "there is no module 'no_such_module'"),
    ],
)
def test_a_wrong_table_is_a_config_error(config: dict[str, Json], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_filters(config)
    assert message in str(caught.value)


@given(st.permutations(["length", "repetition", "dedup"]))
def test_the_hash_does_not_depend_on_the_order(names: list[str]) -> None:
    config: dict[str, Json] = {"length": {"min_chars": 1, "max_chars": 9}, "repetition": True, "dedup": {"near": 0.8}}
    assert settings_hash({name: config[name] for name in names}) == settings_hash(config)


def test_the_hash_names_what_is_rejected() -> None:
    base = settings_hash({"length": {"min_chars": 1}})
    assert len(base) == 16
    assert settings_hash({"length": {"min_chars": 1, "max_words": None}, "language": False}) == base
    assert settings_hash({"repetition": {}}) == settings_hash({"repetition": True})
    different = [{}, {"length": {"min_chars": 2}}, {"length": {"min_chars": 1}, "dedup": {"near": 0.9}}]
    assert len({base, *(settings_hash(config) for config in different)}) == 4


def test_the_hash_changes_with_a_users_filter(tmp_path: Path, own: str) -> None:
    before = settings_hash({"polite": own})
    assert settings_hash({"polite": own}) == before
    (tmp_path / "own_filters.py").write_text(OWN + "# edited\n")
    assert settings_hash({"polite": own}) != before


def test_defaults_keep_nearly_all_of_a_real_corpus(shared_data: Path) -> None:
    """Bounds, not exact figures: a new version of the identifier may tell a few messages otherwise."""
    filters = build_filters({"language": True, "repetition": True})
    messages = [
        document for batch in open_source(shared_data / "sms_spam" / "test.jsonl").batches() for document in batch
    ]
    rejected = list(judge(filters, messages))
    assert len(rejected) <= len(messages) // 100
    assert all(isinstance(verdict, Verdict) and not verdict.keep for _, _, verdict in rejected)
