"""A folder of heads as an engine: the same answers as the head itself, for its own questions only."""

from __future__ import annotations

import asyncio
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from curator.engines import connect  # noqa: E402
from curator.engines.base import Engine  # noqa: E402
from curator.engines.classifier import MICRO_BATCH, ClassifierEngine  # noqa: E402
from curator.engines.encoder import Encoder  # noqa: E402
from curator.engines.heads import Head, HeadEncoder, HeadModel, HeadSpec, LinearHead, save_heads  # noqa: E402
from curator.errors import ConfigError, EngineError, InputError, WeightsError  # noqa: E402
from curator.types import (  # noqa: E402
    DecideRequest,
    Demonstration,
    GenerateRequest,
    Message,
    Option,
    Question,
    Template,
)

pytestmark = pytest.mark.anyio

TONE = Question("tone", "choice", "Tone?", (Option("good"), Option("bad"), Option("mixed")))
FUN = Question("fun", "predicate", "Is it fun?", (Option("yes"), Option("no")))
TEXTS = [f"a {'good' if number % 2 else 'bad'} film " * (1 + number % 5) for number in range(2 * MICRO_BATCH)]


def linear(options: int, width: int = 32) -> LinearHead:
    generator = np.random.default_rng(options)
    weight = generator.normal(size=(options, width)).astype(np.float32)
    return LinearHead(weight, np.zeros(options, np.float32))


def saved(folder, model_folder, *specs: HeadSpec):
    identity = Encoder(str(model_folder)).identity
    encoder = HeadEncoder(str(model_folder), identity.revision, identity.pooling, identity.max_length, identity.dtype)
    heads = tuple(Head(spec, linear(len(spec.question.options))) for spec in specs)
    save_heads(folder, HeadModel(encoder, heads))
    return folder


@pytest.fixture
def folder(tiny_encoder, tmp_path):
    return saved(tmp_path / "tones", tiny_encoder, HeadSpec(TONE), HeadSpec(FUN))


@pytest.fixture
async def engine(folder):
    engine = connect(f"head:{folder}", device="cpu")
    yield engine
    await engine.aclose()


async def test_the_answers_are_the_heads_own(engine, tiny_encoder):
    assert isinstance(engine, Engine)
    assert engine.capabilities == {"decide"}
    expected = linear(3).logprobs(Encoder(str(tiny_encoder), device="cpu").encode(TEXTS))
    answers = await asyncio.gather(*(engine.decide(DecideRequest(text, (TONE,))) for text in TEXTS))
    for row, found in zip(expected, answers, strict=True):
        (decision,) = found.answers
        assert decision.logprobs == pytest.approx(row, abs=1e-4)
        assert (decision.label_mass, decision.readout) == (None, "head")
        assert sum(map(math.exp, decision.logprobs)) == pytest.approx(1)


async def test_the_answer_follows_the_order_of_the_options_asked(engine):
    asked = replace(TONE, options=TONE.options[::-1])
    (one,) = (await engine.decide(DecideRequest("a good film", (TONE,)))).answers
    (other,) = (await engine.decide(DecideRequest("a good film", (asked,)))).answers
    assert other.logprobs == pytest.approx(one.logprobs[::-1], abs=1e-6)


async def test_questions_about_one_state_share_its_features(engine):
    found = await engine.decide(DecideRequest("a good film", (FUN, TONE)))
    assert [len(answer.logprobs) for answer in found.answers] == [2, 3]
    assert found.usage.calls == 1
    (preview,) = await engine.preview(DecideRequest("a good film", (FUN,)))
    assert found.usage.input_tokens == preview.tokens > 3
    assert (preview.prompt, preview.readout, preview.scored) == ("a good film", "head", (("yes", ()), ("no", ())))


async def test_prompts_made_for_language_models_change_nothing(engine):
    shown = DecideRequest("x", (FUN,), Template(system="s", letters=True), (Demonstration("y", {"fun": "yes"}),))
    plain = await engine.decide(DecideRequest("x", (FUN,)))
    assert (await engine.decide(shown)).answers[0].logprobs == pytest.approx(plain.answers[0].logprobs, abs=1e-6)


async def test_another_question_is_refused_before_anything_runs(engine):
    with pytest.raises(InputError, match="no head answers the question 'mood'"):
        await engine.decide(DecideRequest("x", (FUN, replace(TONE, name="mood"))))
    with pytest.raises(InputError, match="trained on another question"):
        await engine.preview(DecideRequest("x", (replace(FUN, instructions="Is it dull?"),)))
    assert engine._encoder is None


async def test_a_head_does_not_generate(engine):
    with pytest.raises(ConfigError, match="cannot generate"):
        await engine.generate(GenerateRequest((Message("user", "hi"),)))


