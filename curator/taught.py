"""What labelling a corpus taught about a model, kept as a file and served: `taught:<file>`.

A model that is simply asked leans to some options whatever the text says. Labels are made of its answers with that bias
removed, under examples where there were rounds. `TaughtEngine` answers new texts in the same way, so that what is
served is what was curated: the same wordings, the examples of the last round, the same bias and class prior.

    lesson = lesson_of(curation.learned)
    lesson.save("tone.json", "vllm:org/model")
    engine = connect("taught:tone.json")
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import orjson
from pydantic import TypeAdapter, ValidationError

from curator.aggregate import DecisionModel, Ensemble
from curator.engines import connect
from curator.engines.base import Engine, EngineIdentity, Preview, identity_text, question_leads
from curator.engines.readout import together
from curator.engines.wrapper import WrapperEngine
from curator.errors import ConfigError, InputError
from curator.learning import Learned
from curator.report import write_page
from curator.task import Output
from curator.types import (
    DecideRequest,
    Decision,
    Decisions,
    Demonstration,
    Document,
    JsonObject,
    Question,
    Template,
    Usage,
)

VERSION = 1
"""Of the file's format."""


@dataclass(frozen=True, slots=True)
class Wording:
    """One way to put a question: the question as the model sees it, its options in the order shown, and the text
    around it."""

    question: Question
    template: Template


@dataclass(frozen=True, slots=True)
class Taught:
    """How one `question` is asked, in `wordings` under `demonstrations`, and what is made of the answers: `model`, the
    JSON of a `DecisionModel`, whose first views are the wordings."""

    question: Question
    wordings: tuple[Wording, ...]
    demonstrations: tuple[Demonstration, ...]
    model: JsonObject


@dataclass(frozen=True, slots=True)
class Lesson:
    """All questions that a model was taught. `identity` (`identity_text`) is the model's: another one, or other weights
    of the same name, has another bias."""

    identity: str
    questions: tuple[Taught, ...]
    engine: str = ""
    version: int = VERSION

    @property
    def key(self) -> str:
        """Hash (hex, 64 bit) of all that decides an answer."""
        content = orjson.dumps((self.identity, self.questions), option=orjson.OPT_SORT_KEYS, default=dict)
        return hashlib.blake2b(content, digest_size=8).hexdigest()

    def save(self, path: str | Path, engine: str) -> None:
        """Write the lesson for the model that `connect(engine)` gives. The file is there whole or not at all.

        Raises: InputError if it cannot be written.
        """
        content = orjson.dumps(replace(self, engine=engine), option=orjson.OPT_INDENT_2, default=dict)
        write_page(content.decode(), Path(path), "--lesson")


def lesson_of(learned: Learned[Output]) -> Lesson:
    """What the answers taught about their model, for every closed field.

    Of several rounds the last one is kept, with the examples of one shard: a request costs one call per wording.
    Raises: InputError for a task without closed fields, or examples that are looked up for each document.
    """
    answers, task = learned.answers, learned.answers.task
    if answers.prompting.retriever is not None:
        raise InputError(
            "examples that are looked up for every text cannot be kept as a lesson",
            hint="train a model on the labels instead: goldless train",
        )
    if not task.closed:
        raise InputError("the task has no closed field", hint="a lesson is about options: bool, Literal or Enum fields")
    requests = [task.decide_request(Document("", ""), view) for view in range(len(task.views))]
    found = []
    for place, item in enumerate(task.closed):
        model = learned.labeler.models[item.name]
        wordings = tuple(Wording(request.questions[place], _settled(request)) for request in requests)
        last = model.parts[-1] if isinstance(model, Ensemble) else model
        found.append(Taught(item.question, wordings, answers.prompting.shots[0], last.to_json()))
    return Lesson(identity_text(answers.identity), tuple(found))


def _settled(request: DecideRequest) -> Template:
    """The template with what leads the prompt said: else it would depend on how many questions are asked at once."""
    return replace(request.template, order="question_first" if question_leads(request) else "state_first")


