"""What an engine said about every document, and the final answers in it: what both stages of progressive learning
(`curator.methods.agreement`, `curator.methods.contrast`) compare.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import orjson

from curator.equivalence import classes
from curator.equivalence.finals import CUT_OFF, final_answer
from curator.errors import TaskError
from curator.fields import ClosedField, ReasoningField
from curator.learning import Answers
from curator.methods.demonstrations import Chooser
from curator.methods.guesses import Guesses
from curator.methods.solutions import choose
from curator.parsing import MISSING, last_object, marked_answer
from curator.task import Output, Task
from curator.types import Json, Solved

_SAYS_ANSWER = re.compile(r"\n?^\W*(?:the\s+)?(?:final\s+)?answer\W*(?:is)?\s*[:=].*\Z", re.IGNORECASE | re.MULTILINE)
"""A last line that does nothing but say the answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The texts that one request brought, and the final answer of each (None where it has none, or one that the
    task's type does not allow). `sure` is the geometric mean of the first text's token probabilities, 0 where they
    are unknown; `whole` whether that text came to its end."""

    texts: tuple[str, ...]
    finals: tuple[str | None, ...]
    sure: float
    whole: bool


def greedy(task: Task[Output]) -> Task[Output]:
    """The task asked for the one text that the model thinks the likeliest.

    Raises: TaskError if the task's answers are not one voted field that is written out.
    """
    return asked_as(task, 1, 0.0, None)


def asked_as(task: Task[Output], samples: int, temperature: float, seed: int | None) -> Task[Output]:
    """The task asked for `samples` texts in one request. Raises: TaskError, as `greedy`."""
    if len(task.voted) != 1 or task.closed:
        raise TaskError(
            "progressive learning compares one final answer, and this task has "
            f"{len(task.voted)} that are written out and {len(task.closed)} that are decided",
            hint="use a task with a reasoning field and one answer, as curator.solve makes",
        )
    sampling = replace(task.sampling, temperature=temperature, seed=seed)
    return replace(task, samples=samples, sampling=sampling)


def replies(answers: Answers[Output]) -> Iterator[tuple[str, Reply]]:
    """(document, reply) in the store's order, for the documents that were answered."""
    for table in answers.samples():
        columns = ("document_id", "samples", "finish_reasons", "sample_logprobs")
        for name, texts, finishes, logprobs in zip(*(table[column].to_pylist() for column in columns), strict=True):
            if texts:
                yield name, _reply(answers.task, texts, finishes or [], logprobs or [])


def _reply(task: Task[Output], texts: list[str], finishes: list[str], logprobs: list[float | None]) -> Reply:
    ends = [*finishes, *["stop"] * (len(texts) - len(finishes))]
    finals = tuple(final_answer(task, text, end) for text, end in zip(texts, ends, strict=True))
    first = logprobs[0] if logprobs else None
    return Reply(tuple(texts), finals, math.exp(first) if first is not None else 0.0, ends[0] != CUT_OFF)


def forms(task: Task[Output], finals: Sequence[str | None], question: str) -> list[str | None]:
    """The form of each final answer's class among the answers to one question; None where there is none, or one that
    the task's type does not take (a fraction without end is no decimal number).

    Raises: MissingExtraError where expressions are to be compared without math-verify.
    """
    if isinstance(task.voted[0], ClosedField):
        return list(finals)
    return [form if form is not None and row_of(task, "", form) else None for form in classes(finals, question)]


def row_of(task: Task[Output], text: str, form: str) -> Output | None:
    """A row to train on: the rationale of a text, and the answer as `form` has it. None where the task's type does not
    allow that."""
    (field,) = task.voted
    value: Json = orjson.loads(form) if isinstance(field, ClosedField) else form
    reasoning: dict[str, Json] = {item.name: rationale(task, text) for item in task.sampled if item is not field}
    return task.build({**reasoning, field.name: value})


def rationale(task: Task[Output], text: str) -> str:
    """What a text says before its answer; "" where it only answers."""
    if task.answer_format == "json":
        found = last_object(text)
        return "\n".join(str(found.get(item.name, "")) for item in task.sampled if isinstance(item, ReasoningField))
    return _SAYS_ANSWER.sub("", text).strip()


def demonstrations(
    answers: Answers[Output], said: Mapping[str, Reply], chooser: Chooser, shards: int
) -> tuple[tuple[Solved, ...], ...]:
    """Worked examples for each shard of the corpus, from the other shards: whole texts of the documents in `said`
    that reason and say where their answer is, drawn from those that the model was surest of. One that says it in
    another way than the task asks is shown where there are too few others."""
    (field,) = answers.task.voted
    found: Guesses[str] = Guesses()
    for name, reply in said.items():
        text = reply.texts[0]
        asked_for = answers.task.answer_format == "json" or "answer:" in text.casefold()
        boxed = "\\boxed" in text
        marked = asked_for or boxed or marked_answer(text) is not None
        shows = marked and reply.whole and reply.finals[0] and rationale(answers.task, text)
        value = answers.task.parse(text)[field.name] if shows else MISSING
        if value != MISSING:
            # What ends as the task asks comes first (1 is the most that counts), then what is boxed, then the rest:
            # examples teach how to end, too.
            found.add(name, orjson.dumps(value).decode(), reply.sure + (1 if asked_for else boxed - 1))
    return choose(answers, {field.name: found}, chooser, shards)
