"""A dataset version as the token sequences that a model is trained on: exactly what the engines score.

A closed field is the prompt that `decide` renders, then the tokens of the label that its trie knows, then the
token that ends the turn. The sampled fields are the prompt that `generate` renders, then the answer's text.
Only the answer is learned.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic

import orjson

from curator.datasets import Row, read_rows
from curator.engines.prompt import Prompt, Prompter
from curator.engines.readout import walk
from curator.errors import InputError
from curator.export import written
from curator.store import DatasetVersion, Store, of_kind
from curator.task import Output, Task
from curator.types import JsonObject, Message

LEAST_ROWS = 16
"""Fewer rows than this teach a model these rows, not the task."""


@dataclass(frozen=True, slots=True)
class TrainingSet(Generic[Output]):
    """A version of a task's dataset, by default the latest one."""

    store: Store
    task: Task[Output]
    version: int | None = None

    def found(self) -> DatasetVersion:
        """The version. Raises: InputError if there is none, or it was made with another task."""
        if self.version is None:
            mine = [item for item in self.store.datasets() if (item.task_id, item.kind) == (self.task.id, "labels")]
            if not mine:
                raise InputError("there is no dataset version of this task", hint="goldless curate makes one")
            return mine[-1]
        version = of_kind(self.store.dataset(self.version), "labels")
        if version.task_id != self.task.id:
            raise InputError(
                f"version {version.version} was made with task {version.task_id}, this is task {self.task.id}",
                hint="train with the task, or the settings, that it was made with",
            )
        return version

    def rows(self) -> list[Row[Output]]:
        """The rows that have a weight.

        Raises: InputError for too few rows, weights that are no numbers, or a single class.
        """
        version = self.found()
        rows = [row for row in read_rows(self.store, self.task, version.version) if _weight(row) > 0]
        if len(rows) < LEAST_ROWS:
            raise InputError(
                f"dataset version {version.version} has {len(rows)} rows with a weight, training needs {LEAST_ROWS}",
                hint="curate more documents, or lower min_confidence",
            )
        _check_classes(self.task, rows, version.version)
        return rows


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence to train on: the last `answer` tokens of `ids` are learned, the loss times `weight`."""

    document_id: str
    ids: list[int]
    answer: int
    weight: float

    @property
    def labels(self) -> list[int]:
        """`ids` with -100, which torch leaves out of the loss, for all that is not learned."""
        prompt = len(self.ids) - self.answer
        return [-100] * prompt + self.ids[prompt:]


@dataclass(frozen=True, slots=True)
class Split:
    """Which documents validate (a share of them, by their ids and the seed), and the most tokens of an example."""

    validation: float
    seed: int
    max_length: int

    def held_out(self, ids: Iterable[str]) -> set[str]:
        """Those of the documents to validate on, at least one. All rows of a document lie on one side."""
        names = sorted(set(ids), key=self._place)
        return set(names[: max(1, round(self.validation * len(names)))])

    def _place(self, name: str) -> bytes:
        return hashlib.blake2b(f"{self.seed}:{name}".encode(errors="replace"), digest_size=8).digest()


@dataclass(frozen=True, slots=True)
class Examples:
    """The sequences of a version: those to train on, those to validate on, and how many were too long."""

    train: list[Example]
    validation: list[Example]
    too_long: int

    @property
    def tokens(self) -> int:
        """Tokens of one epoch."""
        return sum(len(example.ids) for example in self.train)


def build(task: Task[Output], rows: Sequence[Row[Output]], prompter: Prompter, split: Split) -> Examples:
    """Render and split the rows; weights are scaled to a mean of 1, so that they do not change the learning rate.

    Raises: InputError if nothing fits; TaskError if the model's chat template refuses.
    """
    held = split.held_out(row.document.id for row in rows)
    limit = min(split.max_length, prompter.limit)
    # The length is looked at here, so that one long row is counted instead of raised.
    free = Prompter(prompter.tokenizer, _ANY)
    train: list[Example] = []
    validation: list[Example] = []
    too_long = 0
    for position, row in enumerate(rows):
        for example in render(task, row, free, position % len(task.views)):
            if len(example.ids) > limit:
                too_long += 1
            else:
                (validation if row.document.id in held else train).append(example)
    if not train or not validation:
        raise InputError(
            f"{too_long} examples have more than {limit} tokens; {len(train)} are left to train on and"
            f" {len(validation)} to validate on",
            hint="raise max_length, if the model's context allows it",
        )
    mean = sum(example.weight for example in train) / len(train)
    return Examples(_scaled(train, mean), _scaled(validation, mean), too_long)


_ANY = 1 << 30


def render(task: Task[Output], row: Row[Output], prompter: Prompter, view: int = 0) -> Iterator[Example]:
    """One example per closed field, asked under one view, and one for the sampled fields."""
    values: JsonObject = orjson.loads(row.output.model_dump_json())
    if task.closed:
        request = task.decide_request(row.document, view)
        for item, asked in zip(task.closed, request.questions, strict=True):
            prompt = prompter.question(request, asked)
            shown = task.views[view].permutation(item.question).index(item.values.index(values[item.name]))
            yield _example(row, prompt.ids, ended(_label(prompt, shown), prompter.end))
    if task.sampled:
        messages = task.generate_request(row.document).messages
        yield _example(row, *continued(prompter, messages, written(task, values)))


def _label(prompt: Prompt, option: int) -> list[int]:
    """The tokens that spell an option after the prompt, as the engines score them."""
    return next(list(node.path) for node in walk(prompt.trie.root) if node.options == (option,) and not node.branches)


def continued(prompter: Prompter, messages: Sequence[Message], answer: str) -> tuple[list[int], list[int]]:
    """The tokens of a chat, and those of the answer with the one that ends it. The chat's stay as they are, since that
    is where generation starts, even where the tokenizer would merge across the border."""
    text = prompter.text(messages)
    prompt, whole = prompter.encode(text), prompter.encode(text + answer)
    follows = whole[: len(prompt)] == prompt
    learned = whole[len(prompt) :] if follows else prompter.tokenizer.encode(answer, add_special_tokens=False)
    return prompt, ended(learned, prompter.end)


def ended(answer: list[int], end: int) -> list[int]:
    """An answer with the token that ends the turn."""
    return answer if answer[-1:] == [end] else [*answer, end]


def _example(row: Row[Output], prompt: list[int], answer: list[int]) -> Example:
    return Example(row.document.id, [*prompt, *answer], len(answer), row.weight)


def _scaled(examples: list[Example], mean: float) -> list[Example]:
    return [replace(example, weight=example.weight / mean) for example in examples]


def _weight(row: Row[Output]) -> float:
    if not (math.isfinite(row.weight) and row.weight >= 0):
        raise InputError(f"the document {row.document.id!r} has the weight {row.weight}", hint="a weight is 0 or more")
    return row.weight


def _check_classes(task: Task[Output], rows: Sequence[Row[Output]], version: int) -> None:
    """Raises: InputError if all that could be learned is to give one answer."""
    if task.sampled:
        return
    classes = {item.name: {str(getattr(row.output, item.name)) for row in rows} for item in task.closed}
    if all(len(found) == 1 for found in classes.values()):
        shown = ", ".join(f"{name} = {next(iter(found))}" for name, found in classes.items())
        raise InputError(
            f"every row of dataset version {version} has {shown}: there is nothing to tell apart",
            hint="select with balance or a lower min_confidence, or curate more documents",
        )
