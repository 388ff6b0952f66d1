"""The final answer of a generated text, as the model wrote it; what has none is missing.

Reading is apart from comparing (`curator.equivalence`): here `$1,200.` stays `$1,200.`.
"""

from __future__ import annotations

import re
from typing import Final

import orjson

from curator.equivalence.quantities import read_quantity
from curator.equivalence.symbolic import is_expression
from curator.fields import ClosedField, OpenField
from curator.parsing import MISSING, last_object, marked_answer, normalise_text, parse_answer, parse_json
from curator.task import Output, Task

LONGEST: Final = 300
"""Characters of the longest final answer: what is longer is a text in which the answer has not been found."""
CUT_OFF: Final = "length"
"""The finish reason of a text that did not come to its end."""

_EMPTY: Final = {"", "none", "null", "n/a", "unknown", "answer", "<answer>"}
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_NUMBER = re.compile(r"[-+−]?\s?[$€£¥]?\s?\d[\d,]*(?:\.\d+)?(?:\s?/\s?\d+)?(?:\s?%)?")
_LETTERED = re.compile(r"\(?[A-Za-z][).:]\s+(.+)")


def final_answer(task: Task[Output], text: str | None, finish: str | None = "stop") -> str | None:
    """What `text` answers to the task's one voted field, None where it says nothing that can be read.

    In free text it stands behind the last `Answer:` or in the last `\\boxed{}`; where neither is there, the last
    number of a text that came to its end answers a field of numbers. An option's value is its JSON.
    """
    if text is None:
        return None
    (field,) = task.voted
    if isinstance(field, ClosedField):
        return _option(task, field, text)
    written = _from_json(field, text) if task.answer_format == "json" else _from_text(field, text, finish)
    if written is None or len(written) > LONGEST or normalise_text(written) in _EMPTY:
        return None
    return _as_number(written) if field.kind == "number" else written


def _from_json(field: OpenField, text: str) -> str | None:
    value = last_object(text).get(field.name)
    return None if value is None or isinstance(value, dict | list | bool) else str(value)


def _from_text(field: OpenField, text: str, finish: str | None) -> str | None:
    marked, boxed = marked_answer(text), _BOXED.findall(text)
    if boxed and (marked is None or "\\boxed" in marked):
        return str(boxed[-1]).strip()
    if marked is not None:
        return marked.strip().strip("*").strip()
    numbers = _NUMBER.findall(text) if field.kind == "number" and finish != CUT_OFF else []
    return numbers[-1] if numbers else None


def _as_number(written: str) -> str | None:
    """The number that a line behind `Answer:` comes to: the line itself, what its equation ends in, or the first
    number of a sentence. An expression that is no number is not read."""
    for candidate in (written, written.rpartition("=")[2], re.split(r"[.!?](?:\s|$)", written)[0]):
        if read_quantity(candidate) is not None:
            return candidate.strip()
    found = None if is_expression(written) else _NUMBER.search(written)
    return found.group().strip() if found else None


def _option(task: Task[Output], field: ClosedField, text: str) -> str | None:
    """The value of the option that is named, also behind its letter: "(B) Paris"."""
    read = parse_json if task.answer_format == "json" else parse_answer
    value = read(text, (field,))[field.name]
    lettered = _LETTERED.fullmatch((marked_answer(text) or "").strip())
    if value == MISSING and lettered and task.answer_format == "text":
        value = read(f"Answer: {lettered[1]}", (field,))[field.name]
    return None if value == MISSING else orjson.dumps(value).decode()
