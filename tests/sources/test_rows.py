"""Raw rows to documents: text templates, ids, meta, and the reasons of rows that are no documents."""

from __future__ import annotations

import datetime
import decimal
import math
import uuid
from collections.abc import Mapping

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curator.sources.base import BadRow, Reading, Row
from curator.sources.rows import RowMapper, content_id, json_safe
from curator.types import Document, Json


def mapped(values: Mapping[str, object], **settings: object) -> Document | BadRow:
    return RowMapper.of(Reading(**settings)).document(Row(3, values))  # type: ignore[arg-type]


def reason(values: Mapping[str, object], **settings: object) -> str:
    found = mapped(values, **settings)
    assert isinstance(found, BadRow)
    assert found.number == 3
    return found.reason


def test_a_template_composes_the_text_from_columns() -> None:
    values = {"question": "why?", "choices": ["a", "b"], "n": 3, "rest": True}
    found = mapped(values, text="{question}\n{choices} {{{n}}}")
    assert isinstance(found, Document)
    assert found.text == 'why?\n["a","b"] {3}'
    assert found.meta == {"rest": True}


def test_a_template_needs_all_of_its_columns() -> None:
    assert reason({"question": "why?"}, text="{question} {context}") == "row.missing_text"
    assert reason({"question": "why?", "context": None}, text="{question} {context}") == "row.missing_text"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "row.missing_text"),
        ({"text": None}, "row.missing_text"),
        ({"text": ""}, "row.missing_text"),
        ({"text": " \n\t"}, "row.missing_text"),
        ({"text": 12}, "row.not_text"),
        ({"text": ["a"]}, "row.not_text"),
        ({"text": b"bytes"}, "row.not_text"),
        ({"text": "a\x00b"}, "row.nul"),
        ({"text": "a", "id": "a\x00b"}, "row.nul"),
        ({"text": "a \ud800 b"}, "row.encoding"),
        ({"text": "x" * 101}, "row.too_large"),
        ({"text": "日" * 34}, "row.too_large"),
        ({"text": "a", "id": ["a"]}, "row.invalid_id"),
        ({"text": "a", "id": True}, "row.invalid_id"),
        ({"text": "a", "id": "x" * 600}, "row.invalid_id"),
    ],
)
def test_a_bad_row_has_a_reason(values: dict[str, object], expected: str) -> None:
    assert reason(values, max_row_bytes=100) == expected


@pytest.mark.parametrize("value", [None, "", math.nan])
def test_an_id_column_that_was_asked_for_must_be_there(value: object) -> None:
    assert reason({"text": "a", "key": value}, id="key") == "row.missing_id"
    assert reason({"text": "a"}, id="key") == "row.missing_id"


@pytest.mark.parametrize(
    ("value", "expected"),
    [("k", "k"), (7, "7"), (7.0, "7"), (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001")],
)
def test_ids_become_strings(value: object, expected: str) -> None:
    found = mapped({"text": "a", "id": value})
    assert isinstance(found, Document)
    assert found.id == expected


def test_an_id_column_may_be_switched_off() -> None:
    found = mapped({"text": "a", "id": "k"}, id="")
    assert isinstance(found, Document)
    assert found.id == content_id("a", {"id": "k"})
    assert found.meta == {"id": "k"}


META = st.dictionaries(
    st.text(max_size=5), st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text(max_size=5))
)


def canonical(meta: dict[str, Json]) -> bytes:
    return orjson.dumps(meta, option=orjson.OPT_SORT_KEYS)


@given(text=st.text(max_size=20), other=st.text(max_size=20), meta=META, more=META)
def test_content_ids_depend_on_content_only(
    text: str, other: str, meta: dict[str, Json], more: dict[str, Json]
) -> None:
    assert content_id(text, meta) == content_id(text, dict(reversed(list(meta.items()))))
    same = (text, canonical(meta)) == (other, canonical(more))
    assert (content_id(text, meta) == content_id(other, more)) is same


def test_values_become_json() -> None:
    values = {
        "day": datetime.date(2024, 2, 29),
        "at": datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC),
        "span": datetime.timedelta(minutes=1),
        "nan": math.nan,
        "inf": [math.inf, {"deep": -math.inf}],
        "money": decimal.Decimal("1.10"),
        "nothing": decimal.Decimal("NaN"),
        "raw": b"\xff",
        "wide": 2**70,
        "set": {1},
        "scalar": np.float32(0.5),
        "half": "\ud800",
        3: (1, None, True),
    }
    safe = json_safe(values)
    assert safe == {
        "day": "2024-02-29",
        "at": "2024-02-29T12:00:00+00:00",
        "span": 60.0,
        "nan": None,
        "inf": [None, {"deep": None}],
        "money": "1.10",
        "nothing": None,
        "raw": "/w==",
        "wide": str(2**70),
        "set": [1],
        "scalar": 0.5,
        "half": "\\ud800",
        "3": [1, None, True],
    }
    assert orjson.loads(orjson.dumps(safe)) == safe
