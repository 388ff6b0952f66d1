"""curator/parsing.py: a model's text as normalised values; what cannot be read is missing."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from curator.fields import Reasoning, read_fields
from curator.parsing import (
    MISSING,
    last_object,
    normalise_number,
    normalise_text,
    parse_answer,
    parse_json,
    read_value,
)


class Receipt(BaseModel):
    total: float
    shop: str | None
    kind: Literal["food", "fuel"]
    paid: bool
    why: Annotated[str, Reasoning()]


FIELDS = read_fields(Receipt, "")


def test_json_with_talk_around_it():
    text = 'Sure! {"total": 1} is wrong. {"total": "1,200.50", "shop": "ACME Ltd.", "kind": "Fuel", "paid": true}!'
    assert parse_json(text, FIELDS) == {
        "total": "1200.5",
        "shop": "acme ltd",
        "kind": "fuel",
        "paid": True,
        "why": MISSING,
    }


@pytest.mark.parametrize("text", ["", "I cannot help with that.", '{"total": 1', "{]}", "\x00", "null", "[1, 2]"])
def test_garbage_is_missing_never_a_class(text):
    assert set(parse_json(text, FIELDS).values()) == {MISSING}


def test_a_label_outside_the_set_is_missing_and_null_is_a_value_of_optional_fields_only():
    found = parse_json('{"total": null, "shop": null, "kind": "water", "paid": "maybe", "why": "y"}', FIELDS)
    assert found == {"total": MISSING, "shop": None, "kind": MISSING, "paid": MISSING, "why": "y"}


def test_one_is_not_true():
    assert parse_json('{"paid": 1}', FIELDS)["paid"] == MISSING


class Sum(BaseModel):
    why: Annotated[str, Reasoning()]
    answer: int


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("2 and 3 make 5.\nAnswer: 5", "5"),
        ("The answer is $1,234.00.", "1234"),
        ("Answer: 3\nNo, wait.\nFinal answer: -7", "-7"),
        ("first 3, then 12 apples", "12"),
        ("no number at all", MISSING),
    ],
)
def test_the_final_answer_of_free_text(text, answer):
    found = parse_answer(text, read_fields(Sum, ""))
    assert found == {"why": text.strip(), "answer": answer}


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-1_000_000, max_value=1_000_000, places=4))
def test_numbers_have_one_spelling(number):
    assert normalise_number(f"it is {number:,} in all") == normalise_number(f"{number}0")


@given(st.text())
def test_normalising_text_twice_changes_nothing(text):
    once = normalise_text(text)
    assert normalise_text(once) == once


@given(st.text())
def test_any_text_at_all_is_read_without_a_crash(text):
    assert isinstance(last_object(text), dict)
    assert set(parse_json(text, FIELDS)) == {"total", "shop", "kind", "paid", "why"}


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("12.50", ["12.5", "12.50", MISSING, MISSING]),
        (3.0, ["3", "3", MISSING, MISSING]),
        (None, [MISSING, None, MISSING, MISSING]),
        ("Fuel", [MISSING, "fuel", "fuel", MISSING]),
        (True, [MISSING, "yes", MISSING, True]),
        ([1], [MISSING, MISSING, MISSING, MISSING]),
    ],
)
def test_a_written_value_is_read_as_an_answer_is(written, values):
    assert [read_value(item, written) for item in FIELDS[:4]] == values
