"""Settings become the task that they describe."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.build import load_object, task_of
from cli.settings import Settings
from curator.errors import ConfigError, TaskError
from curator.fields import ClosedField, OpenField, ReasoningField
from curator.task import Task


def task(fields: dict[str, object], folder: Path = Path(), **tables: object) -> Task:
    settings = Settings.model_validate({"task": {"instruction": "Judge it.", "fields": fields}, **tables})
    return task_of(settings, folder)


def closed(built: Task, name: str) -> ClosedField:
    return next(item for item in built.closed if item.name == name)


def test_closed_fields() -> None:
    built = task(
        {
            "topic": {"kind": "choice", "labels": ["sport", "politics"], "optional": True, "none": "neither"},
            "spam": {"kind": "predicate"},
            "gut": {"kind": "predicate", "labels": {"ja": "it is good", "nein": "it is not"}},
            "urgency": {"kind": "score", "levels": {"low": "can wait", "high": "today"}},
            "stars": {"kind": "score", "levels": [1, 2, 3], "instructions": "How many stars?"},
        }
    )
    shapes = {item.name: (item.question.kind, item.question.labels, item.values) for item in built.closed}
    assert shapes == {
        "topic": ("choice", ("sport", "politics", "neither"), ("sport", "politics", None)),
        "spam": ("predicate", ("yes", "no"), (True, False)),
        "gut": ("predicate", ("ja", "nein"), (True, False)),
        "urgency": ("score", ("low", "high"), ("low", "high")),
        "stars": ("score", ("1", "2", "3"), (1, 2, 3)),
    }
    assert [option.description for option in closed(built, "gut").question.options] == ["it is good", "it is not"]
    assert [option.description for option in closed(built, "urgency").question.options] == ["can wait", "today"]
    assert closed(built, "stars").question.instructions.endswith("How many stars?")


def test_open_fields() -> None:
    built = task({"price": {"kind": "number"}, "day": {"kind": "date", "optional": True}, "name": {"kind": "text"}})
    kinds = [(item.kind, item.optional) for item in built.fields if isinstance(item, OpenField)]
    assert kinds == [("number", False), ("date", True), ("text", False)]
    reasoned = task({"why": {"kind": "reasoning"}, "good": {"kind": "predicate"}})
    assert isinstance(reasoned.fields[0], ReasoningField)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [(["a"], "one label"), (["a", "a"], "listed twice"), (["a", "A"], "are the same"), (["a", ""], "empty label")],
)
def test_label_sets_that_cannot_be_told_apart(labels: list[str], reason: str) -> None:
    with pytest.raises(TaskError, match=reason):
        task({"x": {"kind": "choice", "labels": labels}})


@pytest.mark.parametrize("name", ["model_config", "_x"])
def test_names_that_a_model_cannot_have(name: str) -> None:
    with pytest.raises(TaskError, match=name):
        task({name: {"kind": "predicate"}})


def test_a_template_changes_what_is_sent_and_a_broken_one_is_refused() -> None:
    field = {"x": {"kind": "predicate"}}
    built = task(field, template={"system": "Be brief."}, views={"count": 2})
    assert [view.template.system for view in built.views] == ["Be brief.", "Be brief."]
    assert [view.order for view in built.views] == [0, -1]
    with pytest.raises(TaskError, match="cannot be filled"):
        task(field, template={"question": "{instrutions}"})
    with pytest.raises(TaskError, match=r"no \{state\}"):
        task(field, template={"state": "nothing"})


def test_views_use_the_built_in_wordings_or_your_own() -> None:
    field = {"x": {"kind": "predicate"}}
    assert len(task(field).views) == 1
    assert len({view.template for view in task(field, views={"count": 3}).views}) == 3
    own = task(field, views={"count": 4, "templates": [{"system": "a"}, {"system": "b"}]})
    assert [(view.template.system, view.order) for view in own.views] == [("a", 0), ("b", 0), ("a", -1), ("b", -1)]


def test_a_model_of_your_own(tmp_path: Path) -> None:
    (tmp_path / "goldless_test_tasks.py").write_text(
        "from pydantic import BaseModel\nclass Review(BaseModel):\n    good: bool\nnumber = 3\n"
    )
    settings = Settings.model_validate({"task": {"model": "goldless_test_tasks:Review", "instruction": "Good?"}})
    assert task_of(settings, tmp_path).closed[0].question.kind == "predicate"
    wrong = Settings.model_validate({"task": {"model": "goldless_test_tasks:number"}})
    with pytest.raises(ConfigError, match="not a pydantic model"):
        task_of(wrong, tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("goldless_no_such", "write 'module:Name'"),
        ("goldless_no_such:X", "cannot be imported: ModuleNotFoundError"),
        ("json:nope", "has no 'nope'"),
    ],
)
def test_names_that_lead_nowhere(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=r"task\.model") as caught:
        load_object(name, tmp_path, "task.model")
    assert reason in str(caught.value)


def test_no_task() -> None:
    with pytest.raises(ConfigError, match=r"no \[task\]"):
        task_of(Settings(), Path())
