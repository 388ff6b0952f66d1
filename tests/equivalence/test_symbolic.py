"""curator/equivalence/symbolic.py: expressions compared by math-verify in a helper process, from any thread."""

from __future__ import annotations

import os
import threading
import time

import pytest

from curator.equivalence import symbolic
from curator.equivalence.symbolic import _Process, is_expression, same_expression
from curator.errors import MissingExtraError


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("x^2+2x+1", "(x+1)^2"),
        ("x+y", "y + x"),
        (r"\frac{\pi}{2}", "pi/2"),
        ("sqrt(2)", r"\sqrt{2}"),
        ("x**2", "x^2"),
        (r"2\sqrt{4}", "4"),
        (r"\{1,2\}", r"\{2,1\}"),
        ("[1,2)", r"x \in [1,2)"),
        ("x > 5", "5 < x"),
        ("2^{10}", "1024"),
    ],
)
def test_same_value_form_or_members(left, right):
    assert same_expression(left, right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("x+1", "x+2"),
        ("(1,2)", "[1,2]"),
        ("x", "y"),
        (r"\sqrt{2}", "2"),
        (r"\frac{1}{", "1"),
        # Nothing of these is ever handed to algebra: one is a number with more digits than there are atoms.
        ("9^{9^{9}}", "3"),
        ("2**99999", "3"),
        ("123456!", "3"),
        ("x+" * 200 + "1", "3"),
    ],
)
def test_different_or_unreadable(left, right):
    assert not same_expression(left, right)


def test_words_are_no_expressions():
    assert [is_expression(text) for text in ("x+1", r"\frac{1}{2}x", "(1,2)", "sqrt(2)", "2x")] == [True] * 5
    assert [is_expression(text) for text in ("Paris", "on Monday, 3:30", "3:30", "north-east", "")] == [False] * 5


def test_a_thread_can_ask():
    """math-verify's own timeouts raise an error outside the main thread."""
    found = []
    thread = threading.Thread(target=lambda: found.append(same_expression("a+b+c", "c+b+a")))
    thread.start()
    thread.join(60)
    assert found == [True]


def test_a_helper_that_does_not_answer_is_ended_and_started_again(monkeypatch):
    process = _Process()
    try:
        assert process.ask("x+1", "1+x")
        first = process._running
        assert first is not None
        os.kill(first.pid, 19)  # it stops, as one that calculates forever
        monkeypatch.setattr(symbolic, "PATIENCE", 0.2)
        started = time.monotonic()
        assert not process.ask("x+1", "1+x")
        assert time.monotonic() - started < 30
        assert first.poll() is not None
        assert process.ask("x+1", "1+x")
    finally:
        process.close()


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"goldless\[math\]"):
        _Process().ask("x+1", "1+x")
