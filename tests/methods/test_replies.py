"""curator/methods/replies.py: what was said, what it answers, and which of it is shown as an example."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import BaseModel

from curator.annotate import Progress
from curator.engines.scripted import ScriptedEngine
from curator.errors import TaskError
from curator.fields import Reasoning
from curator.methods.demonstrations import Chooser
from curator.methods.replies import asked_as, demonstrations, forms, greedy, rationale, replies, row_of
from curator.pipeline import answers_of, ask, prepare
from curator.requests import shard_of
from curator.task import Task, classify, solve
from curator.types import Completion, GenerateRequest, Sample
from tests.methods.progressive_builders import DOCUMENTS, PLAN, TASK, asked, filled

pytestmark = pytest.mark.anyio


class Two(BaseModel):
    why: Annotated[str, Reasoning()]
    eggs: int
    hens: int


def test_greedy_and_sampled_ask_the_same_words():
    once, often = greedy(TASK), asked_as(TASK, 10, 1.0, 3)
    first, second = (task.generate_request(DOCUMENTS[0]) for task in (once, often))
    assert first.messages == second.messages
    assert (first.n, first.sampling.temperature) == (1, 0.0)
    assert (second.n, second.sampling.temperature, second.sampling.seed) == (10, 1.0, 3)


@pytest.mark.parametrize("task", [Task(Two, "Count."), classify(["a", "b"], "Which?")])
def test_a_task_without_one_written_answer_is_refused(task):
    with pytest.raises(TaskError, match="one final answer"):
        greedy(task)


def test_forms_are_of_the_tasks_type():
    assert forms(TASK, ["$18.00", "18", None, "18.5", "1/3"], "") == ["18", "18", None, None, None]
    assert forms(solve(str, "Say."), ["1/3", "2/6"], "") == ["1/3", "1/3"]


def test_a_row_is_the_rationale_without_the_line_that_says_the_answer():
    row = row_of(TASK, "3 + 4 = 7\n**Answer:** $7.00", "7")
    assert row is not None
    assert (row.reasoning, row.answer) == ("3 + 4 = 7", 7)
    assert rationale(TASK, "Answer: 7") == ""
    assert rationale(TASK, "So the answer is 7, as 3 + 4 = 7.") == "So the answer is 7, as 3 + 4 = 7."
    assert row_of(TASK, "3 + 4", "1/3") is None


async def answered(tmp_path, script):
    store, engine = filled(tmp_path), ScriptedEngine(generate=script)
    task = greedy(TASK)
    answers = answers_of(task, store, engine, PLAN)
    with store.run("test", {}) as run:
        await prepare(task, store, run, None, PLAN)
        await ask(answers, engine, run, PLAN, Progress())
    return answers


async def test_examples_reason_come_to_their_end_and_come_from_the_other_shard(tmp_path):
    def script(request: GenerateRequest) -> Completion:
        number = int(asked(request)[1:])
        text, end = f"{number} is a number.\nAnswer: {number}", "stop"
        if number % 4 == 1:
            text = f"Answer: {number}"
        if number % 4 == 2:
            end = "length"
        if number % 4 == 3:
            text = f"It is {number}."
        return Completion((Sample(text, end, logprob=-0.01 * number),))

    answers = await answered(tmp_path, script)
    said = dict(replies(answers))
    assert said["d2"].finals == ("2",)
    assert not said["d2"].whole
    shots = demonstrations(answers, said, Chooser(count=4, longest=1500), 2)
    for shard, shot in enumerate(shots):
        names = [one.state.split(":")[0] for one in shot]
        assert len(names) == 4
        assert all(int(name[1:]) % 4 == 0 and shard_of(name, 2) != shard for name in names)
        # Drawn from the four times as many that it was surest of.
        assert all(int(name[1:]) < 90 for name in names)


async def test_a_failed_document_has_no_reply(tmp_path):
    def script(request: GenerateRequest) -> Completion:
        return Completion((Sample("Answer: 1"),)) if asked(request) != "d3" else Completion(())

    said = dict(replies(await answered(tmp_path, script)))
    assert len(said) == len(DOCUMENTS) - 1
    assert "d3" not in said
