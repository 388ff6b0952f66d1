"""A dataset version as weak labels: soft where the models said so, and of the right task only."""

from __future__ import annotations

from typing import Literal

import numpy as np
import orjson
import pytest
from pydantic import BaseModel

from curator.engines.scripted import ScriptedEngine
from curator.errors import InputError
from curator.pipeline import Plan, curate
from curator.screening import Screening
from curator.sources import open_source
from curator.store import Store
from curator.task import Task, classify, solve
from curator.training.weak_labels import read_supervision
from curator.types import DecideRequest

pytestmark = pytest.mark.anyio


class Review(BaseModel):
    tone: Literal["good", "bad"]
    long: bool


TASK = Task(Review, "Read the review.")


def answer(request: DecideRequest) -> dict[str, object]:
    good = 0.9 if "good" in request.state else 0.2
    return {"tone": {"good": good, "bad": 1 - good}, "long": len(request.state) > 20}


@pytest.fixture
async def store(tmp_path):
    texts = [f"a {'good' if number % 2 else 'bad'} film {'and so on ' * (number % 3)}{number}" for number in range(24)]
    file = tmp_path / "in.jsonl"
    file.write_bytes(b"\n".join(orjson.dumps({"id": f"r{i}", "text": text}) for i, text in enumerate(texts)))
    result = await curate(
        TASK,
        ScriptedEngine(decide=answer),
        Store(tmp_path / "s.duckdb"),
        source=open_source(str(file)),
        plan=Plan(screening=Screening(near=None)),
    )
    return result.store


async def test_every_closed_field_comes_with_its_probabilities_and_weights(store):
    texts, fields = read_supervision(store, TASK, 1)
    assert [field.question for field in fields] == list(TASK.questions)
    tone, long = fields
    assert tone.targets.shape == long.targets.shape == (len(texts), 2)
    assert tone.targets.sum(axis=1) == pytest.approx(np.ones(len(texts)))
    assert (tone.targets.argmax(axis=1) == [0 if "good" in text else 1 for text in texts]).all()
    assert 0.5 < tone.targets.max(axis=1).min() < 1
    assert tone.dataset == store.dataset(1).hash
    assert (tone.weights > 0).all()


async def test_hard_targets_are_all_on_the_label(store):
    _, fields = read_supervision(store, TASK, 1, soft=False)
    assert set(fields[0].targets.flatten().tolist()) == {0.0, 1.0}


async def test_another_task_or_none_that_is_closed(store):
    with pytest.raises(InputError, match="was made with task"):
        read_supervision(store, classify(["good", "bad"], "Tone?"), 1)
    with pytest.raises(InputError, match="there is no dataset version 9"):
        read_supervision(store, TASK, 9)
    with pytest.raises(InputError, match="no closed field"):
        read_supervision(store, solve(int, "How many?"), 1)
