"""Arithmetic inside a rationale, checked exactly: `12 * 3 = 36`, and GSM8K's `<<12*3=36>>`.

An answer may be right by luck; a step that calculates wrongly shows it. Only what is written out as numbers,
operators and a result is checked: a rationale without a wrong step is not thereby right.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import Final

LONGEST: Final = 400
"""Characters of a line that are looked at: no step is longer."""

_NUMBER: Final = r"-?[$€£]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?%?|-?[$€£]?\.\d+%?"
_SIDE: Final = rf"\(*(?:{_NUMBER})\)*(?:\s*[-+*/]\s*\(*(?:{_NUMBER})\)*)*"
_LEFT = re.compile(rf"({_SIDE})\s*$")
_RIGHT = re.compile(rf"\s*({_SIDE})(?!\w)")
_CALCULATOR = re.compile(r"<<[^<>]*>>")
_PLAIN: Final = (
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"(\1)/(\2)"),
    (re.compile(r"\\(?:times|cdot)|[×⋅·]|(?<=[\d)%])\s*[xX]\s*(?=[\d($])"), "*"),
    (re.compile(r"\\div|÷"), "/"),
    (re.compile(r"\\[()\[\],]|\\(?=[$%])|[*_`]{2,}"), " "),
    (re.compile(r"[−–]"), "-"),
)
_BEFORE: Final = frozenset("+-*/^(=<>,")
_OPERATORS: Final[dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def wrong_steps(text: str) -> list[str]:
    """The steps of a rationale whose two sides differ, as they are written.

    Both sides of `=` must be numbers with `+ - * /`, and one of them a calculation. A result that is rounded to the
    decimals it shows is right; a percentage counts as the share and as the number of percent.
    """
    return [f"{left.strip()} = {right.strip()}" for left, right in _steps(text) if not _holds(left, right)]


def _steps(text: str) -> Iterator[tuple[str, str]]:
    """(left side, right side) of every step that can be checked."""
    inside = [note[2:-2] for note in _CALCULATOR.findall(text)]
    for line in [*_CALCULATOR.sub(" ", text).splitlines(), *inside]:
        for pattern, into in _PLAIN:
            line = pattern.sub(into, line)
        for left, right in pairwise(line[:LONGEST].split("=")):
            first, second = _LEFT.search(left), _RIGHT.match(right)
            if first and second and _alone(left[: first.start()], right[second.end() :]):
                yield first[1], second[1]


def _alone(before: str, after: str) -> bool:
    """Whether nothing around the two sides belongs to them: a word, or an operator towards something unread."""
    if before[-1:].isalnum() or before.rstrip()[-1:] in _BEFORE:
        return False
    return not re.match(r"\s*[*/^+(]|\s+\d", after)


def _holds(left: str, right: str) -> bool:
    """Whether the sides are equal, or there is nothing to check."""
    values = _value(left), _value(right)
    if None in values or not any(re.search(r"\d[)%]*\s*[-+*/]", side) for side in (left, right)):
        return True
    first, second = (value for value in values if value is not None)
    decimals = re.search(r"\.(\d+)%?\)*$", right)
    slack = Fraction(1, 2 * 10 ** len(decimals[1])) if decimals else Fraction(0)
    wanted = [second, second * 100] if right.rstrip(") ").endswith("%") else [second]
    return any(abs(first - value) <= slack for value in wanted)


def _value(side: str) -> Fraction | None:
    """The side's value, None where it is no whole calculation (a bracket that is not closed, a division by 0)."""
    plain = re.sub(r"[$€£,\s]", "", side)
    # 007 is no number of Python's, and a percentage is a hundredth of its number.
    plain = re.sub(r"(?<![\d.])0+(?=\d)", "", plain)
    plain = re.sub(r"(\d*\.?\d+)%", r"(\1/100)", plain)
    try:
        return _evaluate(ast.parse(plain, mode="eval").body, plain)
    except (SyntaxError, ZeroDivisionError, ValueError):
        return None


def _evaluate(node: ast.expr, source: str) -> Fraction:
    """Raises: ValueError for anything but numbers and the four operations."""
    if isinstance(node, ast.Constant):
        return Fraction(str(ast.get_source_segment(source, node)))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluate(node.operand, source)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_evaluate(node.left, source), _evaluate(node.right, source))
    raise ValueError(f"{source!r} is no arithmetic")
