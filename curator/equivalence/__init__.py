"""Which final answers are the same: by value, never by string.

| module | what it holds |
|---|---|
| `quantities` | numbers, fractions, percentages, money, measures and options, read exactly |
| `symbolic` | expressions, sets and intervals, compared by `math-verify` in a process of its own |
| `finals` | the final answer of a generated text, as it was written |

`classes` puts the answers to one question into classes, and gives each class one form, so that whatever votes on
strings (`curator.votes`) votes on values.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import lru_cache

from curator.equivalence.quantities import Quantity, read_option, read_quantity, shown, tidy
from curator.equivalence.symbolic import is_expression, same_expression
from curator.parsing import normalise_text

Same = Callable[[str, str], bool]
_ASKED = re.compile(r"[^.!?]*\?")
_GIVEN_SHARE = re.compile(r"\d[\d.,]*\s*(?:%|per ?cent\b|percent\b)", re.IGNORECASE)
_SHARE = re.compile(r"%|\bper ?cent\b|\bpercent(?:age)?\b", re.IGNORECASE)


def classes(answers: Sequence[str | None], question: str = "", *, same: Same = same_expression) -> list[str | None]:
    """The form of each answer's class, None for a missing one; equal forms are equal answers.

    Numbers are equal by value: `1/2`, `0.5` and `2/4`; `$1,200` and `1200`. What is counted does not matter (`12
    apples` is `12`), measures of one kind are converted (`90 minutes` is `1.5 hours`; `90` is either). A percentage
    is a share, `50%` is `0.5`, unless the question asks for a percentage: then `50%` is `50`, and `0.5` is half a
    percent. Options are equal by letter, expressions if `same` says so, any other text after folding case and
    punctuation. The form of a class is that of its most frequent member (the shortest of equals).

    Raises: MissingExtraError from `same`, where two answers are expressions.
    """
    counts = Counter(answer for answer in answers if answer is not None)
    found = _Classes(asks_percentage(question), same)
    # In an order of their own, so that the classes do not depend on that of the samples.
    for answer in sorted(counts, key=lambda text: (-counts[text], len(text), text)):
        found.add(answer)
    return [None if answer is None else found.form(answer) for answer in answers]


def equal(left: str | None, right: str | None, question: str = "") -> bool:
    """Whether two final answers to a question are the same; a missing one equals nothing."""
    if left is None or right is None:
        return False
    first, second = classes([left, right], question)
    return first == second


def asks_percentage(question: str) -> bool:
    """Whether the answer is to be a percentage: the sentences that ask say so, beside any share that they give."""
    asked = " ".join(_ASKED.findall(question)) or question
    return bool(_SHARE.search(_GIVEN_SHARE.sub(" ", asked)))


@lru_cache(maxsize=65_536)
def _read(answer: str) -> Quantity | str | None:
    """An answer as a quantity, as an option's letter, or None: parsed once, however many samples gave it."""
    return read_quantity(answer) or read_option(answer)


@dataclass(slots=True)
class _Classes:
    """The classes of one question's answers, which are added the most frequent first."""

    percentage: bool
    same: Same
    forms: dict[str, str] = field(default_factory=dict)
    numbers: list[tuple[Quantity, str]] = field(default_factory=list)
    expressions: list[tuple[str, str]] = field(default_factory=list)

    def form(self, answer: str) -> str:
        return self.forms[answer]

    def add(self, answer: str) -> None:
        read = _read(answer)
        if isinstance(read, Quantity):
            self.forms[answer] = self._number(self._asked(read))
        elif read is not None:
            self.forms[answer] = read
        else:
            self.forms[answer] = self._text(answer)

    def _asked(self, quantity: Quantity) -> Quantity:
        """The quantity in what the question asks for."""
        if not quantity.percent:
            return quantity
        value = quantity.value if self.percentage else quantity.value * Fraction(1, 100)
        return replace(quantity, value=value, percent=False)

    def _number(self, quantity: Quantity) -> str:
        found = next((form for other, form in self.numbers if _same_amount(quantity, other)), None)
        plain = shown(quantity.value)
        # 5 cm beside 5 m is another answer with the same number.
        form = found or (f"{plain} {quantity.unit}" if any(form == plain for _, form in self.numbers) else plain)
        self.numbers.append((quantity, form))
        return form

    def _text(self, answer: str) -> str:
        plain = tidy(answer)
        if not is_expression(plain):
            return normalise_text(plain)
        numbers = [(shown(other.value), form) for other, form in self.numbers]
        known = next((form for other, form in (*self.expressions, *numbers) if self.same(plain, other)), plain)
        self.expressions.append((plain, known))
        return known


def _same_amount(left: Quantity, right: Quantity) -> bool:
    """By measure where both have one of the same kind, else by the number as it was written."""
    mine, other = left.measured, right.measured
    if mine and other and mine[0] == other[0]:
        return mine[1] == other[1]
    return left.value == right.value and not (mine and other)
