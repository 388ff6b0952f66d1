"""curator/training/examples.py: what is trained is what the engines score."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
from pydantic import BaseModel

pytest.importorskip("transformers")

from training_builders import TASK, rows, training_set

from curator.engines.torch_model import load_prompter
from curator.errors import InputError
from curator.task import Task, View, solve
from curator.training.examples import Split, build, render
from curator.types import Template

ANY = Split(0.1, 0, 10_000)


class Review(BaseModel):
    tone: Literal["positive", "negative"]
    good: bool
    name: str


MIXED = Task(Review, "What is said?")


@pytest.fixture
def prompter(tiny_model):
    return load_prompter(tiny_model, 4096)


def text(prompter, ids) -> str:
    return prompter.tokenizer.decode(ids)


def test_a_closed_field_is_the_engines_prompt_then_the_tokens_it_scores(prompter, tmp_path):
    for row in training_set(tmp_path / "s.duckdb", rows(20)).rows():
        (example,) = render(TASK, row, prompter)
        request = TASK.decide_request(row.document)
        (preview,) = prompter.preview(request)
        prompt, answer = example.ids[: -example.answer], example.ids[-example.answer :]
        assert prompt == prompter.question(request, request.questions[0]).ids
        assert text(prompter, prompt) == preview.prompt
        assert text(prompter, answer) == row.output.label + "<|im_end|>"
        assert prompter.token(answer[0]) == dict(preview.scored)[row.output.label][0]
        assert example.labels == [-100] * len(prompt) + answer


def test_letters_and_another_order_of_the_options_are_answered_as_shown(prompter, tmp_path):
    template = Template(question="{options}", option="{code}={label}", letters=True, answer_prefix="It is ")
    task = replace(TASK, views=(View(template), View(template, -1)))
    row = training_set(tmp_path / "s.duckdb", rows(20), task).rows()[0]
    assert row.output.label == "negative"
    ends = [
        text(prompter, next(render(task, row, prompter, view)).ids).rpartition("<|im_start|>")[2] for view in (0, 1)
    ]
    assert ends == ["assistant\nIt is B<|im_end|>", "assistant\nIt is A<|im_end|>"]


def test_sampled_fields_are_trained_on_the_json_that_is_asked_for(prompter, tmp_path):
    given = [
        {**row, "output": {"tone": "positive", "good": bool(i % 2), "name": f"Ann «{i}»"}}
        for i, row in enumerate(rows(20))
    ]
    row = training_set(tmp_path / "s.duckdb", given, MIXED).rows()[3]
    tone, good, name = render(MIXED, row, prompter)
    assert text(prompter, tone.ids[-tone.answer :]) == "positive<|im_end|>"
    assert text(prompter, good.ids[-good.answer :]) == "yes<|im_end|>"
    assert text(prompter, name.ids[-name.answer :]) == '{"name":"Ann «3»"}<|im_end|>'
    messages = MIXED.generate_request(row.document).messages
    assert name.ids[: -name.answer] == prompter.messages(messages, 1)


def test_gold_in_the_documents_changes_nothing(prompter, tmp_path):
    plain = training_set(tmp_path / "a.duckdb", rows(40)).rows()
    gold = [{**row, "meta": {"gold": "positive" if i % 3 else "negative"}} for i, row in enumerate(rows(40))]
    told = training_set(tmp_path / "b.duckdb", gold).rows()
    assert build(TASK, plain, prompter, ANY) == build(TASK, told, prompter, ANY)


def test_the_split_depends_on_ids_and_seed_and_weights_have_a_mean_of_one(prompter, tmp_path):
    given = training_set(tmp_path / "s.duckdb", rows(40)).rows()
    found = build(TASK, given, prompter, ANY)
    held = {example.document_id for example in found.validation}
    assert len(held) == 4
    assert not held & {example.document_id for example in found.train}
    assert sum(example.weight for example in found.train) / 36 == pytest.approx(1)
    ids = [row.document.id for row in given]
    assert ANY.held_out(ids[::-1]) == held
    assert replace(ANY, seed=1).held_out(ids) != held


def test_both_rationales_of_a_question_lie_on_one_side(prompter, tmp_path):
    task = solve(int, "Add.")
    both = [
        {"id": f"d{i}", "text": f"{i} + 1", "output": {"reasoning": f"{who}: {i + 1}.", "answer": i + 1}, "weight": 1}
        for i in range(20)
        for who in ("weak", "strong")
    ]
    found = build(task, training_set(tmp_path / "s.duckdb", both, task).rows(), prompter, ANY)
    train, held = ({example.document_id for example in side} for side in (found.train, found.validation))
    assert (len(train), len(held)) == (18, 2)
    assert (len(found.train), len(found.validation)) == (36, 4)
    said = {prompter.decode(example.ids[-example.answer :]) for example in found.train if example.document_id == "d3"}
    assert said == {"weak: 4.\nAnswer: 4", "strong: 4.\nAnswer: 4"}


def test_long_rows_are_left_out_and_counted(prompter, tmp_path):
    long = [{**row, "text": row["text"] + " so long" * 50 * (i == 7)} for i, row in enumerate(rows(20))]
    given = training_set(tmp_path / "s.duckdb", long).rows()
    found = build(TASK, given, prompter, replace(ANY, max_length=250))
    assert (found.too_long, len(found.train) + len(found.validation)) == (1, 19)
    with pytest.raises(InputError, match=r"20 examples have more than 5 tokens; 0 are left.*raise max_length"):
        build(TASK, given, prompter, replace(ANY, max_length=5))


def test_a_weight_that_is_no_number_is_named(tmp_path):
    given = rows(20)
    given[3]["weight"] = -1.0
    with pytest.raises(InputError, match=r"the document 'd3' has the weight -1\.0"):
        training_set(tmp_path / "s.duckdb", given).rows()
