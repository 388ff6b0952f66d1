"""`POST /v1/decisions`, OpenAI's shape. The other side of `curator.engines.dialects`.

Source: openai-python 3.57 `types/decision.py`, `types/decision_create_params.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import orjson

from cascade.routed import Routed, Served
from cascade.wire.bodies import Stamp, input_usage, served_usage
from cascade.wire.extras import BLOCK
from cascade.wire.questions import checked, confidence, expected, yes_no
from cascade.wire.reading import FieldError, Fields, json_text, read_body
from curator.engines.shapes import MAX_CHOICES, MAX_QUESTIONS, without_meanings
from curator.types import DecideRequest, Decision, Json, JsonObject, Option, Question

_READ: Final = frozenset(
    {"model", "input", "questions", "prompt_cache_key", "prompt_cache_options", "safety_identifier"}
    | {"service_tier", "user", "metadata"}
)
"""Those about caching, billing and end users change no answer, and are read over."""

REMEMBERED: Final = 16_384
"""Bytes of the questions that are remembered at most."""

_CALLS: Final = {"function_call": "arguments", "custom_tool_call": "input"}
_OUTPUTS: Final = ("function_call_output", "custom_tool_call_output")
_ROLES: Final = ("user", "developer", "system", "assistant")
_TEXTS: Final = {"input_text": "text", "output_text": "text", "refusal": "refusal"}


@dataclass(frozen=True, slots=True)
class DecisionsCall:
    """A request as it was read. `names` are the questions' (None: unnamed), `values` their options as the client
    wrote them: of a choice strings or booleans, of a score the levels' labels."""

    request: DecideRequest
    model: str
    names: tuple[str | None, ...]
    values: tuple[tuple[str | bool, ...], ...]


