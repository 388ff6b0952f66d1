"""Splitting one large JSON array into its elements."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator.sources.arrays import elements
from curator.sources.base import BadRow

KEYS = st.text('a"]}', max_size=3)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(alphabet='ab"\\{}[],日\n', max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text('a"]}', max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text(alphabet='k"{', max_size=3), JSON, max_size=4), max_size=6)


def pieces(raw: bytes, size: int) -> Iterator[bytes]:
    return (raw[start : start + size] for start in range(0, len(raw), size))


@given(rows=OBJECTS, size=st.integers(1, 9), indent=st.sampled_from([None, 1]), ascii_only=st.booleans())
def test_every_array_is_split_into_its_elements(
    rows: list[object], size: int, indent: int | None, ascii_only: bool
) -> None:
    raw = json.dumps(rows, indent=indent, ensure_ascii=ascii_only).encode()
    found = [json.loads(element) for element in elements(pieces(raw, size), 10_000) if isinstance(element, bytes)]
    assert found == rows


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_broken_element_is_only_itself(size: int) -> None:
    raw = b'[{"a": 1}, {"a": oops}, 12, "str", {"a": 3}]'
    found = list(elements(pieces(raw, size), 1000))
    assert [item for item in found if isinstance(item, bytes)] == [b'{"a": 1}', b'{"a": oops}', b'{"a": 3}']
    assert [item.reason for item in found if isinstance(item, BadRow)] == ["row.not_object"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_element_that_is_never_closed_does_not_take_the_others(size: int) -> None:
    raw = b'[{"a": 1}, {"a": [2}, {"a": 3}, {"a": 4}]'
    found = list(elements(pieces(raw, size), 1000))
    assert found == [b'{"a": 1}', b'{"a": [2}', b'{"a": 3}', b'{"a": 4}']


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("filler", ["x", '\\"', "\\\\", "{", "日"])
def test_a_large_element_is_skipped_without_being_held(size: int, filler: str) -> None:
    raw = ('[{"a": 1}, {"a": ["' + filler * 400 + '", {"b": 1}, {"b": 2}]}, {"a": 3}]').encode()
    found = list(elements(pieces(raw, size), 100))
    assert [item.reason if isinstance(item, BadRow) else item for item in found] == [
        b'{"a": 1}',
        "row.too_large",
        b'{"a": 3}',
    ]


def test_a_file_that_ends_early_gives_what_is_whole() -> None:
    found = list(elements(iter([b'[{"a": 1}, {"a": 2}, {"a": "thr']), 1000))
    assert found[:2] == [b'{"a": 1}', b'{"a": 2}']
    assert [item.reason for item in found if isinstance(item, BadRow)] == ["row.invalid_json"]
