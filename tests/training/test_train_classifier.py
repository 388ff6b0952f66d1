"""`train_classifier`: frozen, LoRA and full; killed and resumed; served with the answers it was trained to give."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from head_builders import FIELDS, KIND, SIZE, TEXTS, TONE, tiny_settings  # noqa: E402

from curator.engines import connect  # noqa: E402
from curator.engines.encoder import Encoder  # noqa: E402
from curator.engines.heads import load_heads  # noqa: E402
from curator.errors import ConfigError, InputError, MissingExtraError, TrainingError, WeightsError  # noqa: E402
from curator.training.classifier import train_classifier  # noqa: E402
from curator.training.head_settings import HeadSettings  # noqa: E402
from curator.training.losses import LossSettings  # noqa: E402
from curator.training.supervision import Supervision  # noqa: E402
from curator.training.tune_state import FILE  # noqa: E402
from curator.types import DecideRequest, Option, Question  # noqa: E402


@pytest.fixture(autouse=True)
def own_cache(request, tmp_path_factory, monkeypatch):
    if "engine" not in request.keywords:
        monkeypatch.setenv("GOLDLESS_CACHE", str(tmp_path_factory.mktemp("cache")))


async def ask(folder: Path, texts: list[str], *questions: Question) -> np.ndarray:
    """Log-probabilities (n, k) of the first question, served."""
    engine = connect(f"head:{folder}")
    found = await asyncio.gather(*(engine.decide(DecideRequest(text, questions)) for text in texts))
    await engine.aclose()
    return np.array([decisions.answers[0].logprobs for decisions in found])


def served(folder: Path, question: Question = TONE) -> np.ndarray:
    return asyncio.run(ask(folder, TEXTS, question))


def test_frozen_heads_for_two_fields_over_one_encoder(tiny_encoder, tmp_path):
    model = train_classifier(TEXTS, FIELDS, tmp_path, str(tiny_encoder), HeadSettings(learning_rate=1e-2))
    assert [head.spec.question for head in model.heads] == [TONE, SIZE]
    assert model.revision == load_heads(tmp_path).revision
    spec = json.loads((tmp_path / "head.json").read_text())
    assert spec["encoder"]["tuning"] == "frozen"
    assert spec["heads"][0]["loss"] == "xent"
    assert spec["heads"][0]["settings"]["learning_rate"] == 1e-2
    assert spec["heads"][1]["metrics"]["rows"] + spec["heads"][1]["metrics"]["validation_rows"] == 48
    assert len(spec["heads"][0]["dataset"]) == 32
    assert ((served(tmp_path).argmax(1) == 0) == KIND).mean() > 0.9
    assert served(tmp_path, SIZE).shape == (60, 2)


def test_the_same_rows_give_the_same_head(tiny_encoder, tmp_path):
    first, second = (
        train_classifier(TEXTS, FIELDS, tmp_path / name / "head", str(tiny_encoder)) for name in ("one", "two")
    )
    assert first.revision == second.revision
    other = [replace(FIELDS[0], weights=FIELDS[0].weights * 0.5), FIELDS[1]]
    third = train_classifier(TEXTS, other, tmp_path / "three", str(tiny_encoder))
    assert third.heads[0].spec.dataset != first.heads[0].spec.dataset
    assert third.heads[1].spec.dataset == first.heads[1].spec.dataset


@pytest.mark.parametrize("method", ["lora", "full"])
def test_tuning_learns_both_fields_and_is_served(tiny_encoder, tmp_path, method):
    if method == "lora":
        pytest.importorskip("peft")
    before = (tiny_encoder / "model.safetensors").read_bytes()
    encoder = Encoder(str(tiny_encoder), device="cpu")
    untouched = encoder.encode(TEXTS)
    settings = replace(tiny_settings(method), epochs=15, learning_rate=5e-3 if method == "lora" else 1e-3)
    model = train_classifier(TEXTS, FIELDS, tmp_path, encoder, settings)
    assert model.encoder.tuning == method
    assert (tmp_path / ("adapter" if method == "lora" else "encoder")).is_dir()
    assert not (tmp_path / FILE).exists()
    assert ((served(tmp_path).argmax(1) == 0) == KIND).mean() > 0.9
    metrics = model.heads[0].spec.metrics
    assert metrics["validation_rows"] > 5
    assert metrics["validation_loss"] < 0.5
    # The encoder that was passed in stays as it was.
    assert encoder.encode(TEXTS) == pytest.approx(untouched, abs=1e-6)
    assert (tiny_encoder / "model.safetensors").read_bytes() == before


def test_a_tuned_model_moves_with_its_folder_and_notices_damage(tiny_encoder, tmp_path):
    train_classifier(TEXTS, FIELDS[:1], tmp_path / "one", str(tiny_encoder), tiny_settings("full"))
    expected = served(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    assert served(tmp_path / "two") == pytest.approx(expected, abs=1e-5)
    weights = tmp_path / "two" / "encoder" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    with pytest.raises(WeightsError, match="encoder is missing or not what was trained"):
        connect(f"head:{tmp_path / 'two'}")
    shutil.rmtree(weights.parent)
    with pytest.raises(WeightsError, match="encoder is missing"):
        connect(f"head:{tmp_path / 'two'}")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_training_that_was_killed_goes_on_and_ends_the_same(tiny_encoder, tmp_path, method, caplog):
    if method == "lora":
        pytest.importorskip("peft")
    whole = train_classifier(TEXTS, FIELDS, tmp_path / "whole", str(tiny_encoder), tiny_settings(method))
    killed(tiny_encoder, tmp_path / "killed", method, checkpoint=4)
    assert (tmp_path / "killed" / FILE).is_file()
    with caplog.at_level("INFO", logger="curator"):
        resumed = train_classifier(TEXTS, FIELDS, tmp_path / "killed", str(tiny_encoder), tiny_settings(method))
    assert "going on from step" in caplog.text
    for one, other in zip(whole.heads, resumed.heads, strict=True):
        assert one.linear.weight == pytest.approx(other.linear.weight, abs=1e-5)
        assert one.spec.metrics == pytest.approx(other.spec.metrics, abs=1e-5)
    assert served(tmp_path / "killed") == pytest.approx(served(tmp_path / "whole"), abs=1e-4)


def killed(encoder: Path, folder: Path, method: str, checkpoint: int) -> None:
    """Run killed_tuning.py, which dies by SIGKILL after so many checkpoints."""
    root = Path(__file__).parents[2]
    script = Path(__file__).with_name("killed_tuning.py")
    done = subprocess.run(
        [sys.executable, str(script), str(encoder), str(folder), method, str(checkpoint)],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (folder / "head.json").exists()


def test_a_checkpoint_that_is_damaged_deleted_or_of_another_training(tiny_encoder, tmp_path):
    killed(tiny_encoder, tmp_path, "full", checkpoint=2)
    settings = tiny_settings("full")
    with pytest.raises(InputError, match="belongs to a training with other data or settings"):
        train_classifier(TEXTS, FIELDS[:1], tmp_path, str(tiny_encoder), settings)
    with pytest.raises(InputError, match="belongs to a training with other"):
        train_classifier(TEXTS, FIELDS, tmp_path, str(tiny_encoder), replace(settings, seed=1))
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(WeightsError, match="is damaged") as raised:
        train_classifier(TEXTS, FIELDS, tmp_path, str(tiny_encoder), settings)
    assert "delete it to begin the training again" in raised.value.hint
    (tmp_path / FILE).unlink()
    again = train_classifier(TEXTS, FIELDS, tmp_path, str(tiny_encoder), settings)
    whole = train_classifier(TEXTS, FIELDS, tmp_path / "whole", str(tiny_encoder), settings)
    assert again.heads[0].linear.weight == pytest.approx(whole.heads[0].linear.weight, abs=1e-5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["kind"] * 60, "field 'tone': every row is labelled 'kind'"),
        (["kind", "unkind"] * 2 + [None] * 56, "field 'tone': 4 labelled rows are too few"),
    ],
)
def test_labels_that_cannot_be_learnt_from_name_the_field(tiny_encoder, tmp_path, labels, message):
    with pytest.raises(InputError, match=message) as raised:
        train_classifier(TEXTS, [Supervision.of_labels(TONE, labels)], tmp_path / "x", str(tiny_encoder))
    assert raised.value.hint
    assert not (tmp_path / "x").exists()


def test_fields_that_do_not_fit(tiny_encoder, tmp_path):
    with pytest.raises(InputError, match="there is no field"):
        train_classifier(TEXTS, [], tmp_path, str(tiny_encoder))
    with pytest.raises(InputError, match="two fields have the same name"):
        train_classifier(TEXTS, [FIELDS[0], FIELDS[0]], tmp_path, str(tiny_encoder))
    with pytest.raises(InputError, match="targets must be 59 rows"):
        train_classifier(TEXTS[:-1], FIELDS, tmp_path, str(tiny_encoder))


def test_a_loss_that_explodes_is_named(tiny_encoder, tmp_path):
    settings = replace(tiny_settings("full"), learning_rate=1e30, head_learning_rate=1e30)
    with pytest.raises(TrainingError, match="at step") as raised:
        train_classifier(TEXTS, FIELDS, tmp_path, str(tiny_encoder), settings)
    assert "lower the learning rate" in raised.value.hint


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
@pytest.mark.parametrize("settings", [HeadSettings(), tiny_settings("full")])
def test_out_of_memory_says_what_to_lower(tiny_encoder, tmp_path, monkeypatch, error, settings):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Encoder, "forward", fail)
    with pytest.raises(TrainingError, match="out of memory") as raised:
        train_classifier(TEXTS, FIELDS, tmp_path, str(tiny_encoder), settings)
    assert "batch_size" in raised.value.hint


def test_a_folder_that_cannot_be_written(tiny_encoder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot write the checkpoint"):
        train_classifier(TEXTS, FIELDS, tmp_path / "file", str(tiny_encoder), tiny_settings("full"))
    with pytest.raises(WeightsError, match="cannot write the head"):
        train_classifier(TEXTS, FIELDS, tmp_path / "file", str(tiny_encoder))


def test_without_peft_the_message_says_what_to_install(tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match="tuning with LoRA needs peft") as raised:
        train_classifier(TEXTS, FIELDS, tmp_path, str(tiny_encoder), tiny_settings("lora"))
    assert "pip install peft" in raised.value.hint


def test_full_tuning_needs_full_precision(tiny_encoder, tmp_path):
    encoder = Encoder(str(tiny_encoder), dtype="bfloat16")
    with pytest.raises(ConfigError, match="loses small updates"):
        train_classifier(TEXTS, FIELDS, tmp_path, encoder, tiny_settings("full"))


def trec(shared_data: Path, split: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (shared_data / "trec" / f"{split}.jsonl").read_text().splitlines()]


@pytest.mark.engine
@pytest.mark.timeout(900)
def test_a_minilm_head_learns_trec_and_serves_the_same_answers(shared_data, tmp_path):
    """Gold labels stand in for weak ones, so this is the ceiling; no selection looks at the test split."""
    rows, test = trec(shared_data, "train")[:1500], trec(shared_data, "test")
    labels = sorted({row["label"] for row in rows})
    question = Question("kind", "choice", "What does the question ask for?", tuple(map(Option, labels)))
    field = Supervision.of_labels(question, [row["label"] for row in rows])
    model = train_classifier([row["text"] for row in rows], [field], tmp_path / "trec")
    found = asyncio.run(ask(tmp_path / "trec", [row["text"] for row in test], question))
    accuracy = np.mean([labels[top] == row["label"] for top, row in zip(found.argmax(1), test, strict=True)])
    assert accuracy > 0.70
    own = model.heads[0].linear.logprobs(Encoder("wheel:all-minilm-l6-v2").encode([row["text"] for row in test]))
    assert found == pytest.approx(own, abs=1e-3)
    assert (found.argmax(1) == own.argmax(1)).all()


@pytest.mark.parametrize("loss", ["kd", "logconf", "reverse_kl", "gce"])
def test_tuning_takes_every_loss(tiny_encoder, tmp_path, loss):
    settings = replace(tiny_settings("full"), epochs=15, loss=LossSettings(loss))
    model = train_classifier(TEXTS, FIELDS[:1], tmp_path, str(tiny_encoder), settings)
    assert model.heads[0].spec.loss == loss
    assert ((served(tmp_path).argmax(1) == 0) == KIND).mean() > 0.9
