"""The two decision endpoints: `POST /decisions` (OpenAI's shape) and `POST /systemone` (System One's).

Both take typed questions about a state, so the template's text is not sent: instructions, options,
descriptions and their order are. Demonstrations are put behind the instructions as worked examples.
Sources: openai-python 3.54 `types/decision.py`, `types/decision_create_params.py`; vLLM 0.32
`entrypoints/generate/structured_decisions/{protocol,question_types}.py`.
"""

from __future__ import annotations

from typing import Final, cast

import orjson

from curator.engines.base import Preview
from curator.engines.shapes import (
    MAX_CHOICES,
    MAX_QUESTIONS,
    DecisionsAnswer,
    DecisionsBody,
    Diagnostics,
    SystemOneAnswer,
    SystemOneBody,
    decisions_question,
    systemone_question,
)
from curator.engines.wire import (
    MARK,
    SHAPE_ERRORS,
    Answered,
    Frame,
    Memo,
    Server,
    from_probabilities,
    unreadable,
    usage_of,
)
from curator.errors import (
    ContextLengthError,
    InvalidOutputError,
    ModelNotFoundError,
    RequestRejectedError,
)
from curator.types import DecideRequest, Decision, JsonObject, Option, Question, Usage

NOT_SPOKEN: Final = (ModelNotFoundError, RequestRejectedError, InvalidOutputError, ContextLengthError)
"""What a server that does not speak a dialect answers to the probe (404, 405, 501, other 4xx, other shapes)."""

PROBE: Final = DecideRequest(
    "2 + 2 = 4", (Question("probe", "predicate", "Is this true?", (Option("true"), Option("false"))),)
)
"""A tiny request whose failure says something about the server and nothing about the user's rows."""


class DecisionsDialect:
    """`POST {base}/decisions`, OpenAI's shape."""

    name = "decisions"
    path = "/decisions"

    def __init__(self, server: Server) -> None:
        self._server = server
        self._frame = Memo(lambda request: Frame(self.body(request, MARK)))

    def body(self, request: DecideRequest, state: str) -> JsonObject:
        """The request's JSON, with `state` as the input."""
        questions = [decisions_question(q, instructions(q, request)) for q in request.questions]
        return {"model": self._server.model, "input": state, "questions": list(questions), **self._server.extra}

    def fits(self, request: DecideRequest) -> bool:
        """OpenAI's limits."""
        short = all(len(q.options) <= MAX_CHOICES for q in request.questions)
        return short and len(request.questions) <= MAX_QUESTIONS

    async def probe(self) -> Usage | None:
        try:
            return (await self.decide(PROBE)).usage
        except NOT_SPOKEN:
            return None

    async def decide(self, request: DecideRequest) -> Answered:
        reply = await self._server.post(self.path, self._frame(request).fill(request.state))
        try:
            return self.read(request, reply)
        except SHAPE_ERRORS as error:
            raise unreadable("decisions", reply, error) from None

    def read(self, request: DecideRequest, reply: object) -> Answered:
        """The answers, which come in question order."""
        body = cast(DecisionsBody, reply)
        answers = [read_decision(q, a) for q, a in zip(request.questions, body["answers"], strict=True)]
        return Answered(tuple(answers), usage_of(body.get("usage")))

    async def preview(self, request: DecideRequest) -> tuple[Preview, ...]:
        """The JSON body, which all questions share."""
        text = orjson.dumps(self.body(request, request.state), option=orjson.OPT_INDENT_2).decode()
        return tuple(
            Preview(q.name, text, 0, tuple((label, (label,)) for label in q.labels), self.name)
            for q in request.questions
        )


class SystemOneDialect(DecisionsDialect):
    """`POST {base}/systemone`, the System One shape."""

    name = "systemone"
    path = "/systemone"

    def body(self, request: DecideRequest, state: str) -> JsonObject:
        questions = {q.name: systemone_question(q, instructions(q, request)) for q in request.questions}
        return {"model": self._server.model, "state": state, "questions": dict(questions), **self._server.extra}

    def fits(self, request: DecideRequest) -> bool:
        """vLLM codes a choice's options A to Z and a score's levels 0 to 9; question ids must differ."""
        names = {q.name for q in request.questions}
        limits = all(len(q.options) <= (10 if q.kind == "score" else 26) for q in request.questions)
        return limits and len(names) == len(request.questions) <= 64

    def read(self, request: DecideRequest, reply: object) -> Answered:
        body = cast(SystemOneBody, reply)
        notes = body.get("diagnostics") or {}
        answers = [read_systemone(q, body["answers"][q.name], notes.get(q.name)) for q in request.questions]
        return Answered(tuple(answers), usage_of(body.get("usage")))


def instructions(question: Question, request: DecideRequest) -> str:
    """The question's instructions, with the demonstrations that answer it as worked examples."""
    shown = [(d.state, d.answers[question.name]) for d in request.demonstrations if question.name in d.answers]
    examples = "".join(f"\n\nInput: {state}\nAnswer: {answer}" for state, answer in shown)
    return f"{question.instructions}\n\nExamples:{examples}" if examples else question.instructions


def read_decision(question: Question, answer: DecisionsAnswer) -> Decision | None:
    """One answer in OpenAI's shape; None for a refusal."""
    if answer["type"] == "refusal":
        return None
    _expect(question, answer["type"], question.kind)
    if question.kind == "predicate":
        p = answer["probability"]
        return from_probabilities([p, 1 - p], "decisions")
    name = "value" if question.kind == "choice" else "label"
    found = {cast(str, item.get(name)): item["probability"] for item in answer["probabilities"]}
    return from_probabilities(_in_order(question, found, question.labels), "decisions")


def read_systemone(question: Question, answer: SystemOneAnswer, notes: Diagnostics | None) -> Decision | None:
    """One answer in the System One shape; `notes` holds the label mass where the server knows it."""
    if answer["type"] == "refusal":
        return None
    mass = notes.get("label_mass") if notes else None
    if question.kind == "predicate":
        _expect(question, answer["type"], "noul")
        return from_probabilities([answer["noul"], 1 - answer["noul"]], "systemone", mass)
    _expect(question, answer["type"], question.kind)
    keys = question.labels if question.kind == "choice" else tuple(map(str, range(len(question.options))))
    return from_probabilities(_in_order(question, answer["probabilities"], keys), "systemone", mass)


def _expect(question: Question, found: str, wanted: str) -> None:
    if found != wanted:
        raise InvalidOutputError(f"question {question.name!r}: expected a {wanted} answer, the server sent {found!r}")


def _in_order(question: Question, found: dict[str, float], keys: tuple[str, ...]) -> list[float]:
    """Probabilities in option order; options that the server leaves out get 0."""
    if unknown := found.keys() - set(keys):
        raise InvalidOutputError(f"question {question.name!r}: the server answered about {sorted(unknown)[0]!r}")
    return [found.get(key, 0.0) for key in keys]
