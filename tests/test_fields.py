"""curator/fields.py: a pydantic model's fields read as questions."""

from __future__ import annotations

import enum
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from curator.errors import TaskError
from curator.fields import ClosedField, Labels, OpenField, Ordered, Reasoning, ReasoningField, read_fields


class Stars(enum.IntEnum):
    ONE = 1
    TWO = 2
    THREE = 3


class Tone(enum.Enum):
    CALM = "calm"
    LOUD = "loud"


class Everything(BaseModel):
    spam: bool
    topic: Literal["sport", "art"]
    tone: Tone
    stars: Stars
    level: Annotated[Literal["low", "mid", "high"], Ordered()]
    grade: Annotated[int, Field(ge=1, le=5)]
    likes: bool | None
    year: int
    price: Decimal | None
    seen: date
    title: str
    why: Annotated[str, Reasoning()]


def test_every_kind_of_field_becomes_its_kind_of_question():
    fields = {item.name: item for item in read_fields(Everything, "Read the review.")}
    kinds = {name: item.question.kind for name, item in fields.items() if isinstance(item, ClosedField)}
    assert kinds == {
        "spam": "predicate",
        "topic": "choice",
        "tone": "choice",
        "stars": "score",
        "level": "score",
        "grade": "score",
        "likes": "choice",
    }
    opened = {name: (item.kind, item.optional) for name, item in fields.items() if isinstance(item, OpenField)}
    assert opened == {
        "year": ("number", False),
        "price": ("number", True),
        "seen": ("date", False),
        "title": ("text", False),
    }
    assert isinstance(fields["why"], ReasoningField)


def test_options_keep_their_values_and_the_optional_one_may_be_none():
    fields = {item.name: item for item in read_fields(Everything, "") if isinstance(item, ClosedField)}
    assert fields["spam"].values == (True, False)
    assert fields["spam"].question.labels == ("yes", "no")
    assert fields["tone"].values == ("calm", "loud")
    assert fields["grade"].values == (1, 2, 3, 4, 5)
    assert fields["likes"].values == (True, False, None)
    assert fields["likes"].question.labels[2] == "none of these"


def test_labels_in_any_language_with_descriptions():
    class Review(BaseModel):
        mag: Annotated[bool, Labels(names={True: "да", False: "нет"}, descriptions={True: "понравилось"})]

    (item,) = read_fields(Review, "Понравился ли фильм?")
    assert isinstance(item, ClosedField)
    assert item.question.labels == ("да", "нет")
    assert item.question.options[0].description == "понравилось"


def test_each_field_of_several_is_told_apart_in_what_is_asked():
    class Two(BaseModel):
        is_spam: bool
        tone: Literal["calm", "loud"] = Field(description="How does it sound?")

    spam, tone = (item.question for item in read_fields(Two, "Read the mail.") if isinstance(item, ClosedField))
    assert spam.instructions == "Read the mail.\nis spam?"
    assert tone.instructions == "Read the mail.\nHow does it sound?"


def _model(annotation: object) -> type[BaseModel]:
    return type("Bad", (BaseModel,), {"__annotations__": {"field": annotation}})


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Literal["only"], "one label only"),
        (Literal["a", "A"], "are the same"),
        (Literal["a", " "], "empty label"),
        (list[str], "cannot be asked"),
        (str | int, "cannot be asked"),
        (Annotated[bool, Labels(descriptions={"yes": "x"})], "not one of its values"),
    ],
)
def test_a_field_that_cannot_be_asked_is_named(annotation, message):
    with pytest.raises(TaskError, match=f"field 'field'.*{message}"):
        read_fields(_model(annotation), "")


def test_no_fields():
    with pytest.raises(TaskError, match="has no fields"):
        read_fields(type("Empty", (BaseModel,), {}), "")


def test_150_labels_are_a_question_and_300_are_not():
    (item,) = read_fields(_model(Literal.__getitem__(tuple(f"intent {i}" for i in range(150)))), "")
    assert isinstance(item, ClosedField)
    assert len(item.values) == 150
    with pytest.raises(TaskError, match="300 labels"):
        read_fields(_model(Literal.__getitem__(tuple(f"intent {i}" for i in range(300)))), "")
