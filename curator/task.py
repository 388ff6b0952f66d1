"""A task: a pydantic model plus an instruction, turned into questions and read back as typed values.

class Review(BaseModel):
    sentiment: Literal["negative", "positive"]
    recommends: bool

task = Task(Review, "What does the reviewer think of the film?")
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from typing import Annotated, Any, Generic, Literal, TypeVar

import orjson
from pydantic import BaseModel, ValidationError, create_model

from curator.engines.base import fill, render_question
from curator.errors import TaskError
from curator.fields import ClosedField, Field, Labels, OpenField, Reasoning, ReasoningField, read_fields
from curator.parsing import MISSING, parse_answer, parse_json, parse_reply
from curator.types import (
    DecideRequest,
    Demonstration,
    Document,
    GenerateRequest,
    Json,
    JsonObject,
    Message,
    Question,
    Sampling,
    Solved,
    Template,
)

Output = TypeVar("Output", bound=BaseModel)
Answer = TypeVar("Answer")

DEFAULT_TEMPLATE = Template(
    state="Text: {state}",
    question="{instructions}\nOptions:\n{options}\nAnswer with one of the options only.",
)
PARAPHRASES = (
    DEFAULT_TEMPLATE,
    Template(
        state="Read the following.\n\n{state}",
        question="Question: {instructions}\nPossible answers:\n{options}\nReply with the best answer and nothing else.",
        option="* {label}",
        described="* {label} ({description})",
    ),
    Template(
        system="You sort texts into categories. You reply with the name of a category.",
        state='"""\n{state}\n"""',
        question="{instructions}\nReply with one of these categories:\n{options}",
    ),
)
"""Built-in wordings for `Task.with_views`; the votes of one model under them are dependent."""

SAMPLED = Sampling(temperature=0.7, max_tokens=256)
_PROMPT = "{instruction}\n\n{state}\n\n{answer_format}"
_FREE = "{instruction}\n\n{state}"
_READERS = {"json": parse_json, "text": parse_answer, "free": parse_reply}


@dataclass(frozen=True, slots=True)
class View:
    """One way to put the questions: a wording, and the order in which options are shown. `order` 0 is the order given,
    -1 its reverse, any other number a seeded shuffle. Options of a score are only ever reversed: a shuffled scale is no
    scale."""

    template: Template = DEFAULT_TEMPLATE
    order: int = 0

    def permutation(self, question: Question) -> tuple[int, ...]:
        """Position -> index of the option shown there."""
        indices = list(range(len(question.options)))
        if self.order == -1 or (self.order and question.kind == "score"):
            indices.reverse()
        elif self.order:
            random.Random(f"{self.order}:{question.name}").shuffle(indices)
        return tuple(indices)


@dataclass(frozen=True)
class Task(Generic[Output]):
    """What to label: `output` says which fields there are, `instruction` what they mean.

    `views` are asked one by one and averaged. A task with a reasoning field is sampled as a whole,
    since reasoning that does not lead to the answer explains nothing; otherwise its closed fields
    are decided and its open fields sampled, `samples` times each. A generated text is read by `answer_format`: as a
    JSON object, as one that ends with `Answer: ...`, or (`free`) it is the one field's value as it is.

    Raises: TaskError on construction, if a field cannot be asked.
    """

    output: type[Output]
    instruction: str
    views: tuple[View, ...] = (View(),)
    samples: int = 5
    sampling: Sampling = SAMPLED
    answer_format: Literal["json", "text", "free"] = "json"
    fields: tuple[Field, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", read_fields(self.output, self.instruction))
        if not self.views:
            raise TaskError("a task needs at least one view")
        if self.samples < 1:
            raise TaskError(f"samples is {self.samples}; it must be 1 or more")
        if self.answer_format == "text" and len(self.voted) != 1:
            raise TaskError("answer_format='text' reads one answer", hint="use 'json' for several fields")
        if self.free and not (len(self.fields) == 1 == self.samples and self.reasoned):
            raise TaskError(
                "answer_format='free' keeps one reply in one field marked Reasoning()", hint="see respond()"
            )
        for view in self.views:
            if "{state}" not in view.template.state:
                raise TaskError(f"the template's state {view.template.state!r} has no {{state}}: the text is not shown")
            for question in self.questions:
                render_question(question, view.template)
            fill(view.template.state, state="")

    @property
    def free(self) -> bool:
        """Whether the whole reply is kept as it is, and nothing is voted on."""
        return self.answer_format == "free"

    @cached_property
    def reasoned(self) -> bool:
        """Whether the whole task is sampled because it keeps reasoning."""
        return any(isinstance(item, ReasoningField) for item in self.fields)

    @cached_property
    def closed(self) -> tuple[ClosedField, ...]:
        """The fields answered with probabilities."""
        return () if self.reasoned else tuple(item for item in self.fields if isinstance(item, ClosedField))

    @cached_property
    def sampled(self) -> tuple[Field, ...]:
        """The fields that are generated together."""
        return self.fields if self.reasoned else tuple(item for item in self.fields if isinstance(item, OpenField))

    @cached_property
    def voted(self) -> tuple[ClosedField | OpenField, ...]:
        """The generated fields that are voted on."""
        return tuple(item for item in self.sampled if not isinstance(item, ReasoningField))

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        return tuple(item.question for item in self.closed)

    @cached_property
    def spec(self) -> JsonObject:
        """All that defines the task, as JSON."""
        parts: JsonObject = {
            "output": self.output.__name__,
            "instruction": self.instruction,
            "fields": [{"type": type(item).__name__, **asdict(item)} for item in self.fields],
            "views": [asdict(view) for view in self.views],
            "samples": self.samples,
            "sampling": asdict(self.sampling),
            "answer_format": self.answer_format,
        }
        plain: JsonObject = orjson.loads(orjson.dumps(parts))
        return plain

    @cached_property
    def id(self) -> str:
        """Hash of the spec (hex, 64 bit): annotations under another task are other annotations."""
        return hashlib.blake2b(orjson.dumps(self.spec, option=orjson.OPT_SORT_KEYS), digest_size=8).hexdigest()

    def with_views(self, count: int) -> Task[Output]:
        """The same task asked in `count` ways: other wordings and other option orders."""
        orders = (0, -1, *range(1, max(count, 1)))
        return replace(self, views=tuple(View(PARAPHRASES[i % len(PARAPHRASES)], orders[i]) for i in range(count)))

    def decide_request(
        self, document: Document, view: int = 0, demonstrations: Sequence[Demonstration] = ()
    ) -> DecideRequest:
        """The closed fields as questions about one document, under one view."""
        return DecideRequest(
            document.text, self._view_questions[view], self.views[view].template, tuple(demonstrations)
        )

    def generate_request(self, document: Document, examples: Sequence[Solved] = ()) -> GenerateRequest:
        """The sampled fields as one prompt, after worked examples that are asked in the same words."""
        schema = self.json_schema if self.answer_format == "json" else None
        wanted = self._json_wish if schema else "Reason step by step. End with a line of the form: Answer: <answer>"
        pattern = _PROMPT if not self.free else _FREE if self.instruction else "{state}"
        prompt = partial(fill, pattern, instruction=self.instruction, answer_format=wanted)
        turns = [(Message("user", prompt(state=one.state)), Message("assistant", one.reply)) for one in examples]
        messages = (*chain.from_iterable(turns), Message("user", prompt(state=document.text)))
        return GenerateRequest(messages, self.sampling, schema, self.samples)

    def parse(self, text: str) -> JsonObject:
        """A generated text as field -> normalised value, MISSING where it cannot be read."""
        return _READERS[self.answer_format](text, self.sampled)

    def build(self, values: Mapping[str, Json]) -> Output | None:
        """The typed object, None where a required field is missing or breaks the model's own rules."""
        try:
            return self.output.model_validate({key: value for key, value in values.items() if value != MISSING})
        except ValidationError:
            return None

    @cached_property
    def _view_questions(self) -> tuple[tuple[Question, ...], ...]:
        return tuple(tuple(_shown(question, view) for question in self.questions) for view in self.views)

    @cached_property
    def json_schema(self) -> JsonObject:
        """JSON schema of the sampled fields, in order, every one required."""
        properties: JsonObject = {item.name: _json_schema(item) for item in self.sampled}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    @cached_property
    def _json_wish(self) -> str:
        lines = [f'- "{item.name}": {_describe(item)}' for item in self.sampled]
        return "Answer with one JSON object that has the fields\n" + "\n".join(lines)


