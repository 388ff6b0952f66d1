"""Questions and answers as the two decision dialects write them: what clients and servers of them share.

`POST /decisions` is OpenAI's, `POST /systemone` System One's. In both, a score's levels count from 0.
"""

from __future__ import annotations

from typing import Final, TypedDict

from curator.engines.wire import UsageBody
from curator.types import JsonObject, Question

MAX_QUESTIONS: Final = 400
MAX_CHOICES: Final = 255
"""OpenAI's limits."""

_TRUE: Final = "\nTrue means: "
_FALSE: Final = "\nFalse means: "


class DecisionsBody(TypedDict, total=False):
    answers: list[DecisionsAnswer]
    usage: UsageBody


class DecisionsAnswer(TypedDict, total=False):
    type: str
    probability: float
    probabilities: list[DecisionsProbability]


class DecisionsProbability(TypedDict, total=False):
    value: str | bool | int
    label: str
    probability: float


class SystemOneBody(TypedDict, total=False):
    answers: dict[str, SystemOneAnswer]
    diagnostics: dict[str, Diagnostics]
    usage: UsageBody


class SystemOneAnswer(TypedDict, total=False):
    type: str
    noul: float
    probabilities: dict[str, float]


class Diagnostics(TypedDict, total=False):
    label_mass: float


def decisions_question(question: Question, text: str) -> JsonObject:
    """A question in OpenAI's shape."""
    asked: JsonObject = {"type": question.kind, "name": question.name, "instructions": text}
    if question.kind == "predicate":
        true, false = (option.description for option in question.options)
        return {**asked, "instructions": with_meanings(text, true, false)}
    key, name = ("choices", "value") if question.kind == "choice" else ("levels", "label")
    options: list[JsonObject] = [
        {name: o.label, "description": o.description} if o.description else {name: o.label} for o in question.options
    ]
    return {**asked, key: list(options)}


def with_meanings(text: str, true: str, false: str) -> str:
    """A predicate's instructions with the descriptions of its two options: OpenAI's shape has no other place."""
    return text + (_TRUE + true if true else "") + (_FALSE + false if false else "")


def without_meanings(text: str) -> tuple[str, str, str]:
    """The instructions and the two descriptions that `with_meanings` put together."""
    text, false = _split(text, _FALSE)
    text, true = _split(text, _TRUE)
    return text, true, false


def _split(text: str, mark: str) -> tuple[str, str]:
    head, found, tail = text.rpartition(mark)
    return (head, tail) if found and tail else (text, "")


def systemone_question(question: Question, text: str) -> JsonObject:
    """A question in the System One shape; a predicate is called `noul` there."""
    if question.kind == "score":
        levels = [f"{o.label}: {o.description}" if o.description else o.label for o in question.options]
        return {"type": "score", "instructions": text, "criteria": list(levels)}
    if question.kind == "choice":
        return {
            "type": "choice",
            "instructions": text,
            "criteria": {o.label: o.description or None for o in question.options},
        }
    told = {word: o.description for word, o in zip(("true", "false"), question.options, strict=True) if o.description}
    asked: JsonObject = {"type": "noul", "instructions": text}
    return {**asked, "criteria": dict(told)} if told else asked
