"""The reader's rules: what counts as left out, and what a complaint shows."""

from __future__ import annotations

import pytest

from cascade.wire.reading import FieldError, Fields, json_text, plain_text, wrong

FIELDS = Fields({"a": None, "text": "t", "one": 1, "yes": True, "list": [{"b": 2}], "inner": {"c": 3}}, "q[0]")


def test_null_counts_as_left_out():
    assert FIELDS.text("a") is FIELDS.flag("a") is FIELDS.whole("a", 0, 9) is FIELDS.number("a", 0, 9) is None
    assert FIELDS.inner("a") is None
    assert FIELDS.items("a") == FIELDS.objects("a") == []
    assert FIELDS.others({"text", "one", "yes", "list"}) == {"inner": {"c": 3}}


def test_inner_values_know_where_they_stand():
    (item,) = FIELDS.objects("list")
    assert (item.path, item.at("b")) == ("q[0].list[0]", "q[0].list[0].b")
    assert FIELDS.need_inner("inner").at("c") == "q[0].inner.c"
    assert len(FIELDS.at("k" * 500)) < 100


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "not true"),
        (3, "not 3"),
        (0, "not 0"),
        (2.5, "not 2.5"),
        ("secret words", "not a string"),
        ("", "not empty"),
        ([1], "not a list"),
        ({"a": "secret"}, "not an object"),
        (None, "is missing"),
    ],
)
def test_a_complaint_never_repeats_a_clients_text(value, shown):
    told = str(wrong("field", "something else", value))
    assert told.startswith("field ")
    assert shown in told
    assert "secret" not in told


def test_a_boolean_is_no_number():
    for read in (FIELDS.whole, FIELDS.number):
        with pytest.raises(FieldError, match=r"q\[0\].yes must be a .*number from 0 to 9, not true"):
            read("yes", 0, 9)


def test_what_asks_for_nothing_is_not_refused():
    Fields({"a": None, "b": False, "c": 0, "d": "", "e": []}).refuse("abcde", "it is new")
    with pytest.raises(FieldError, match="d is not supported here: it is new"):
        Fields({"d": "x"}).refuse("abcde", "it is new")


def test_structured_values_are_compact_json_in_their_own_order():
    assert plain_text({"b": [1, "é"], "a": None}, "state") == '{"b":[1,"é"],"a":null}'
    assert plain_text("as it is", "state") == "as it is"
    assert plain_text(None, "state") == ""


def test_what_is_nested_too_deep_is_named():
    deep: object = 1
    for _ in range(300):
        deep = [deep]
    with pytest.raises(FieldError, match="state is nested too deep"):
        json_text(deep, "state")