async def test_a_causal_model_reads_the_whole_prompt(tiny_model, tmp_path):
    template = Template(question="{instructions}")
    folder = saved(tmp_path / "causal", tiny_model, HeadSpec(TONE, template), HeadSpec(FUN))
    engine = connect(f"head:{folder}", device="cpu")
    request = DecideRequest("a good film", (TONE, FUN))
    prompts = [preview.prompt for preview in await engine.preview(request)]
    assert prompts[0] == "<|im_start|>user\nTone?\n\na good film<|im_end|>\n<|im_start|>assistant\n"
    assert prompts[1] == "a good film"
    found = await engine.decide(request)
    expected = linear(3).logprobs(Encoder(str(tiny_model), device="cpu").encode(prompts))
    assert found.answers[0].logprobs == pytest.approx(expected[0], abs=1e-4)
    assert found.usage.calls == 2
    await engine.aclose()


async def test_the_identity_follows_the_weights_not_the_place(folder, tiny_encoder, tmp_path):
    first = connect(f"head:{folder}").identity
    assert (first.provider, first.model, str(first)) == ("head", "tones", "head:tones")
    moved = shutil.copytree(folder, tmp_path / "moved" / "tones")
    assert connect(f"head:{moved}").identity == first
    other = saved(tmp_path / "other" / "tones", tiny_encoder, HeadSpec(FUN), HeadSpec(TONE))
    assert connect(f"head:{other}").identity != first


async def test_an_encoder_that_moved_is_said_where_it_lies(tiny_encoder, tmp_path):
    place = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    folder = saved(tmp_path / "tones", place, HeadSpec(FUN))
    place.rename(tmp_path / "elsewhere")
    engine = ClassifierEngine(str(folder), device="cpu")
    with pytest.raises(WeightsError, match=r"cannot be opened.*encoder='\.\.\.'"):
        await engine.decide(DecideRequest("x", (FUN,)))
    await engine.aclose()
    engine = ClassifierEngine(str(folder), encoder=str(tmp_path / "elsewhere"), device="cpu")
    assert (await engine.decide(DecideRequest("x", (FUN,)))).answers[0]
    await engine.aclose()


async def test_another_encoder_is_refused(folder, tiny_model):
    engine = ClassifierEngine(str(folder), encoder=str(tiny_model), device="cpu")
    with pytest.raises(WeightsError, match=r"is not the encoder that .* was trained on"):
        await engine.decide(DecideRequest("x", (FUN,)))
    await engine.aclose()


async def test_a_head_of_another_width_is_an_engine_error(tiny_encoder, tmp_path):
    identity = Encoder(str(tiny_encoder)).identity
    encoder = HeadEncoder(str(tiny_encoder), identity.revision, "mean", 32)
    save_heads(tmp_path, HeadModel(encoder, (Head(HeadSpec(FUN), linear(2, width=8)),)))
    engine = ClassifierEngine(str(tmp_path), device="cpu")
    with pytest.raises(WeightsError, match="8 features, the encoder gives 32"):
        await engine.decide(DecideRequest("x", (FUN,)))
    await engine.aclose()


async def test_what_torch_raises_becomes_an_engine_error(engine, monkeypatch):
    def out_of_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("no memory left")

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "forward", out_of_memory)
        with pytest.raises(EngineError, match="OutOfMemoryError: no memory left"):
            await engine.decide(DecideRequest("x", (FUN,)))
    assert (await engine.decide(DecideRequest("x", (FUN,)))).answers[0]


async def test_closing_twice_is_fine_and_frees_the_encoder(engine):
    await engine.decide(DecideRequest("x", (FUN,)))
    await engine.aclose()
    await engine.aclose()
    assert engine._encoder is None


def test_a_spec_that_names_no_head(tmp_path):
    with pytest.raises(ConfigError) as raised:
        connect("head:")
    assert raised.value.hint == "say which head: head:<folder>"
    with pytest.raises(WeightsError, match="there is no folder"):
        connect(f"head:{tmp_path}/nowhere")
    with pytest.raises(ConfigError, match="unknown setting 'encodr' of the head engine"):
        connect(f"head:{tmp_path}", encodr="x")


async def test_a_causal_model_is_tuned_on_whole_prompts_and_served(tiny_model, tmp_path):
    pytest.importorskip("peft")
    from curator.training.classifier import train_classifier
    from curator.training.head_settings import TuneSettings
    from curator.training.supervision import Supervision

    texts = [f"{'good' if number % 2 else 'bad'} film {number}" for number in range(40)]
    labels = ["yes" if number % 2 else "no" for number in range(40)]
    field = replace(Supervision.of_labels(FUN, labels), template=Template(question="{instructions}"))
    settings = TuneSettings(epochs=8, batch_size=8, learning_rate=5e-3, head_learning_rate=5e-3, lora_rank=4)
    model = train_classifier(texts, [field], tmp_path, str(tiny_model), settings)
    assert (model.encoder.pooling, model.heads[0].spec.template) == ("last", field.template)
    engine = connect(f"head:{tmp_path}", device="cpu")
    found = await asyncio.gather(*(engine.decide(DecideRequest(text, (FUN,))) for text in texts))
    await engine.aclose()
    right = [FUN.labels[one.answers[0].top] == label for one, label in zip(found, labels, strict=True)]
    assert np.mean(right) > 0.9
