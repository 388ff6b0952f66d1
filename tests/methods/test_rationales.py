"""curator/methods/rationales.py: steps that calculate wrongly."""

from __future__ import annotations

import pytest

from curator.methods.rationales import wrong_steps


@pytest.mark.parametrize(
    "text",
    [
        "3 * 4 = 12",
        "3x4 = 12 and 5 × 2 = 10",
        "16 - 3 - 4 = 9 duck eggs a day",
        "$80,000+$50,000=$130,000",
        "x = 3*4 = 12",
        "10/3 = 3.33",
        "20% * 50 = 10",
        "0.2 * 100 = 20%",
        "1/5 = 20%",
        "<<12*3=36>>36",
        r"\(16 - 3 = 13\)",
        r"\frac{10}{2} = 5",
        r"16 \times 2 = 32",
        "(3+4)*2 = 14",
        "4 * 5 = 20 = 21 - 1",
        "5 - 10 = -5",
        # Not all of these sides can be read, so nothing is said about them.
        "2x + 3 = 8",
        "20 eggs * 2 = 41",
        "2^3 = 9",
        "3 + 4 = 7 * x",
        "a3 * 4 = 13",
        "5 - 1 - 1/2 = 3 1/2",
        "1/0 = 5",
        "5 = 6",
        "He is 5.\n= 6",
    ],
)
def test_right_steps_and_what_is_no_step(text):
    assert wrong_steps(text) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("3 * 4 = 13", ["3 * 4 = 13"]),
        ("3 x 4 = 13", ["3*4 = 13"]),
        ("10/3 = 3", ["10/3 = 3"]),
        ("10/3 = 3.34", ["10/3 = 3.34"]),
        ("<<12*3=37>>37", ["12*3 = 37"]),
        (r"\(16 - 3 = 12\)", ["16 - 3 = 12"]),
        ("First 2 + 2 = 4.\nThen 4 * 4 = 12.", ["4 * 4 = 12"]),
        ("2 + 2 = 5 = 5", ["2 + 2 = 5"]),
        ("$5 * 3 = $16", ["$5 * 3 = $16"]),
    ],
)
def test_wrong_steps_are_named(text, wrong):
    assert wrong_steps(text) == wrong


def test_a_long_line_is_looked_at_in_time():
    assert wrong_steps("1 + " * 20_000 + "= 3") == []
