"""Expressions compared by `math-verify` (extra `math`), in a process of its own.

math-verify bounds its time with SIGALRM, which works in a main thread only, and its algebra (sympy) can run for
minutes on one line that a model made up. So a helper process does it: there the alarm works, and where it does not
help the process is ended and the two answers count as different. It is started by the first two expressions that
are compared; numbers never get here.
"""

from __future__ import annotations

import atexit
import importlib.util
import re
import select
import subprocess
import sys
import threading
from functools import lru_cache
from typing import Final

import orjson

from curator.errors import MissingExtraError

SECONDS: Final = 5
"""How long math-verify may take over one expression, and over one comparison."""
PATIENCE: Final = 4 * SECONDS
"""Seconds after which the helper is ended: more than parsing two and comparing them both ways take."""
STARTING: Final = 60
"""Seconds more for the first comparison, which imports sympy."""
LONGEST: Final = 300
"""Characters of the longest expression that is compared."""

_MATHS = re.compile(r"[\\^_{}<>=+*/()\[\],|]|\bsqrt\b|\bpi\b|\d[a-z]\b")
_WORD = re.compile(r"(?<![\\a-z])[a-z]{4,}", re.IGNORECASE)
_FUNCTION = re.compile(r"\b(?:sqrt|sinh|cosh|tanh)\b")
_TOWER = re.compile(r"(?:\^|\*\*)[^+*/,]*(?:\^|\*\*)|(?:\^|\*\*)\s*[{(]?\s*-?\d{4,}|\d{4,}\s*!")
_WRITTEN: Final = (
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"(?<!\\)\bsqrt\s*\(([^()]*)\)"), r"\\sqrt{\1}"),
    (re.compile(r"(?<!\\)\b(sqrt|pi)\b"), r"\\\1"),
)
_HELPER: Final = """
import sys, logging
from functools import lru_cache
import orjson
from math_verify import parse, verify
from math_verify.parser import ExprExtractionConfig, LatexExtractionConfig
logging.disable(logging.CRITICAL)
seconds = int(sys.argv[1])

@lru_cache(maxsize=4096)
def read(text):
    found = parse("$" + text + "$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=seconds)
    return found or parse(text, [ExprExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=seconds)

for line in sys.stdin.buffer:
    try:
        left, right = map(read, orjson.loads(line))
        same = bool(left and right) and (
            verify(left, right, timeout_seconds=seconds) or verify(right, left, timeout_seconds=seconds)
        )
    except Exception:
        same = False
    sys.stdout.buffer.write(orjson.dumps(same) + b"\\n")
    sys.stdout.buffer.flush()
"""


def is_expression(text: str) -> bool:
    """Whether a text is mathematics rather than words: it has an operator, and no word that is none of LaTeX's."""
    return bool(_MATHS.search(text)) and not _WORD.search(_FUNCTION.sub("", text))


@lru_cache(maxsize=65_536)
def same_expression(left: str, right: str) -> bool:
    """Whether two expressions have the same value, form or members. What is too long, a tower of powers or takes too
    long equals only itself.

    Raises: MissingExtraError without math-verify.
    """
    if left == right:
        return True
    if max(len(left), len(right)) > LONGEST or _TOWER.search(left) or _TOWER.search(right):
        return False
    return _HELPER_PROCESS.ask(_latex(left), _latex(right))


def _latex(text: str) -> str:
    """What people and code write, as LaTeX: `sqrt(2)`, `pi`, `x**2`."""
    for pattern, into in _WRITTEN:
        text = pattern.sub(into, text)
    return text


class _Process:
    """The helper, started when it is first asked, and again after it had to be ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None

    def ask(self, left: str, right: str) -> bool:
        with self._lock:
            patience = PATIENCE if self._running else PATIENCE + STARTING
            process = self._running = self._running or _start()
            if process.stdin is None or process.stdout is None:
                return False
            try:
                process.stdin.write(orjson.dumps([left, right]) + b"\n")
                process.stdin.flush()
                ready, _, _ = select.select([process.stdout], [], [], patience)
                line = process.stdout.readline() if ready else b""
            except OSError:
                line = b""
            if not line:
                self._end()
            return line.strip() == b"true"

    def close(self) -> None:
        with self._lock:
            self._end()

    def _end(self) -> None:
        process, self._running = self._running, None
        if process is not None:
            process.kill()
            process.communicate()


def _start() -> subprocess.Popen[bytes]:
    if importlib.util.find_spec("math_verify") is None:
        raise MissingExtraError(
            "two answers are expressions, and math-verify is not installed", hint="pip install 'goldless[math]'"
        )
    command = [sys.executable, "-c", _HELPER, str(SECONDS)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )


_HELPER_PROCESS = _Process()
atexit.register(_HELPER_PROCESS.close)