def read_lesson(path: str | Path) -> Lesson:
    """Raises: ConfigError for a file that is missing, damaged, or of a newer version."""
    hint = "goldless improve --lesson FILE writes one"
    try:
        lesson = TypeAdapter(Lesson).validate_json(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(f"the lesson {path} cannot be read: {error.strerror}", hint=hint) from None
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise ConfigError(f"{path} is no lesson: {where} {error.errors()[0]['msg']}", hint=hint) from None
    if lesson.version > VERSION:
        raise ConfigError(f"{path} was written by a newer goldless", hint="pip install -U goldless")
    return lesson


class TaughtEngine(WrapperEngine):
    """Answers what it was taught as the labels were made, and anything else as its model does.

    A taught question is asked in its own wordings and examples; a request's are for other questions. `engine` is the
    model where it is not the one that the file names; `settings` go to it.
    Raises: ConfigError if the model is not the one that was taught.
    """

    def __init__(self, path: str, *, engine: Engine | None = None, **settings: object) -> None:
        self.lesson = read_lesson(path)
        if engine is None and not self.lesson.engine:
            raise ConfigError(f"{path} does not say which model was taught", hint="TaughtEngine(path, engine=...)")
        super().__init__(engine or connect(self.lesson.engine, price=None, **settings))
        if (found := identity_text(self.inner.identity)) != self.lesson.identity:
            raise ConfigError(
                f"{path} is about {self.lesson.identity}, not {found}",
                hint="another model has another bias: label with it, and keep its own lesson",
            )
        self._known = {_key(one.question): (one, DecisionModel.from_json(one.model)) for one in self.lesson.questions}
        inner = self.inner.identity
        # Asked for with every request: the lesson is hashed once.
        self._identity = replace(inner, adapter="+".join(filter(None, (inner.adapter, f"taught-{self.lesson.key}"))))

    @property
    def identity(self) -> EngineIdentity:
        """The model, with the lesson as its adapter: its answers are not the model's own."""
        return self._identity

    async def decide(self, request: DecideRequest) -> Decisions:
        """Raises: EngineError and its kin."""
        asked = self._requests(request)
        results = await together([self.inner.decide(one) for one in asked])
        said: dict[str, list[Decision | None]] = {question.name: [] for question in request.questions}
        for one, result in zip(asked, results, strict=True):
            for question, answer in zip(one.questions, result.answers, strict=True):
                said[question.name].append(answer)
        costs = [one.cost for one in results if one.cost is not None]
        return Decisions(
            tuple(self._answer(question, said[question.name]) for question in request.questions),
            sum((one.usage for one in results), Usage(calls=0)),
            sum(costs) if len(costs) == len(results) else None,
            max((one.latency for one in results), default=0.0),
        )

    async def preview(self, request: DecideRequest) -> tuple[Preview, ...]:
        """What the model would be sent, in every wording."""
        found = [await self.inner.preview(one) for one in self._requests(request)]
        return tuple(chain.from_iterable(found))

    def _requests(self, request: DecideRequest) -> list[DecideRequest]:
        """What the model is asked: every wording of the questions that it was taught, and the others as they are."""
        known = [(question, self._known[_key(question)][0]) for question in request.questions if self._knows(question)]
        others = tuple(question for question in request.questions if not self._knows(question))
        found = _as_taught(request.state, known) if known else []
        return [*found, replace(request, questions=others)] if others else found

    def _knows(self, question: Question) -> bool:
        return _key(question) in self._known

    def _answer(self, question: Question, said: Sequence[Decision | None]) -> Decision | None:
        given = [one for one in said if one is not None]
        if not given or not self._knows(question):
            return said[0]
        taught, model = self._known[_key(question)]
        table = np.full((1, *model.bias.shape), np.nan)
        for view, (wording, answer) in enumerate(zip(taught.wordings, said, strict=True)):
            if answer is not None:
                table[0, view] = _in_order(taught.question, wording.question, answer.logprobs)
        corrected = np.log(np.maximum(model.transform(table).probabilities[0], 1e-30))
        masses = [one.label_mass for one in given if one.label_mass is not None]
        mass = sum(masses) / len(masses) if masses else None
        return Decision(tuple(_in_order(question, taught.question, corrected.tolist())), mass, given[0].readout)


def _in_order(wanted: Question, given: Question, values: Sequence[float]) -> list[float]:
    """Values of the options of `given`, in the order of the options of `wanted`."""
    return [values[given.labels.index(label)] for label in wanted.labels]


def _as_taught(state: str, known: Sequence[tuple[Question, Taught]]) -> list[DecideRequest]:
    """One request per wording, in which the questions and the examples' answers go by the request's own names. All
    questions of a lesson have the same templates and examples."""
    names = {taught.question.name: question.name for question, taught in known}
    first = known[0][1]
    shots = tuple(
        replace(shown, answers={names[name]: label for name, label in shown.answers.items() if name in names})
        for shown in first.demonstrations
    )
    return [
        DecideRequest(
            state,
            tuple(replace(taught.wordings[view].question, name=question.name) for question, taught in known),
            wording.template,
            shots,
        )
        for view, wording in enumerate(first.wordings)
    ]


def _key(question: Question) -> tuple[str, str, frozenset[str]]:
    """What makes two questions the same, whatever order their options stand in."""
    return question.kind, question.instructions, frozenset(question.labels)
