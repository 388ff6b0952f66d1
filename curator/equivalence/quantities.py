"""Final answers that are read exactly, without algebra: numbers, fractions, percentages, money, measures, options.

Exact rationals, never floats: 1/3 is not 0.3333. What is none of these (an expression, an interval, a short text)
is `None` here, and `curator.equivalence` asks elsewhere.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

LONGEST: Final = 120
"""Characters of the longest text that is read as a quantity; no exponent can make a number larger than it looks."""

MEASURES: Final[dict[str, tuple[str, Fraction]]] = {
    name: (kind, Fraction(scale))
    for kind, units in {
        "length": {
            "mm millimeter millimetre": "1/1000",
            "cm centimeter centimetre": "1/100",
            "m meter metre": "1",
            "km kilometer kilometre": "1000",
        },
        "imperial length": {"inch inche in": "1", "foot feet ft": "12", "yard yd": "36", "mile mi": "63360"},
        "mass": {"mg milligram": "1/1000", "g gram": "1", "kg kilogram": "1000"},
        "imperial mass": {"ounce oz": "1", "pound lb": "16"},
        "time": {
            "second sec s": "1",
            "minute min": "60",
            "hour hr h": "3600",
            "day": "86400",
            "week": "604800",
        },
        "volume": {"ml milliliter millilitre": "1/1000", "l liter litre": "1"},
        "money": {"cent ¢": "1/100", "dollar usd $": "1"},
    }.items()
    for names, scale in units.items()
    for name in names.split()
}
"""Unit in the singular -> (what it measures, how many of the base unit). Any other word behind a number is what is
counted ("12 apples"), and is not compared. Months and years are no fixed number of days."""

_NUMBER = r"(?:\d{1,3}(?:[,\u00a0\u202f' ]\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_FRACTION = rf"(?:{_NUMBER})\s*/\s*(?:{_NUMBER})"
_QUANTITY = re.compile(
    rf"(?:[a-z]\w*\s*=\s*)?(?P<sign>[-+−])?\s*(?P<money>[$€£¥])?\s*(?P<inner>[-+−])?\s*"
    rf"(?:(?P<whole>\d+)\s+(?P<part>\d+\s*/\s*\d+)|(?P<ratio>{_FRACTION})|(?P<number>{_NUMBER})"
    r"(?:\s*(?:[eE]|(?:\*|x|×|\\times|\\cdot)\s*10\s*(?:\^|\*\*))\s*\{?(?P<power>[-+]?\d{1,3})\}?)?)"
    r"\s*(?P<percent>%|percent\b|per cent\b|pct\b)?\s*(?P<unit>\D*)",
    re.IGNORECASE,
)
_OPTION = re.compile(r"(?:option|choice)?\s*[(\[]?([a-z])(?:[)\].:]+(?:\s+\S.*)?)?", re.IGNORECASE)
_UNIT = re.compile(r"[^\W\d_][\w\s./²³°'()-]*|[¢$€£°]?", re.IGNORECASE)
_LATEX: Final = (
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r" \1/\2"),
    (re.compile(r"\\[dt]?frac\s*(\d)\s*(\d)"), r" \1/\2"),
    (re.compile(r"\\(?:boxed|text|textbf|mathrm|mbox)\s*\{([^{}]*)\}"), r" \1"),
    (re.compile(r"\\[,;! ]|\\(?:left|right)(?![a-z])|\\[()\[\]]"), " "),
    (re.compile(r"\\([%$])"), r"\1"),
)
_SCALES: Final = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "dozen": 12}
_NO_UNITS: Final = {
    *("and", "or", "to", "half", "quarter", "third", "plus", "minus", "times", "remainder", "r", "k", "pi", "sqrt"),
    *("x", "y", "z", "n", "a", "b", "c", "p", "q", "t", "i", "e"),
}
"""Words that change the number they stand behind, and the letters of algebra."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number as it was written, and what it counts: `percent` says that a percent sign stood behind it, `unit` is
    one of `MEASURES`, "" for anything else."""

    value: Fraction
    percent: bool = False
    unit: str = ""

    @property
    def measured(self) -> tuple[str, Fraction] | None:
        """(what is measured, how much in the base unit), None where the unit is no measure."""
        if self.unit not in MEASURES:
            return None
        kind, scale = MEASURES[self.unit]
        return kind, self.value * scale


def read_quantity(text: str) -> Quantity | None:
    """The one number that `text` is, None where it is anything else."""
    plain = tidy(text)
    found = _QUANTITY.fullmatch(plain) if len(plain) <= LONGEST else None
    if found is None:
        return None
    unit = found["unit"].strip(" .,:;!")
    words = re.findall(r"[^\W\d_]+", unit.casefold())
    scale = _SCALES.get(words[0].removesuffix("s"), 1) if words else 1
    counted = words[1:] if scale != 1 else words
    if not _UNIT.fullmatch(unit) or _NO_UNITS.intersection(counted) or (scale == 1 and set(words) & {*_SCALES}):
        return None
    value = _value(found)
    if value is None:
        return None
    measure = "$" if found["money"] == "$" and not counted else _measure(" ".join(counted) or unit)
    return Quantity(value * scale, found["percent"] is not None, measure)


def read_option(text: str) -> str | None:
    """The letter (capital) of a multiple-choice answer: "(B)", "b.", "Option B", "B) 12 apples"."""
    found = _OPTION.fullmatch(tidy(text))
    return found[1].upper() if found else None


def tidy(text: str) -> str:
    """One line without markup: no Markdown, no LaTeX around plain numbers, no final punctuation."""
    apart = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)
    plain = " ".join(unicodedata.normalize("NFKC", apart).replace("⁄", "/").split())
    for pattern, into in _LATEX:
        plain = pattern.sub(into, plain)
    plain = re.sub(r"(?<!\w)\*\*|\*\*(?!\w)", "", plain).lstrip(" `\"'“").rstrip(" `\"'”.,;:!")
    # Dollar signs around a formula are LaTeX's; a single one is money.
    if plain.count("$") > 1 and plain.startswith("$") and plain.endswith("$"):
        plain = plain[1:-1]
    return re.sub(r"^[-+]?\s*\((.*)\)$", r"\1", plain) if re.fullmatch(r"\([-+]?[\d.,/]+\)", plain) else plain.strip()


def shown(value: Fraction) -> str:
    """A rational as a decimal where it ends ("0.5", "1200"), else as a fraction in lowest terms ("1/3")."""
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    places = max(twos, fives)
    if not places:
        return str(value.numerator)
    digits = f"{abs(value.numerator) * 10**places // value.denominator:0{places + 1}d}"
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def _value(found: re.Match[str]) -> Fraction | None:
    try:
        if found["whole"]:
            value = Fraction(found["whole"]) + _ratio(found["part"])
        elif found["ratio"]:
            value = _ratio(found["ratio"])
        else:
            value = _number(found["number"]) * Fraction(10) ** int(found["power"] or 0)
    except ZeroDivisionError:
        return None
    signs = (found["sign"] or "") + (found["inner"] or "")
    return -value if signs in ("-", "−") else value


def _ratio(text: str) -> Fraction:
    above, _, below = text.partition("/")
    return _number(above) / _number(below)


def _number(text: str) -> Fraction:
    return Fraction(re.sub(r"[,\s\u00a0\u202f']", "", text))


def _measure(unit: str) -> str:
    """A unit as `MEASURES` has it, "" where it is none of them."""
    name = unit.casefold().strip(" .")
    return next((form for form in (name, name.removesuffix("s")) if form in MEASURES), "")
