"""`POST /v1/systemone`, the System One shape: `noul`, `choice` and `score`. The other side of
`curator.engines.dialects`.

Sources: typesafe-sdk 0.7 `_schemas/models.py`; vLLM 0.32 `structured_decisions/{protocol,question_types}.py`, whose
extra fields (`diagnostics`, a noul's `confidence` and `probabilities`) are sent too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cascade.routed import Routed, Served
from cascade.wire.bodies import Stamp, served_usage
from cascade.wire.extras import BLOCK
from cascade.wire.questions import YES_NO, checked, confidence, expected, yes_no
from cascade.wire.reading import FieldError, Fields, as_fields, plain_text, read_body
from curator.engines.shapes import MAX_CHOICES, MAX_QUESTIONS
from curator.types import DecideRequest, Decision, Json, JsonObject, Option, Question, QuestionKind

_KINDS: Final[dict[str, QuestionKind]] = {"noul": "predicate", "choice": "choice", "score": "score"}
_UNREAD: Final = ("images", "audio", "videos", "assets", "chat_template_kwargs", "cache_salt")
_READ: Final = frozenset({"model", "state", "questions", "instructions", "priority", "request_id", *_UNREAD})
"""`priority` and `request_id` change no answer, and are read over."""


@dataclass(frozen=True, slots=True)
class SystemOneCall:
    """A request as it was read. `legends` are the levels of scores as the client wrote them, else empty."""

    request: DecideRequest
    model: str
    legends: tuple[tuple[Json, ...], ...]


def parse(body: Json, model: str = "") -> SystemOneCall:
    """The call that a body makes; `model` is for a body that names none, which vLLM allows.

    The context in a body's own `instructions` is put before those of every question.
    Raises: FieldError.
    """
    fields = read_body(body)
    fields.refuse(_UNREAD, "only text and JSON are read")
    fields.know(_READ)
    asked = fields.need_inner("questions")
    if not 1 <= len(asked.values) <= MAX_QUESTIONS:
        raise FieldError("questions", f"must be 1 to {MAX_QUESTIONS}, not {len(asked.values)}")
    context = fields.text("instructions")
    inner = {name: as_fields(question, asked.at(name)) for name, question in asked.values.items()}
    questions = tuple(_question(name, question, context) for name, question in inner.items())
    legends = tuple(_legend(question) for question in inner.values())
    return SystemOneCall(DecideRequest(_state(fields), questions), _model(fields, model), legends)


def _model(fields: Fields, model: str) -> str:
    if model and fields.values.get("model") is None:
        return model
    return fields.need_text("model")


def _state(fields: Fields) -> str:
    state = fields.values.get("state")
    if not isinstance(state, str | dict | list):
        raise fields.wrong("state", "a text, an object or a list")
    return plain_text(state, "state")


def _question(name: str, asked: Fields, context: str | None) -> Question:
    if not name:
        raise FieldError("questions", "must have a name each")
    if unknown := asked.values.keys() - {"type", "instructions", "criteria"}:
        raise FieldError(asked.at(sorted(unknown)[0]), "is not a field of a question")
    kind = asked.values.get("type")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise asked.wrong("type", '"noul", "choice" or "score"')
    text = plain_text(asked.values.get("instructions"), asked.at("instructions"))
    told = f"{context}\n\n{text}".strip() if context else text
    if kind == "noul":
        return Question(name, "predicate", told, _meanings(asked, bool(text)))
    options = _choices(asked) if kind == "choice" else _levels(asked)
    return Question(name, _KINDS[kind], told, checked(options, asked.at("criteria"), MAX_CHOICES))


def _meanings(asked: Fields, has_text: bool) -> tuple[Option, Option]:
    criteria = asked.inner("criteria") or Fields({}, asked.at("criteria"))
    if unknown := criteria.values.keys() - {"true", "false"}:
        raise FieldError(criteria.at(sorted(unknown)[0]), 'is neither "true" nor "false"')
    told = [plain_text(criteria.values.get(side), criteria.at(side)) for side in ("true", "false")]
    if not has_text and not any(told):
        raise asked.wrong("instructions", "there where no criteria are")
    return yes_no(*told)


def _choices(asked: Fields) -> list[Option]:
    criteria = asked.need_inner("criteria")
    return [Option(name, plain_text(told, criteria.at(name))) for name, told in criteria.values.items()]


def _levels(asked: Fields) -> list[Option]:
    path = asked.at("criteria")
    return [Option(plain_text(level, f"{path}[{place}]")) for place, level in enumerate(asked.items("criteria"))]


def _legend(asked: Fields) -> tuple[Json, ...]:
    return tuple(asked.items("criteria")) if asked.values.get("type") == "score" else ()


def reply(stamp: Stamp, call: SystemOneCall, routed: Routed[Decision], block: JsonObject) -> JsonObject:
    """The body that answers a call; `block` is of `extras.decision_block`. A refusal has no shape in this dialect:
    its answer has the type `refusal`, which clients read over."""
    asked = zip(call.request.questions, call.legends, routed.answers, strict=True)
    usage = served_usage(routed)
    return {
        "id": stamp.id,
        "object": "structured_decision",
        "created": stamp.created,
        "model": stamp.model,
        "answers": {question.name: _answer(question, legend, served) for question, legend, served in asked},
        "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
        "diagnostics": _diagnostics(routed),
        BLOCK: block,
    }


def _diagnostics(routed: Routed[Decision]) -> JsonObject:
    """The probability that the options got of the whole vocabulary, where the tier that served knows it."""
    known = [(one.question, one.answer.label_mass) for one in routed.answers if one.answer is not None]
    return {name: {"label_mass": mass} for name, mass in known if mass is not None}


def _answer(question: Question, legend: Sequence[Json], served: Served[Decision]) -> JsonObject:
    decision = served.answer
    if decision is None:
        return {"type": "refusal"}
    chances, sure = decision.probabilities, confidence(served, decision)
    if question.kind == "predicate":
        spread: JsonObject = dict(zip(YES_NO, chances, strict=True))
        return {"type": "noul", "noul": chances[0], "probabilities": spread, "confidence": sure}
    if question.kind == "choice":
        named: JsonObject = dict(zip(question.labels, chances, strict=True))
        chosen = question.labels[decision.top]
        return {"type": "choice", "choice": chosen, "probabilities": named, "confidence": sure}
    return {
        "type": "score",
        "score": expected(chances),
        "legend": {str(level): _shown(said) for level, said in enumerate(legend)},
        "probabilities": {str(level): p for level, p in enumerate(chances)},
        "confidence": sure,
    }


def _shown(level: Json) -> Json:
    """A level as it was written; clients expect a text, an object or a list."""
    return level if isinstance(level, str | dict | list) else plain_text(level, "criteria")
