"""curator/training/sft.py: fine-tuning on a dataset version."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("trl")

import training_builders
from safetensors.torch import load_file
from training_builders import FAST, TASK, rows, training_set

from curator.engines import connect
from curator.errors import InputError, MissingExtraError, TrainingError, WeightsError
from curator.store import ModelRecord
from curator.task import solve
from curator.training.merge import merge
from curator.training.settings import SFTSettings, TrainingProgress
from curator.training.sft import fine_tune, plan
from curator.types import Document

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def data(tmp_path):
    return training_set(tmp_path / "s.duckdb", rows(48))


@pytest.fixture(scope="session")
def tuned(tiny_model, tmp_path_factory) -> tuple[ModelRecord, Path]:
    """A finished training that nothing has interrupted, and its folder."""
    folder = tmp_path_factory.mktemp("tuned")
    record = fine_tune(training_set(folder / "s.duckdb", rows(48)), str(tiny_model), folder / "model", FAST)
    return record, folder / "model"


def same(one: Path, other: Path) -> bool:
    left, right = load_file(one / WEIGHTS), load_file(other / WEIGHTS)
    return left.keys() == right.keys() and all(left[name].equal(right[name]) for name in left)


async def logprobs(spec: str, count: int = 8, **settings: str) -> list[float]:
    """The log-probabilities of both options, for the first so many rows."""
    engine = connect(spec, **{"dtype": "float32", "device": "cpu", **settings})
    found = []
    for row in rows(count):
        answers = await engine.decide(TASK.decide_request(Document(row["id"], row["text"])))
        found += list(answers.answers[0].logprobs)
    await engine.aclose()
    return found


def interrupted_at(step: int, data, tiny_model: Path, folder: Path) -> None:
    """A training that gets Ctrl-C after `step`."""

    def press(progress: TrainingProgress) -> None:
        if progress.step == step:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fine_tune(data, str(tiny_model), folder, FAST, progress=press)


def test_a_training_leaves_an_adapter_a_card_and_a_record(data, tiny_model, tmp_path):
    seen: list[TrainingProgress] = []
    record = fine_tune(data, str(tiny_model), tmp_path / "tuned", FAST, progress=seen.append)
    assert sorted(path.name for path in (tmp_path / "tuned").iterdir()) == [
        "README.md", "adapter_config.json", WEIGHTS, "training.json"
    ]  # fmt: skip
    assert data.store.models() == [record]
    assert (record.name, record.kind, record.dataset_version) == ("tuned", "sft", 1)
    assert record.dataset_hash == data.found().hash
    assert record.report["last_loss"] < record.report["first_loss"]
    assert record.report["validation_loss"] < record.report["validation_loss_before"]
    assert [run.status for run in data.store.runs()] == ["done"]
    assert data.store.runs()[0].id == record.run_id
    assert seen[-1].step == seen[-1].steps == plan(data, str(tiny_model), FAST).steps == 12
    assert seen[-1].loss is not None
    assert seen[-1].rate > 0
    card = (tmp_path / "tuned" / "README.md").read_text()
    assert record.dataset_hash in card
    assert str(tiny_model.parent) not in card
    assert (
        json.loads((tmp_path / "tuned" / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny-model0"
    )


def test_the_same_seed_gives_the_same_weights_and_a_finished_training_is_not_done_again(
    data, tiny_model, tmp_path, tuned
):
    first = fine_tune(data, str(tiny_model), tmp_path / "again", FAST)
    assert same(tmp_path / "again", tuned[1])
    assert first.sha256 == tuned[0].sha256
    assert fine_tune(data, str(tiny_model), tmp_path / "again", FAST) == first
    assert len(data.store.models()) == 1
    other = fine_tune(data, str(tiny_model), tmp_path / "again", replace(FAST, seed=1), restart=True)
    assert other.sha256 != first.sha256


def test_two_rationales_of_every_question_are_learned(tiny_model, tmp_path):
    task = solve(int, "Add.")
    both = [
        {"id": f"d{i}", "text": f"{i} + 1", "output": {"reasoning": f"{who}: {i + 1}.", "answer": i + 1}, "weight": 1}
        for i in range(20)
        for who in ("weak", "strong")
    ]
    data = training_set(tmp_path / "s.duckdb", both, task)
    record = fine_tune(data, str(tiny_model), tmp_path / "tuned", FAST)
    # Two questions are held out, with both rationales.
    assert (record.report["examples"], record.report["validation_examples"]) == (36, 4)
    assert record.report["validation_loss"] < record.report["validation_loss_before"]


def test_rows_of_weight_zero_have_no_influence(data, tiny_model, tmp_path, tuned):
    lies = [{**row, "id": f"x{row['id']}", "output": {"label": "positive"}, "weight": 0.0} for row in rows(24)]
    mixed = training_set(tmp_path / "mixed.duckdb", [*rows(48), *lies])
    fine_tune(mixed, str(tiny_model), tmp_path / "mixed", FAST)
    assert same(tmp_path / "mixed", tuned[1])
    heavier = [
        {**row, "weight": row["weight"] * (5 if row["output"]["label"] == "positive" else 1)} for row in rows(48)
    ]
    fine_tune(training_set(tmp_path / "h.duckdb", heavier), str(tiny_model), tmp_path / "heavier", FAST)
    assert not same(tmp_path / "heavier", tuned[1])


@pytest.mark.anyio
async def test_the_adapter_and_the_merged_model_answer_alike_and_better(tiny_model, tmp_path, tuned):
    merged = merge(tuned[1], tmp_path / "merged")
    adapted = await logprobs(f"transformers:{tiny_model}", adapter=str(tuned[1]))
    assert await logprobs(f"transformers:{merged}") == pytest.approx(adapted, abs=1e-2)
    before = await logprobs(f"transformers:{tiny_model}")
    right = slice(1, None, 4), slice(2, None, 4)  # negative is option 1 of even rows, positive option 0 of odd ones
    for places in right:
        assert sum(adapted[places]) > sum(before[places]) + 4
    assert f"A fine-tuned copy of {tiny_model.name}" in (merged / "README.md").read_text()
    with pytest.raises(InputError, match="is not empty"):
        merge(tuned[1], merged)


@pytest.mark.anyio
async def test_all_weights_can_be_trained(data, tiny_model, tmp_path):
    settings = replace(FAST, method="full", learning_rate=2e-3)
    record = fine_tune(data, str(tiny_model), tmp_path / "full", settings)
    assert record.report["validation_loss"] < record.report["validation_loss_before"]
    before = await logprobs(f"transformers:{tiny_model}")
    after = await logprobs(f"transformers:{tmp_path / 'full'}")
    assert sum(after) > sum(before)


def test_it_trains_in_bfloat16_and_early_stopping_ends_it(data, tiny_model, tmp_path):
    settings = replace(FAST, dtype="bfloat16", epochs=30, learning_rate=1e-9, patience=2, evaluations=30)
    record = fine_tune(data, str(tiny_model), tmp_path / "low", settings)
    assert record.report["stopped_early"]
    assert record.report["steps"] < record.report["steps_planned"]


def test_kill_9_and_the_same_call_give_the_whole_training(data, tiny_model, tmp_path, tuned):
    marks = tmp_path / "marks"
    command = [sys.executable, training_builders.__file__, str(data.store.path), str(tiny_model), str(tmp_path / "t")]
    child = subprocess.Popen([*command, str(marks)], env=ENVIRONMENT)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not marks.exists() or "8" not in marks.read_text().split()):
        assert child.poll() is None
        time.sleep(0.02)
    child.kill()
    child.wait()
    record = fine_tune(data, str(tiny_model), tmp_path / "t", FAST)
    assert record.report["resumed_at_step"] == 6
    assert record.report["steps"] == 12
    assert same(tmp_path / "t", tuned[1])
    assert [run.status for run in data.store.runs()] == ["done", "interrupted"]


def test_control_c_saves_and_the_same_call_goes_on(data, tiny_model, tmp_path, tuned):
    interrupted_at(4, data, tiny_model, tmp_path / "t")
    assert not (tmp_path / "t" / "training.json").exists()
    assert data.store.models() == []
    record = fine_tune(data, str(tiny_model), tmp_path / "t", FAST)
    assert record.report["resumed_at_step"] == 4
    assert same(tmp_path / "t", tuned[1])


def test_checkpoints_of_another_training_damaged_ones_and_deleted_ones_are_named(data, tiny_model, tmp_path):
    folder, base = tmp_path / "t", str(tiny_model)
    interrupted_at(4, data, tiny_model, folder)
    with pytest.raises(InputError, match=r"another training: batch_size 8 there, 4 now.*--restart"):
        fine_tune(data, base, folder, replace(FAST, batch_size=4))
    (damaged,) = [folder / "checkpoints" / "checkpoint-4"]
    file = damaged / WEIGHTS
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(WeightsError, match=rf"checkpoint-4 is damaged: {WEIGHTS}.*--restart"):
        fine_tune(data, base, folder, FAST)
    file.unlink()
    with pytest.raises(WeightsError, match=rf"checkpoint-4 lacks {WEIGHTS}"):
        fine_tune(data, base, folder, FAST)
    shutil.rmtree(damaged)
    with pytest.raises(WeightsError, match=r"checkpoint-4 was deleted.*--restart"):
        fine_tune(data, base, folder, FAST)
    assert fine_tune(data, base, folder, FAST, restart=True).report["resumed_at_step"] == 0


def test_a_full_disk_at_the_end_costs_nothing(data, tiny_model, tmp_path, tuned, monkeypatch):
    from curator.training import subject

    def full(*given: object) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(subject, "card", full)
        with pytest.raises(WeightsError, match="No space left on device"):
            fine_tune(data, str(tiny_model), tmp_path / "t", FAST)
    assert fine_tune(data, str(tiny_model), tmp_path / "t", FAST).report["resumed_at_step"] == 12
    assert same(tmp_path / "t", tuned[1])


def test_the_best_checkpoint_is_missed_before_the_training_goes_on(data, tiny_model, tmp_path):
    interrupted_at(4, data, tiny_model, tmp_path / "t")
    shutil.rmtree(tmp_path / "t" / "checkpoints" / "checkpoint-3")
    with pytest.raises(WeightsError, match="checkpoint-3 was deleted"):
        fine_tune(data, str(tiny_model), tmp_path / "t", FAST)


def test_a_folder_with_other_files_is_left_alone(data, tiny_model, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(InputError, match="mine is not empty"):
        fine_tune(data, str(tiny_model), tmp_path / "mine", FAST, restart=True)


def test_too_few_rows_one_class_and_no_version(tiny_model, tmp_path):
    few = training_set(tmp_path / "few.duckdb", rows(5))
    with pytest.raises(InputError, match="has 5 rows with a weight, training needs 16"):
        fine_tune(few, str(tiny_model), tmp_path / "t", FAST)
    alike = [{**row, "output": {"label": "positive"}} for row in rows(24)]
    one = training_set(tmp_path / "one.duckdb", alike)
    with pytest.raises(InputError, match="every row of dataset version 1 has label = positive"):
        fine_tune(one, str(tiny_model), tmp_path / "t", FAST)
    with pytest.raises(InputError, match="no dataset version of this task"):
        replace(few, task=TASK.with_views(2), version=None).found()
    with pytest.raises(InputError, match="was made with task"):
        replace(few, task=TASK.with_views(2)).found()


def test_a_loss_that_is_no_number_stops_it(data, tiny_model, tmp_path):
    with pytest.raises(TrainingError, match=r"which is no number \(lower the learning rate \(it is 1e\+30\)"):
        fine_tune(data, str(tiny_model), tmp_path / "t", replace(FAST, learning_rate=1e30, method="full"))


def test_out_of_memory_says_what_to_lower(data, tiny_model, tmp_path):
    script = (
        "import resource, sys\n"
        "from training_builders import *\n"
        "from curator.training.sft import fine_tune\n"
        "from curator.errors import TrainingError\n"
        "from dataclasses import replace\n"
        "def starve(progress):\n"
        "    held = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (held + (256 << 20), resource.RLIM_INFINITY))\n"
        "data = TrainingSet(Store(sys.argv[1]), TASK)\n"
        "settings = replace(FAST, batch_size=4096, micro_batch=4096)\n"
        "try:\n"
        "    fine_tune(data, sys.argv[2], sys.argv[3], settings, progress=starve)\n"
        "except TrainingError as error:\n"
        "    print(error)\n"
    )
    many = training_set(
        tmp_path / "many.duckdb", [{**row, "text": row["text"] + " and long" * 8} for row in rows(4000)]
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(many.store.path), str(tiny_model), str(tmp_path / "t")],
        capture_output=True, text=True, cwd=Path(training_builders.__file__).parent, check=False, env=ENVIRONMENT,
    )  # fmt: skip
    assert "out of memory with 4096 examples" in done.stdout, done.stderr
    assert "lower micro_batch or max_length" in done.stdout


@pytest.mark.anyio
async def test_an_adapter_of_another_model_is_refused(tiny_model, tmp_path, tuned):
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(tiny_model, tmp_path / "other")
    config = LlamaConfig.from_pretrained(tiny_model, hidden_size=16)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "other")
    with pytest.raises(WeightsError, match=r"does not fit other: it was trained on .* \(hidden_size 32, not 16\)"):
        connect(f"transformers:{tmp_path / 'other'}", adapter=str(tuned[1]))
    with pytest.raises(WeightsError, match="does not fit other"):
        merge(tuned[1], tmp_path / "merged", base=str(tmp_path / "other"))
    shutil.copytree(tuned[1], tmp_path / "foreign")
    (tmp_path / "foreign" / "training.json").unlink()
    engine = connect(f"transformers:{tmp_path / 'other'}", adapter=str(tmp_path / "foreign"))
    with pytest.raises(WeightsError, match="cannot be put on this model"):
        await engine.decide(TASK.decide_request(Document("a", "b")))
    await engine.aclose()


@pytest.mark.parametrize("module", ["trl", "peft"])
def test_without_the_extra_it_says_what_to_install(module, data, tiny_model, tmp_path, monkeypatch):
    for name in ("curator.training.loop", "curator.training.trainer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'goldless\[train\]'"):
        fine_tune(data, str(tiny_model), tmp_path / "t", FAST)


@pytest.mark.engine
@pytest.mark.timeout(600)
@pytest.mark.anyio
async def test_a_real_model_learns_the_training_answers(tmp_path):
    base = "wheel:smollm2-135m"
    data = training_set(tmp_path / "s.duckdb", rows(48))
    settings = SFTSettings(epochs=1, batch_size=8, learning_rate=1e-3, evaluations=1)
    record = fine_tune(data, base, tmp_path / "tuned", settings)
    assert record.report["last_loss"] < record.report["first_loss"]
    assert record.report["validation_loss"] < record.report["validation_loss_before"]
    before = await logprobs(f"transformers:{base}", 4, dtype="bfloat16")
    after = await logprobs(f"transformers:{base}", 4, dtype="bfloat16", adapter=str(tmp_path / "tuned"))
    right = [2 * i + (0 if i % 2 else 1) for i in range(4)]
    assert sum(after[i] for i in right) > sum(before[i] for i in right)
