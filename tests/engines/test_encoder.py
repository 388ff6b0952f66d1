"""The encoder against a plain forward pass of transformers, whatever the batch; MiniLM's real weights."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from curator.engines.encoder import MAX_LENGTH, Encoder, batches  # noqa: E402
from curator.errors import ConfigError, WeightsError  # noqa: E402
from curator.types import Option, Question, Template  # noqa: E402

TEXTS = ["a good film", "dull", "", "a fine film " * 4, "bad " * 30, "it is été 日本"]


@pytest.fixture
def encoder(tiny_encoder):
    return Encoder(str(tiny_encoder), device="cpu")


def copy(source, target):
    shutil.copytree(source, target, dirs_exist_ok=True)
    return target


def test_features_are_the_normalised_mean_of_the_models_states(encoder, tiny_encoder):
    model = transformers.AutoModel.from_pretrained(tiny_encoder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_encoder)
    features = encoder.encode(TEXTS)
    assert features.shape == (len(TEXTS), 32)
    assert features.dtype == np.float32
    for text, found in zip(TEXTS, features, strict=True):
        inputs = tokenizer(text, truncation=True, max_length=32, return_tensors="pt")
        with torch.inference_mode():
            states = model(**inputs).last_hidden_state[0]
        mean = states.mean(0)
        assert found == pytest.approx((mean / mean.norm()).numpy(), abs=1e-5)


def test_features_do_not_depend_on_the_batch(encoder):
    assert encoder.encode(TEXTS, batch_tokens=1) == pytest.approx(encoder.encode(TEXTS, batch_tokens=9999), abs=1e-5)
    assert encoder.encode(TEXTS[::-1])[::-1] == pytest.approx(encoder.encode(TEXTS), abs=1e-5)


def test_no_texts_no_features(encoder):
    assert encoder.encode([]).shape == (0, 32)


def test_a_long_text_is_cut_at_the_models_limit(encoder):
    assert encoder.max_length == 32
    (row,) = encoder.tokenize(["bad " * 99])
    assert len(row) == 32
    assert encoder.encode(["bad " * 99, "bad " * 500])[0] == pytest.approx(encoder.encode(["bad " * 500])[0], abs=1e-5)


def test_of_a_causal_model_the_last_token_is_read(tiny_model):
    encoder = Encoder(str(tiny_model), device="cpu")
    assert encoder.pooling == "last"
    assert encoder.max_length == 256 < MAX_LENGTH
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    texts = ["good", "a rather long text about a film", ""]
    features = encoder.encode(texts)
    for text, found in zip(texts[:2], features[:2], strict=True):
        with torch.inference_mode():
            ids = torch.tensor([encoder.tokenize([text])[0]])
            states = model(ids, output_hidden_states=True).hidden_states[-1]
        assert found == pytest.approx(states[0, -1].numpy(), abs=1e-4)


def test_a_causal_model_keeps_the_end_of_a_long_text(tiny_model):
    encoder = Encoder(str(tiny_model), device="cpu", max_length=8)
    (cut,), (whole,) = encoder.tokenize(["word " * 50 + "the end"]), encoder.tokenize(["the end"])
    assert len(cut) == 8
    assert cut[-3:] == whole[-3:]


def test_a_template_shows_the_question_up_to_the_answer(tiny_model, encoder):
    question = Question("tone", "choice", "Tone?", (Option("good"), Option("bad")))
    causal = Encoder(str(tiny_model), device="cpu")
    (prompt,) = causal.render(["dull"], question, Template(question="{instructions}", answer_prefix="It is "))
    assert prompt == "<|im_start|>user\nTone?\n\ndull<|im_end|>\n<|im_start|>assistant\nIt is "
    assert encoder.render(["dull"], question, None) == ["dull"]


def test_the_pooling_of_a_sentence_transformers_folder_is_kept(tiny_encoder, tmp_path):
    folder = copy(tiny_encoder, tmp_path / "cls")
    (folder / "1_Pooling").mkdir()
    settings = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    encoder = Encoder(str(folder), device="cpu")
    assert (encoder.pooling, encoder.max_length) == ("cls", 16)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        first = model(torch.tensor(encoder.tokenize(["good"]))).last_hidden_state[0, 0]
    assert encoder.encode(["good"])[0] == pytest.approx((first / first.norm()).numpy(), abs=1e-5)
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')
    with pytest.raises(WeightsError, match="pools by max_tokens"):
        Encoder(str(folder))
    (folder / "1_Pooling" / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="is damaged"):
        Encoder(str(folder))


def test_the_identity_names_all_that_decides_features_and_not_the_place(tiny_encoder, tmp_path):
    first = Encoder(str(tiny_encoder)).identity
    moved = Encoder(str(copy(tiny_encoder, tmp_path / "moved"))).identity
    assert first.key == moved.key
    others = [
        Encoder(str(tiny_encoder), max_length=8).identity,
        Encoder(str(tiny_encoder), pooling="cls").identity,
        Encoder(str(tiny_encoder), dtype="bfloat16").identity,
    ]
    assert len({first.key, *(other.key for other in others)}) == 4


def test_an_adapter_changes_features_and_identity(tiny_encoder, tmp_path):
    peft = pytest.importorskip("peft")
    model = transformers.AutoModel.from_pretrained(tiny_encoder)
    tuned = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["query"], init_lora_weights=False))
    tuned.save_pretrained(tmp_path / "adapter")
    plain = Encoder(str(tiny_encoder), device="cpu")
    adapted = Encoder(str(tiny_encoder), adapter=tmp_path / "adapter", device="cpu")
    assert adapted.identity.key != plain.identity.key
    assert np.abs(adapted.encode(["good"]) - plain.encode(["good"])).max() > 1e-3


def test_a_fresh_copy_shares_no_weights(encoder):
    twin = encoder.fresh()
    assert twin.model is not encoder.model
    assert twin.encode(["good"]) == pytest.approx(encoder.encode(["good"]), abs=1e-6)


def test_damaged_weights_are_named(tiny_encoder, tmp_path):
    folder = copy(tiny_encoder, tmp_path / "damaged")
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="damaged"):
        Encoder(str(folder), device="cpu").encode(["x"])
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match="config or tokenizer"):
        Encoder(str(folder))
    with pytest.raises(WeightsError, match="no weights at"):
        Encoder(str(tmp_path / "nowhere"))


def test_settings_that_do_not_exist(tiny_encoder):
    with pytest.raises(ConfigError, match="dtype 'int8'"):
        Encoder(str(tiny_encoder), dtype="int8")
    with pytest.raises(ConfigError, match="pooling 'max'"):
        Encoder(str(tiny_encoder), pooling="max")
    with pytest.raises(ConfigError, match="max_length"):
        Encoder(str(tiny_encoder), max_length=1)
    with pytest.raises(ConfigError, match="device 'toaster'"):
        Encoder(str(tiny_encoder), device="toaster").encode(["x"])


def test_batches_hold_similar_lengths_and_every_place_once():
    lengths = [3, 50, 7, 50, 8, 200, 4]
    found = list(batches(lengths, 100))
    assert found == [[5], [1, 3], [4, 2, 6, 0]]
    assert list(batches([], 100)) == []


@pytest.mark.engine
def test_minilm_knows_what_sentences_mean():
    encoder = Encoder("wheel:all-minilm-l6-v2")
    assert (encoder.width, encoder.max_length, encoder.pooling) == (384, 256, "mean")
    assert encoder.identity.revision.startswith("53aa51172d14")
    film, movie, stove = encoder.encode(["A wonderful film.", "What a great movie!", "The stove is out of gas."])
    assert np.linalg.norm(film) == pytest.approx(1, abs=1e-5)
    assert film @ movie > 0.6
    assert film @ stove < 0.2