def _shown(question: Question, view: View) -> Question:
    return replace(question, options=tuple(question.options[i] for i in view.permutation(question)))


def _json_schema(item: Field) -> JsonObject:
    if isinstance(item, ClosedField):
        return {"enum": list(item.values)}
    if isinstance(item, ReasoningField):
        return {"type": "string"}
    kind = "number" if item.kind == "number" else "string"
    return {"type": [kind, "null"]} if item.optional else {"type": kind}


def _describe(item: Field) -> str:
    if isinstance(item, ClosedField):
        allowed = ", ".join(orjson.dumps(value).decode() for value in item.values)
        return f"{item.question.instructions} (one of {allowed})"
    if isinstance(item, ReasoningField):
        return "your reasoning, step by step"
    return f"{item.instructions} ({item.kind}{', or null' if item.optional else ''})"


class Classification(BaseModel):
    """The output of `classify`."""

    label: str


class Solution(BaseModel, Generic[Answer]):
    """The output of `solve`: reasoning is kept, the answer is voted on."""

    reasoning: Annotated[str, Reasoning()]
    answer: Answer


def classify(labels: Sequence[str] | Mapping[str, str], instruction: str) -> Task[Classification]:
    """One choice among `labels` (a mapping gives label -> what it means)."""
    names = tuple(dict.fromkeys(labels)) if isinstance(labels, Mapping) else tuple(labels)
    if len(names) < 2:
        raise TaskError(f"a choice needs two labels or more, not {list(names)}")
    marks = Labels(descriptions=dict(labels)) if isinstance(labels, Mapping) else Labels()
    # The Literal is made at run time, out of a static checker's sight. `names` stand in the metadata too, because
    # `typing` keeps what it has made, and takes Literals for the same that differ in the order of their options.
    choice: Any = Annotated[Literal.__getitem__(names), marks, names]
    output = create_model("Classification", __base__=Classification, label=(choice, ...))
    return Task(output, instruction)


def solve(answer: type[Answer], instruction: str, *, samples: int = 10) -> Task[Solution[Answer]]:
    """Reason, then answer with a number, a short text or a date; the answers of `samples` are voted on."""
    return Task(
        Solution[answer],  # type: ignore[valid-type]
        instruction,
        samples=samples,
        sampling=Sampling(temperature=0.7, max_tokens=400),
        answer_format="text",
    )


class Response(BaseModel):
    """The output of `respond`: a text that is kept as it is."""

    response: Annotated[str, Reasoning()]


def respond(instruction: str = "", *, max_tokens: int = 400) -> Task[Response]:
    """Answer each text with a text, the likeliest one. It is not voted on, and no confidence is known."""
    return Task(Response, instruction, samples=1, sampling=Sampling(0.0, max_tokens=max_tokens), answer_format="free")
