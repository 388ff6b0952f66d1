"""curator/equivalence/quantities.py: numbers as models write them, read exactly."""

from __future__ import annotations

from fractions import Fraction

import pytest

from curator.equivalence.quantities import Quantity, read_option, read_quantity, shown, tidy


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", "18"),
        ("$1,200", "1200"),
        ("1 200", "1200"),
        ("1200.00.", "1200"),
        (r"\$18.50", "18.5"),
        (r"\( 18 \)", "18"),
        ("**18**", "18"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("−3", "-3"),
        (".5", "0.5"),
        ("1/2", "0.5"),
        (r"\frac{1}{2}", "0.5"),
        (r"\frac12", "0.5"),
        (r"$\boxed{\frac{1}{2}}$", "0.5"),
        ("½", "0.5"),
        ("1½", "1.5"),
        ("1 1/2", "1.5"),
        ("10/3", "10/3"),
        ("1e3", "1000"),
        (r"3 \times 10^{4}", "30000"),
        ("x = 5", "5"),
        ("5 million dollars", "5000000"),
        ("2 dozen", "24"),
        ("12 apples", "12"),
        ("18 eggs per day", "18"),
        ("5 m/s", "5"),
    ],
)
def test_numbers_as_they_are_written(text, value):
    found = read_quantity(text)
    assert found is not None
    assert shown(found.value) == value


@pytest.mark.parametrize(
    "text",
    [
        *("3:30", "2:1", "12,34", "1,2,3", "x^2+1", "9**9**9", "10^{10}", "(1,2)", "20 - 5 = 15", "5x", "5k", "1/0"),
        *("5 and a half", "3 feet 6 inches", "12 apples and 3 pears", "two", "A robe", "9" * 200, ""),
    ],
)
def test_what_is_no_single_number_is_not_guessed_at(text):
    assert read_quantity(text) is None


def test_percent_signs_and_measures_are_kept_apart_from_the_number():
    assert read_quantity("50%") == Quantity(Fraction(50), percent=True)
    assert read_quantity("50 percent") == read_quantity(r"50\%") == Quantity(Fraction(50), percent=True)
    assert read_quantity("90 Minutes.") == Quantity(Fraction(90), unit="minute")
    assert read_quantity("$0.50") == Quantity(Fraction(1, 2), unit="$")
    assert read_quantity("12 apples") == Quantity(Fraction(12))


def test_measures_are_comparable_in_their_base_unit():
    measured = [
        found.measured for text in ("1.5 hours", "90 min", "50 cents", "$0.5") if (found := read_quantity(text))
    ]
    assert measured[0] == measured[1] == ("time", Fraction(5400))
    assert measured[2] == measured[3] == ("money", Fraction(1, 2))
    apples = read_quantity("12 apples")
    assert apples is not None
    assert apples.measured is None


@pytest.mark.parametrize("text", ["B", "(B)", "b.", "[b]", "B)", "Option B", "B) 12 apples", "(B) Paris", "B: 12"])
def test_options_by_their_letter(text):
    assert read_option(text) == "B"


@pytest.mark.parametrize("text", ["A robe", "BC", "12", "", "be"])
def test_words_are_no_options(text):
    assert read_option(text) is None


def test_rationals_are_shown_as_decimals_where_they_end():
    cases = {Fraction(1, 8): "0.125", Fraction(-7, 2): "-3.5", Fraction(2, 6): "1/3", Fraction(10**20): "1" + "0" * 20}
    assert {value: shown(value) for value in cases} == cases


def test_tidy_takes_markup_away_but_no_meaning():
    assert tidy(" `Paris`.\n") == "Paris"
    assert tidy("$x^2$") == "x^2"
    assert tidy("$5") == "$5"
    assert tidy("(1,200)") == "1,200"
    assert tidy("(x,y)") == "(x,y)"
