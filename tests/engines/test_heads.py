"""Heads on disk: what is written is read, and what is missing, damaged or mixed up is named."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("safetensors")

from curator.engines.heads import (
    SPEC,
    TENSORS,
    Head,
    HeadEncoder,
    HeadModel,
    HeadSpec,
    LinearHead,
    load_heads,
    save_heads,
)
from curator.errors import InputError, WeightsError
from curator.types import Option, Question, Template

TONE = Question("tone", "choice", "Tone?", (Option("good", "praise"), Option("bad"), Option("mixed")))
FUN = Question("fun", "predicate", "Is it fun?", (Option("yes"), Option("no")))
ENCODER = HeadEncoder("wheel:some", "abc", "mean", 64)


def linear(options: int, seed: int = 0) -> LinearHead:
    generator = np.random.default_rng(seed)
    return LinearHead(
        generator.normal(size=(options, 4)).astype(np.float32), generator.normal(size=options).astype(np.float32)
    )


def model() -> HeadModel:
    tone = HeadSpec(TONE, Template(system="s"), "gce", "v3", {"epochs": 2}, {"validation_loss": 0.5})
    return HeadModel(ENCODER, (Head(tone, linear(3)), Head(HeadSpec(FUN), linear(2, 1))))


@pytest.fixture
def folder(tmp_path):
    save_heads(tmp_path / "heads", model())
    return tmp_path / "heads"


def test_what_is_written_is_read(folder):
    found = load_heads(folder)
    assert found.encoder == ENCODER
    for one, other in zip(found.heads, model().heads, strict=True):
        assert one.spec == other.spec
        assert (one.linear.weight == other.linear.weight).all()
        assert (one.linear.bias == other.linear.bias).all()


def test_log_probabilities_are_those_of_a_softmax():
    head = LinearHead(np.array([[1.0, 0.0], [0.0, 2.0]], np.float32), np.array([0.0, 1.0], np.float32))
    (row,) = head.logprobs(np.array([[3.0, 1.5]], np.float32))
    assert row == pytest.approx([3 - np.log(np.exp(3) + np.exp(4)), 4 - np.log(np.exp(3) + np.exp(4))])


def test_the_revision_changes_with_weights_and_spec(folder, tmp_path):
    first = load_heads(folder)
    assert save_heads(tmp_path / "same", model()).revision == first.revision
    changed = replace(model(), heads=(Head(HeadSpec(FUN), linear(2, 7)),))
    assert save_heads(tmp_path / "other", changed).revision != first.revision
    shorter = replace(model(), encoder=replace(ENCODER, max_length=32))
    assert save_heads(tmp_path / "third", shorter).revision != first.revision
    moved = replace(model(), encoder=replace(ENCODER, weights="/elsewhere"))
    assert save_heads(tmp_path / "fourth", moved).revision == first.revision
    reworded = Head(HeadSpec(replace(TONE, instructions="Mood?")), linear(3))
    assert save_heads(tmp_path / "fifth", replace(model(), heads=(reworded,))).revision != first.revision


def test_options_may_come_in_another_order(folder):
    asked = replace(TONE, options=TONE.options[::-1])
    head, places = load_heads(folder).head(asked)
    assert head.spec.question == TONE
    assert places == (2, 1, 0)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (replace(TONE, name="mood"), "no head answers the question 'mood'.*tone, fun"),
        (replace(TONE, options=TONE.options[:2]), "its options are good, bad, mixed; asked were good, bad"),
        (replace(TONE, options=(*TONE.options[:2], Option("other"))), "asked were good, bad, other"),
        (replace(TONE, options=(Option("good"), *TONE.options[1:])), "described in other words"),
        (replace(TONE, instructions="Mood?"), "its instructions are 'Tone\\?'"),
        (replace(TONE, kind="score"), "a choice, not a score"),
    ],
)
def test_another_question_is_refused(folder, question, message):
    with pytest.raises(InputError, match=message):
        load_heads(folder).head(question)


def test_a_folder_that_is_no_head(tmp_path):
    with pytest.raises(WeightsError, match="there is no folder"):
        load_heads(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=r"holds no head\.json"):
        load_heads(tmp_path)


def test_missing_or_other_tensors(folder, tmp_path):
    save_heads(tmp_path / "other", replace(model(), heads=(Head(HeadSpec(FUN), linear(2)),)))
    content = (folder / TENSORS).read_bytes()
    (folder / TENSORS).write_bytes(content[:-3])
    with pytest.raises(WeightsError, match="damaged or mixed up"):
        load_heads(folder)
    (folder / TENSORS).write_bytes((tmp_path / "other" / TENSORS).read_bytes())
    with pytest.raises(WeightsError, match="damaged or mixed up"):
        load_heads(folder)
    (folder / TENSORS).unlink()
    with pytest.raises(WeightsError, match=r"lacks head\.safetensors"):
        load_heads(folder)


def change(folder, path, value):
    """Set one value of head.json, or remove it."""
    content = json.loads((folder / SPEC).read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    (folder / SPEC).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 99, "format 99"),
        (("format",), None, "is damaged"),
        (("encoder", "pooling"), "max", r"encoder\.pooling"),
        (("encoder", "max_length"), "many", r"encoder\.max_length"),
        (("heads", 0, "question", "name"), "mood", "no tensor 'mood.weight'"),
        (("heads", 0, "question", "options"), [{"label": "one"}, {"label": "two"}], "wrong shape"),
        (("heads", 0, "question"), None, r"heads\.0\.question"),
    ],
)
def test_a_spec_that_does_not_fit(folder, path, value, message):
    change(folder, path, value)
    with pytest.raises(WeightsError, match=message):
        load_heads(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"null"])
def test_a_damaged_spec(folder, content):
    (folder / SPEC).write_bytes(content)
    with pytest.raises(WeightsError, match="is damaged"):
        load_heads(folder)


def test_a_tuned_part_must_be_the_one_that_was_trained(tmp_path):
    lora = replace(model(), encoder=replace(ENCODER, tuning="lora", tuned="0" * 32))
    with pytest.raises(WeightsError, match="adapter is missing or not what was trained"):
        save_heads(tmp_path, lora)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="cannot write the head"):
        save_heads(tmp_path / "file", model())
