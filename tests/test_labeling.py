"""curator/labeling.py: answers become labels; views are put back in order, missing stays missing."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import orjson
import pyarrow as pa
import pytest
from pydantic import BaseModel

from curator.fields import Reasoning
from curator.labeling import (
    Labeler,
    closed_labels,
    fit,
    in_sample,
    pages,
    sampled_labels,
    uniform,
    vote_correlations,
)
from curator.store import LABELS
from curator.task import Task, classify

TASK = classify(["bad", "fair", "good"], "How is it?").with_views(3)


def shown(view: int, values: list[float]) -> list[float]:
    """Log-probabilities as an engine gives them: in the order in which this view shows the options."""
    return [values[index] for index in TASK.views[view].permutation(TASK.questions[0])]


def row(document: str, view: int, values: list[float] | None, **more: object) -> dict[str, object]:
    logprobs = None if values is None else [shown(view, values)]
    mass = None if values is None else [0.9]
    return {
        "document_id": document,
        "view": view,
        "logprobs": logprobs,
        "label_mass": mass,
        "truncated": False,
        "error": None,
    } | more


def table(rows: list[dict[str, object]]) -> pa.Table:
    kinds = [
        ("document_id", pa.string()),
        ("view", pa.int32()),
        ("logprobs", pa.list_(pa.list_(pa.float64()))),
        ("label_mass", pa.list_(pa.float64())),
        ("truncated", pa.bool_()),
        ("error", pa.string()),
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema(kinds))


def test_views_are_put_back_into_the_tasks_order():
    (page,) = pages(TASK, [table([row("a", view, [-1.0, -2.0, -3.0]) for view in range(3)])])
    assert page.logprobs["label"].tolist() == [[[-1.0, -2.0, -3.0]] * 3]


def test_a_document_is_never_split_between_pages():
    rows = [row(f"d{i}", view, [-1.0 - i, -2.0, -3.0]) for i in range(5) for view in range(3)]
    whole = list(pages(TASK, [table(rows)]))
    parts = list(pages(TASK, [table(rows[i : i + 4]) for i in range(0, 15, 4)]))
    assert [name for page in parts for name in page.ids] == [f"d{i}" for i in range(5)]
    joined = np.concatenate([page.logprobs["label"] for page in parts])
    assert np.array_equal(joined, whole[0].logprobs["label"])


def test_what_was_not_answered_is_missing():
    rows = [
        row("a", 0, None, error="refusal"),
        row("a", 1, [-1.0, -2.0, -3.0]),
        row("b", 0, None, logprobs=[None], label_mass=[None]),
    ]
    (page,) = pages(TASK, [table(rows)])
    assert np.isnan(page.logprobs["label"]).all(axis=2).tolist() == [[True, False, True], [True, True, True]]


def many(count: int = 200) -> pa.Table:
    random = np.random.default_rng(0)
    rows = []
    for i in range(count):
        values = np.log(random.dirichlet(np.ones(3) * 0.5) + 1e-6)
        rows += [row(f"d{i}", view, (values + random.normal(0, 0.1, 3)).tolist()) for view in range(3)]
    return table(rows)


def test_labels_have_the_stores_columns_and_flags():
    rows = many().to_pylist()
    rows += [row("empty", 0, None, error="refusal"), row("cut", 0, [-1.0, -2.0, -3.0], truncated=True)]
    rows[-1]["label_mass"] = [0.01]
    found = list(pages(TASK, [table(rows)]))
    (labels,) = closed_labels(TASK, fit(TASK, found, 202), found)
    assert labels.schema == LABELS
    by_id = {item["document_id"]: item for item in labels.to_pylist()}
    assert by_id["empty"]["value"] is None
    assert by_id["empty"]["confidence"] is None
    assert by_id["empty"]["flags"] == ["unanswered"]
    assert by_id["cut"]["flags"] == ["truncated", "low_label_mass"]
    assert by_id["d0"]["basis"] == "batch"
    assert sum(by_id["d0"]["probabilities"]) == pytest.approx(1)
    best = int(np.argmax(by_id["d0"]["probabilities"]))
    assert orjson.loads(by_id["d0"]["value"]) == ("bad", "fair", "good")[best]
    assert 1 <= by_id["d0"]["effective_votes"] < 1.5


def test_the_sample_is_uniform_and_always_the_same():
    numbers = [uniform(f"d{i}") for i in range(5000)]
    assert np.histogram(numbers, bins=5, range=(0, 1))[0].min() > 900
    (page,) = pages(TASK, [many()])
    assert in_sample(page, 200, rows=50).tolist() == [number < 0.25 for number in numbers[:200]]


class Sum(BaseModel):
    kind: Literal["easy", "hard"]
    why: Annotated[str, Reasoning()]
    answer: int


def samples(rows: dict[str, list[str] | None]) -> pa.Table:
    names = {"document_id": list(rows), "samples": list(rows.values()), "truncated": [False] * len(rows)}
    return pa.table(names)


def said(answer: object, kind: str = "easy", why: str = "so") -> str:
    return orjson.dumps({"kind": kind, "why": why, "answer": answer}).decode()


def test_sampled_fields_are_voted_and_the_winners_reasoning_is_kept():
    task = Task(Sum, "Add.")
    answers = [said(3, why="wrong"), said("4.0", why="right"), said(4, "hard"), said(4), "no idea"]
    tables = [samples({"a": answers, "b": None, "c": ["?"]})]
    correlations = vote_correlations(task, tables, 3)
    assert 0 <= correlations["answer"] <= 1
    (labels,) = sampled_labels(task, Labeler({}, correlations=correlations), tables)
    by_key = {(item["document_id"], item["field"]): item for item in labels.to_pylist()}
    assert by_key["a", "answer"]["value"] == '"4"'
    assert by_key["a", "why"]["value"] == '"right"'
    assert by_key["a", "answer"]["basis"] == "agreement"
    assert by_key["a", "answer"]["confidence"] <= 0.75
    for missing in ("b", "c"):
        assert by_key[missing, "answer"]["value"] is None
        assert by_key[missing, "answer"]["flags"] == ["unanswered"]
        assert by_key[missing, "why"]["value"] is None
