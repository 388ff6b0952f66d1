"""A pydantic model's fields, read as the questions that they are.

A closed field is a decision (the OpenAI Decisions API's and System One's word): `bool` a predicate,
`Literal` or `Enum` a choice, an ordered scale a score. Every other scalar is open: it is sampled and
voted on. A field marked `Reasoning()` is kept and never voted on.
"""

from __future__ import annotations

import enum
import types as pytypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Interval, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from curator.errors import TaskError
from curator.types import Json, Option, Question, QuestionKind

OPEN_TYPES: Mapping[type, Literal["number", "text", "date"]] = {
    int: "number",
    float: "number",
    Decimal: "number",
    str: "text",
    date: "date",
    datetime: "date",
}
ByValue = Mapping[str, str] | Mapping[int, str] | Mapping[bool, str]
MAX_LABELS = 255
MAX_LEVELS = 21
"""An `int` with bounds is a score up to this many levels, and an open number beyond."""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Marks a `str` field that is kept but never voted on: `Annotated[str, Reasoning()]`."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """Marks a `Literal` or `Enum` of strings as a scale, lowest first: the field is a score."""


@dataclass(frozen=True, slots=True)
class Labels:
    """What the options of a closed field mean, and how they are called in the prompt.

    `descriptions` maps an option's value to a sentence that the model reads; `names` maps it to the
    label shown and scored in its place (for `bool`: `{True: "ja", False: "nein"}`); `none` is the
    label of "no answer" in an optional field.
    """

    descriptions: ByValue | None = None
    names: ByValue | None = None
    none: str = "none of these"


@dataclass(frozen=True, slots=True)
class ClosedField:
    """A field answered with a probability per option. `values[i]` is option i's JSON value."""

    name: str
    question: Question
    values: tuple[Json, ...]


@dataclass(frozen=True, slots=True)
class OpenField:
    """A field that is sampled and voted on after normalisation."""

    name: str
    kind: Literal["number", "text", "date"]
    instructions: str
    optional: bool


@dataclass(frozen=True, slots=True)
class ReasoningField:
    """A field that is kept, never voted on."""

    name: str
    instructions: str


Field = ClosedField | OpenField | ReasoningField


def read_fields(model: type[BaseModel], instruction: str) -> tuple[Field, ...]:
    """The fields of `model` in order.

    Raises: TaskError naming the field that cannot be asked, and what to write instead.
    """
    if not model.model_fields:
        raise TaskError(f"{model.__name__} has no fields", hint="add a field for each thing to label")
    alone = len(model.model_fields) == 1
    return tuple(_read(name, info, _ask(name, info, instruction, alone)) for name, info in model.model_fields.items())


def _ask(name: str, info: FieldInfo, instruction: str, alone: bool) -> str:
    """What the model is asked: the task's instruction, and what tells this field from the others."""
    own = info.description or ("" if alone and instruction else f"{name.replace('_', ' ')}?")
    return "\n".join(part for part in (instruction, own) if part)


def _read(name: str, info: FieldInfo, instructions: str) -> Field:
    annotation, optional = _unwrap_optional(info.annotation)
    if any(isinstance(mark, Reasoning) for mark in info.metadata):
        return ReasoningField(name, instructions)
    closed = _closed_values(annotation, info.metadata)
    if closed is not None:
        kind, values = closed
        return _closed(name, kind, values, optional, instructions, info.metadata)
    if isinstance(annotation, type) and annotation in OPEN_TYPES:
        return OpenField(name, OPEN_TYPES[annotation], instructions, optional)
    raise TaskError(
        f"field {name!r} of type {annotation!r} cannot be asked",
        hint="use bool, Literal, Enum, a bounded int, int, float, Decimal, str or date (Optional works), "
        "one field per question",
    )


def _unwrap_optional(annotation: object) -> tuple[object, bool]:
    if get_origin(annotation) in (Union, pytypes.UnionType):
        inner = [part for part in get_args(annotation) if part is not type(None)]
        if len(inner) == 1:
            return inner[0], True
    return annotation, False


def _closed_values(annotation: object, metadata: Sequence[object]) -> tuple[QuestionKind, tuple[Json, ...]] | None:
    if annotation is bool:
        return "predicate", (True, False)
    values: tuple[Json, ...]
    if get_origin(annotation) is Literal:
        values = get_args(annotation)
    elif isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        values = tuple(member.value for member in annotation)
    elif annotation is int and (levels := _bounds(metadata)):
        return "score", levels
    else:
        return None
    numbers = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    ordered = numbers or any(isinstance(mark, Ordered) for mark in metadata)
    return ("score" if ordered else "choice"), values


def _bounds(metadata: Sequence[object]) -> tuple[Json, ...] | None:
    low: int | None = None
    high: int | None = None
    for mark in metadata:
        low = next((v for v in (_as_int(mark, "ge", Ge, 0), _as_int(mark, "gt", Gt, 1)) if v is not None), low)
        high = next((v for v in (_as_int(mark, "le", Le, 0), _as_int(mark, "lt", Lt, -1)) if v is not None), high)
    if low is None or high is None or not 1 <= high - low < MAX_LEVELS:
        return None
    return tuple(range(low, high + 1))


def _as_int(mark: object, name: str, kind: type, offset: int) -> int | None:
    value = getattr(mark, name, None) if isinstance(mark, (kind, Interval)) else None
    return value + offset if isinstance(value, int) else None


def _closed(
    name: str,
    kind: QuestionKind,
    values: tuple[Json, ...],
    optional: bool,
    instructions: str,
    metadata: Sequence[object],
) -> ClosedField:
    given = next((mark for mark in metadata if isinstance(mark, Labels)), Labels())
    names: dict[Json, str] = dict((given.names or {}).items())
    descriptions: dict[Json, str] = dict((given.descriptions or {}).items())
    for key in (*names, *descriptions):
        if key not in values:
            raise TaskError(f"field {name!r}: {key!r} is described but is not one of its values {list(values)}")
    options = [Option(_label(value, kind, names), descriptions.get(value, "")) for value in values]
    if optional:
        options.append(Option(given.none, "not stated, or none of the others"))
        values = (*values, None)
        kind = "choice"
    check_labels(name, [option.label for option in options])
    return ClosedField(name, Question(name, kind, instructions, tuple(options)), values)


def _label(value: Json, kind: QuestionKind, names: Mapping[Json, str]) -> str:
    if value in names:
        return names[value].strip()
    if kind == "predicate":
        return "yes" if value else "no"
    return str(value).strip()


def check_labels(name: str, labels: Sequence[str]) -> None:
    """Raises: TaskError if a label set cannot be told apart."""
    if len(labels) < 2:
        raise TaskError(f"field {name!r} has one label only: {list(labels)}", hint="a decision needs two or more")
    if len(labels) > MAX_LABELS:
        raise TaskError(f"field {name!r} has {len(labels)} labels; at most {MAX_LABELS} can be asked at once")
    if any(not label for label in labels):
        raise TaskError(f"field {name!r} has an empty label", hint="name every option")
    first: dict[str, str] = {}
    for label in labels:
        if (key := label.casefold()) in first:
            raise TaskError(f"field {name!r}: the labels {first[key]!r} and {label!r} are the same", hint="remove one")
        first[key] = label
