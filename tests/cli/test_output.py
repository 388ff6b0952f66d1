"""Data on stdout, everything else on stderr, and nothing in a document can drive the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from cli.output import Output, amount, clean, clip, duration, plain, show, size
from curator.types import Label

ROOT = Path(__file__).parents[2]


def python(code: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, env=env, check=False)


def test_json_is_one_object_per_line(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(json=True)
    assert out.rows(("a",), iter([{"a": 1, "b": "x"}, {"a": None, "b": "é"}])) == 2
    out.facts({"path": Path("x")})
    lines = capsys.readouterr().out.splitlines()
    assert [orjson.loads(line) for line in lines] == [{"a": 1, "b": "x"}, {"a": None, "b": "é"}, {"path": "x"}]


def test_a_piped_table_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    text = "word " * 200
    assert Output().rows(("id", "the_text"), [{"id": "1", "the_text": text}]) == 1
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["id", "the", "text"]
    assert text.strip() in row


def test_markup_and_escapes_in_a_document_are_shown_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output()
    out.rows(("text",), [{"text": "[bold]x[/bold] \x1b[31mred\x07\nnext"}])
    out.text("[red]\x1b]0;title\x07")
    out.complain("[link=x]\x9b")
    said = capsys.readouterr()
    assert "[bold]x[/bold] \\x1b[31mred\\x07 next" in said.out
    assert "[red]\\x1b]0;title\\x07" in said.out
    assert said.err == "[link=x]\\x9b\n"


def test_quiet_silences_messages_but_not_complaints(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(quiet=True)
    out.say("hello")
    out.complain("no")
    assert capsys.readouterr() == ("", "no\n")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        ({}, "-"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (0.12345, "0.123"),
        (0.00012345, "0.00012"),
        (0.0, "0.000"),
        (["a", 1000], "a, 1,000"),
        ({"a": 1, "b": None}, "a 1, b -"),
        ({"a": [1]}, '{"a":[1]}'),
        ("a\tb\x00", "a b\\x00"),
    ],
)
def test_cells(value: object, shown: str) -> None:
    assert show(value) == shown


def test_small_formats() -> None:
    assert [duration(s) for s in (None, float("inf"), 0.4, 65, 3723)] == ["-", "-", "0s", "1m 05s", "1h 02m"]
    assert [amount(v, "USD") for v in (None, 0.0, 0.00123, 12.5)] == ["-", "0.00 USD", "0.0012 USD", "12.50 USD"]
    assert [size(n) for n in (12, 1500, 2.5e9, 4e12)] == ["12 B", "1.5 kB", "2.5 GB", "4.0 TB"]
    assert clip("a  b\nc", 10) == "a b c"
    assert clip("abcdefghij" * 1000, 10) == "abcdefghi…"
    assert clean("a\nb", keep_lines=True) == "a\nb"
    assert plain(Label("x", 0.5, "raw"))["confidence"] == 0.5


def test_whatever_a_library_prints_goes_to_stderr() -> None:
    """In Python, and below it on the file descriptor, as a library in C or a child process does."""
    done = python(
        "import os, sys\n"
        "from cli.output import Output\n"
        "out = Output(json=True)\n"
        "with out.guarded():\n"
        "    print('chatter')\n"
        "    os.write(1, b'native chatter\\n')\n"
        "    out.emit({'a': 1})\n"
        "out.emit({'a': 2})\n"
        "os.write(1, b'')\n"
    )
    assert done.stdout == b'{"a":1}\n{"a":2}\n'
    assert done.stderr.splitlines() == [b"native chatter", b"chatter"] or done.stderr.splitlines() == [
        b"chatter",
        b"native chatter",
    ]


def test_a_terminal_that_knows_ascii_only() -> None:
    code = (
        "from cli.output import Output, survive_any_terminal\n"
        "survive_any_terminal()\n"
        "out = Output()\n"
        "out.rows(('a',), [{'a': 'né 漢'}], title='Ü')\n"
        "out.complain('ошибка')\n"
    )
    done = python(code, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert b"n\\xe9 \\u6f22" in done.stdout
    assert b"\\u043e" in done.stderr


def test_no_color_is_respected() -> None:
    code = "from cli.output import Output; Output().text('x', style='red')"
    coloured = python(code, FORCE_COLOR="1", TERM="xterm-256color")
    assert coloured.stdout == b"\x1b[31mx\x1b[0m\n"
    assert python(code, FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color").stdout == b"x\n"