def parse(body: Json) -> DecisionsCall:
    """The call that a body makes. Raises: FieldError."""
    fields = read_body(body)
    fields.know(_READ)
    written = orjson.dumps(fields.values.get("questions"))
    asked = _known(written) if len(written) <= REMEMBERED else _asked(written)
    request = DecideRequest(_state(fields), asked.questions)
    return DecisionsCall(request, fields.need_text("model"), asked.names, asked.values)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The questions of a body; `names` and `values` as in `DecisionsCall`."""

    questions: tuple[Question, ...]
    names: tuple[str | None, ...]
    values: tuple[tuple[str | bool, ...], ...]


def _asked(written: bytes) -> _Asked:
    """The questions in JSON. Raises: FieldError."""
    asked = Fields({"questions": orjson.loads(written)}).need_objects("questions")
    if len(asked) > MAX_QUESTIONS:
        raise FieldError("questions", f"must be at most {MAX_QUESTIONS}, not {len(asked)}")
    names = tuple(question.text("name") for question in asked)
    values = tuple(_values(question) for question in asked)
    return _Asked(tuple(map(_question, asked, _distinct(names), values)), names, values)


_known = lru_cache(maxsize=128)(_asked)
"""An application asks the same questions of ever new states. That they are the same objects then is quickly seen by
whatever is prepared once per questions (`curator.engines.wire.Memo`)."""


def _distinct(names: Sequence[str | None]) -> list[str]:
    """The questions' names, with one for those that have none.

    Raises: FieldError for a name that two have: answers are told apart by it.
    """
    found: list[str] = []
    given = {name for name in names if name}
    for place, name in enumerate(names):
        if name and name in found:
            raise FieldError(f"questions[{place}].name", "is the name of an earlier question too")
        own = name or f"question_{place}"
        while not name and own in given:
            own += "_"
        found.append(own)
    return found


def _values(question: Fields) -> tuple[str | bool, ...]:
    kind = question.values.get("type")
    if kind == "predicate":
        return ()
    if kind == "choice":
        return tuple(_value(choice) for choice in question.need_objects("choices"))
    if kind == "score":
        return tuple(level.need_text("label") for level in question.need_objects("levels"))
    raise question.wrong("type", '"predicate", "choice" or "score"')


def _value(choice: Fields) -> str | bool:
    value = choice.values.get("value")
    return value if isinstance(value, bool) else choice.need_text("value")


def _question(asked: Fields, name: str, values: Sequence[str | bool]) -> Question:
    text = _instructions(asked)
    if not values:
        text, true, false = without_meanings(text)
        return Question(name, "predicate", text, yes_no(true, false))
    key = "choices" if asked.values["type"] == "choice" else "levels"
    # A boolean and a string of the same text would be the same words to a model, hence refused as twice the same.
    labels = (value if isinstance(value, str) else str(value).lower() for value in values)
    told = (option.text("description") or "" for option in asked.objects(key))
    options = checked(map(Option, labels, told), asked.at(key), MAX_CHOICES)
    return Question(name, "choice" if key == "choices" else "score", text, options)


def _instructions(asked: Fields) -> str:
    said = asked.values.get("instructions")
    if isinstance(said, str):
        return said
    return "\n".join(_part(part) for part in asked.need_objects("instructions"))


def _part(part: Fields) -> str:
    """The text of a part of a message or of instructions."""
    kind = part.need_text("type")
    if kind == "input_json":
        if not isinstance(data := part.values.get("data"), dict | list):
            raise part.wrong("data", "an object or a list of objects")
        return json_text(data, part.at("data"))
    if kind not in _TEXTS:
        raise FieldError(part.at("type"), f"is {kind[:40]!r}: only text and JSON are read here")
    text = part.text(_TEXTS[kind])
    if text is None:
        raise part.wrong(_TEXTS[kind], "a string")
    return text


def _state(fields: Fields) -> str:
    """The state as a model reads it: a text as it is, a lone user message as its text, a conversation as JSON."""
    said = fields.values.get("input")
    if isinstance(said, str):
        return said
    items = fields.need_objects("input")
    if len(items) == 1 and items[0].values.get("role") == "user":
        return _content(items[0], "content")
    return json_text([_item(item) for item in items], "input")


def _item(item: Fields) -> JsonObject:
    kind = item.values.get("type", "message")
    if kind == "message":
        role = item.values.get("role")
        if role not in _ROLES:
            raise item.wrong("role", f"one of {', '.join(_ROLES)}")
        return {"role": role, "content": _content(item, "content")}
    if isinstance(kind, str) and kind in _CALLS:
        said = _CALLS[kind]
        return {"type": kind, "call_id": item.need_text("call_id"), "name": item.need_text("name"), said: _said(item)}
    if kind in _OUTPUTS:
        return {"type": kind, "call_id": item.need_text("call_id"), "output": _content(item, "output")}
    raise item.wrong("type", f"one of message, {', '.join((*_CALLS, *_OUTPUTS))}")


def _said(item: Fields) -> str:
    key = _CALLS[str(item.values["type"])]
    text = item.text(key)
    if text is None:
        raise item.wrong(key, "a string")
    return text


def _content(item: Fields, key: str) -> str:
    content = item.values.get(key)
    if isinstance(content, str):
        return content
    return "\n".join(_part(part) for part in item.need_objects(key))


def reply(stamp: Stamp, call: DecisionsCall, routed: Routed[Decision], block: JsonObject) -> JsonObject:
    """The body that answers a call; `block` is of `extras.decision_block`."""
    questions = call.request.questions
    answers: list[Json] = [
        {"type": _type(question, served), "name": name, **_answer(question, values, served)}
        for question, name, values, served in zip(questions, call.names, call.values, routed.answers, strict=True)
    ]
    return {
        "id": stamp.id,
        "object": "decision",
        "created": stamp.created,
        "model": stamp.model,
        "answers": answers,
        "usage": input_usage(served_usage(routed)),
        BLOCK: block,
    }


def _type(question: Question, served: Served[Decision]) -> str:
    return "refusal" if served.answer is None else question.kind


def _answer(question: Question, values: Sequence[str | bool], served: Served[Decision]) -> JsonObject:
    decision = served.answer
    if decision is None:
        return {}
    chances = decision.probabilities
    if question.kind == "predicate":
        return {"probability": chances[0]}
    sure = confidence(served, decision)
    if question.kind == "choice":
        pairs = zip(values, chances, strict=True)
        spread: list[Json] = [{"value": value, "probability": p} for value, p in pairs]
        return {"choice": values[decision.top], "confidence": sure, "probabilities": spread}
    levels: list[Json] = [
        {"label": label, "value": level, "probability": p}
        for level, (label, p) in enumerate(zip(question.labels, chances, strict=True))
    ]
    return {"score": expected(chances), "confidence": sure, "probabilities": levels}
