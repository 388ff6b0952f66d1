"""The transformers engine on a tiny random model: exact against a plain forward pass, whatever the batch."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from curator.engines import connect  # noqa: E402
from curator.engines.base import Engine  # noqa: E402
from curator.engines.pieces import streamed  # noqa: E402
from curator.engines.torch_model import shared_length  # noqa: E402
from curator.engines.transformers import TransformersEngine, choose  # noqa: E402
from curator.errors import (  # noqa: E402
    ConfigError,
    ContextLengthError,
    EngineError,
    RequestRejectedError,
    TaskError,
    WeightsError,
)
from curator.types import (  # noqa: E402
    ChatRequest,
    DecideRequest,
    Demonstration,
    GenerateRequest,
    Message,
    Option,
    Question,
    Sampling,
    Template,
)

pytestmark = pytest.mark.anyio

SENTIMENT = Question("tone", "choice", "Tone?", (Option("positive"), Option("negative"), Option("mixed")))
CARDS = Question("card", "choice", "What?", tuple(map(Option, ("card_arrival", "card_linking", "card", "other"))))
SHORT = Template(question="{instructions} {options}", option="{label}")


@pytest.fixture
async def engine(tiny_model, monkeypatch, tmp_path):
    monkeypatch.setenv("GOLDLESS_CACHE", str(tmp_path))
    engine = TransformersEngine(str(tiny_model), dtype="float32", device="cpu", batch_tokens=400)
    yield engine
    await engine.aclose()


@pytest.fixture(scope="session")
def plain(tiny_model):
    """The same model without the engine: text -> next-token log-probabilities."""
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_model)

    def logprobs(text: str) -> dict[str, float]:
        ids = tokenizer.encode(text, add_special_tokens=False)
        with torch.inference_mode():
            values = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        return dict(zip(tokenizer.convert_ids_to_tokens(range(len(values))), values.tolist(), strict=True))

    return logprobs


def chat(user: str) -> str:
    return f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


async def test_the_log_probabilities_are_the_models_own(engine, plain):
    assert isinstance(engine, Engine)
    answers = await engine.decide(DecideRequest("I like it", (SENTIMENT,), SHORT))
    expected = plain(chat("Tone? positive\nnegative\nmixed\n\nI like it"))
    (decision,) = answers.answers
    first = [tokens[0] for _, tokens in (await engine.preview(DecideRequest("x", (SENTIMENT,), SHORT)))[0].scored]
    assert decision.logprobs == pytest.approx([expected[token] for token in first], abs=1e-4)
    assert decision.label_mass == pytest.approx(sum(math.exp(expected[token]) for token in first), abs=1e-5)
    assert decision.readout == "labels"
    assert answers.usage.calls == 1
    assert answers.usage.input_tokens > 20


async def test_labels_that_share_a_prefix_are_told_apart_further_in(engine, plain):
    request = DecideRequest("where is my card", (CARDS,), SHORT)
    decision = (await engine.decide(request)).answers[0]
    (preview,) = await engine.preview(request)
    scored = dict(preview.scored)
    assert scored["card_arrival"][0] == scored["card_linking"][0] == scored["card"][0]
    assert scored["card"][-1] == "<|im_end|>"
    root = plain(preview.prompt)
    inner = plain(preview.prompt + "card")
    shared = root[scored["card"][0]]
    branches = {tokens[1] for label, tokens in preview.scored if label != "other"}
    total = math.log(sum(math.exp(inner[token]) for token in branches))
    assert decision.logprobs[2] == pytest.approx(shared + inner["<|im_end|>"] - total, abs=1e-4)
    assert decision.logprobs[3] == pytest.approx(root[scored["other"][0]], abs=1e-4)
    assert sum(map(math.exp, decision.logprobs)) == pytest.approx(decision.label_mass, rel=1e-6)


async def test_the_answer_does_not_depend_on_the_batch(engine):
    requests = [DecideRequest("word " * (1 + number % 23), (SENTIMENT, CARDS), SHORT) for number in range(40)]
    together = await asyncio.gather(*(engine.decide(request) for request in requests))
    for request, answers in zip(requests, together, strict=True):
        alone = await engine.decide(request)
        for one, other in zip(alone.answers, answers.answers, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


async def test_letters_demonstrations_and_an_opened_answer(engine, plain):
    template = Template(question="{options}", option="{code}={label}", letters=True, answer_prefix="It is ")
    shown = (Demonstration("so good", {"tone": "positive"}),)
    request = DecideRequest("meh", (SENTIMENT,), template, shown)
    (preview,) = await engine.preview(request)
    options = "A=positive\nB=negative\nC=mixed"
    assert preview.prompt == (
        f"<|im_start|>user\n{options}\n\nso good<|im_end|>\n<|im_start|>assistant\nIt is A<|im_end|>\n"
        + chat("meh")
        + "It is "
    )
    decision = (await engine.decide(request)).answers[0]
    assert decision.readout == preview.readout == "letters"
    expected = plain(preview.prompt.removesuffix(" ") if preview.scored[0][1][0].startswith(" ") else preview.prompt)
    tokens = [tokens[0].replace(" ", "Ġ") for _, tokens in preview.scored]
    assert decision.logprobs == pytest.approx([expected[token] for token in tokens], abs=1e-4)


async def test_labels_in_any_language(engine):
    labels = ("été", "étude", "日本", "日本語", "людина")
    question = Question("q", "choice", "?", tuple(map(Option, labels)))
    decision = (await engine.decide(DecideRequest("x", (question,)))).answers[0]
    assert sum(map(math.exp, decision.logprobs)) == pytest.approx(decision.label_mass, rel=1e-6)
    assert len(set(decision.logprobs)) == 5


async def test_a_prompt_beyond_the_context_is_refused_before_it_is_sent(engine):
    with pytest.raises(ContextLengthError) as caught:
        await engine.decide(DecideRequest("long " * 300, (SENTIMENT,)))
    assert caught.value.limit == 256
    assert caught.value.needed > 256
    with pytest.raises(ContextLengthError):
        await engine.generate(GenerateRequest((Message("user", "hi"),), Sampling(max_tokens=300)))


async def test_max_model_len_shortens_the_context(tiny_model):
    engine = TransformersEngine(str(tiny_model), max_model_len=20)
    with pytest.raises(ContextLengthError, match="context is 20"):
        await engine.preview(DecideRequest("x " * 30, (SENTIMENT,)))
    await engine.aclose()


async def test_greedy_samples_are_equal_and_carry_their_mean_log_probability(engine, plain):
    request = GenerateRequest((Message("user", "hi"),), Sampling(max_tokens=1), n=3)
    completion = await engine.generate(request)
    assert len(set(completion.samples)) == 1
    assert len(completion.samples) == 3
    sample = completion.samples[0]
    assert sample.logprob == pytest.approx(max(plain(chat("hi")).values()), abs=1e-4)
    assert sample.finish_reason == "length"
    assert completion.usage.output_tokens == 1


async def test_seeded_samples_repeat_and_differ_among_themselves(engine):
    request = GenerateRequest((Message("user", "hi"),), Sampling(temperature=1.5, max_tokens=12, seed=3), n=4)
    first, second = await engine.generate(request), await engine.generate(request)
    assert first.samples == second.samples
    assert len(set(first.samples)) > 1
    other = GenerateRequest(request.messages, Sampling(temperature=1.5, max_tokens=12, seed=4), n=4)
    assert (await engine.generate(other)).samples != first.samples


async def test_a_stop_string_ends_the_text_and_is_not_part_of_it(engine):
    plain_request = GenerateRequest((Message("user", "hi"),), Sampling(max_tokens=12))
    text = (await engine.generate(plain_request)).samples[0].text
    stop = text[3:5]
    stopped = await engine.generate(GenerateRequest(plain_request.messages, Sampling(max_tokens=12, stop=(stop,))))
    assert stopped.samples[0].text == text[: text.index(stop)]
    assert stopped.samples[0].finish_reason == "stop"


async def test_a_schema_holds_the_text_to_it(engine):
    pytest.importorskip("xgrammar")
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}
    sampling = Sampling(temperature=1.0, max_tokens=40, seed=1)
    completion = await engine.generate(GenerateRequest((Message("user", "hi"),), sampling, schema, n=3))
    finished = [sample for sample in completion.samples if sample.finish_reason == "stop"]
    assert finished
    assert all(json.loads(sample.text)["a"] in ("x", "y") for sample in finished)


async def test_a_cancelled_request_leaves_the_others_alone(engine):
    tasks = [asyncio.create_task(engine.decide(DecideRequest(f"row {n}", (SENTIMENT,)))) for n in range(8)]
    await asyncio.sleep(0)
    tasks[3].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in results] == [n == 3 for n in range(8)]


async def test_what_torch_raises_becomes_an_engine_error_and_the_engine_lives_on(engine, monkeypatch):
    request = DecideRequest("x", (SENTIMENT,))
    await engine.decide(request)
    with monkeypatch.context() as patch:
        patch.setattr(type(engine._model), "_inputs", out_of_memory)
        with pytest.raises(EngineError, match="OutOfMemoryError: no memory left"):
            await engine.decide(request)
    assert (await engine.decide(request)).answers[0]


def out_of_memory(*_: object) -> None:
    raise torch.OutOfMemoryError("no memory left")


async def test_closing_twice_is_fine_and_frees_the_model(tiny_model):
    engine = TransformersEngine(str(tiny_model), dtype="float32")
    await engine.decide(DecideRequest("x", (SENTIMENT,)))
    await engine.aclose()
    await engine.aclose()
    assert engine._model is None


async def test_the_identity_names_weights_dtype_and_adapter(tiny_model, tmp_path):
    first = TransformersEngine(str(tiny_model), dtype="float32").identity
    second = TransformersEngine(str(tiny_model), dtype="bfloat16").identity
    assert first.provider == "transformers"
    assert first.model == tiny_model.name
    assert first.revision != second.revision
    adapter = tmp_path / "my-adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_bytes(b"one")
    third = TransformersEngine(str(tiny_model), adapter=str(adapter)).identity
    assert third.adapter.startswith("my-adapter@")
    (adapter / "adapter_model.safetensors").write_bytes(b"another")
    assert TransformersEngine(str(tiny_model), adapter=str(adapter)).identity.adapter != third.adapter


async def test_an_adapter_changes_the_answers(tiny_model, tmp_path):
    peft = pytest.importorskip("peft")
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tuned = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    tuned.save_pretrained(tmp_path / "adapter")
    request = DecideRequest("x", (SENTIMENT,))
    answers = []
    for adapter in (None, str(tmp_path / "adapter")):
        engine = TransformersEngine(str(tiny_model), adapter=adapter, dtype="float32")
        answers.append((await engine.decide(request)).answers[0].logprobs)
        await engine.aclose()
    assert answers[0] != pytest.approx(answers[1], abs=1e-3)


async def test_a_stream_is_the_whole_text_in_one_piece(engine):
    request = GenerateRequest((Message("user", "hi"),), Sampling(max_tokens=6), n=2)
    whole = await engine.generate(request)
    found = [piece async for piece in streamed(engine, request)]
    assert [(piece.text, piece.finish_reason) for piece in found[:2]] == [
        (one.text, one.finish_reason) for one in whole.samples
    ]
    assert (len(found), found[-1].usage) == (3, whole.usage)
    assert len(whole.samples[0].head) == whole.usage.output_tokens


async def test_a_chat_request_is_heeded_or_refused(engine):
    plain = GenerateRequest((Message("user", "hi"),), Sampling(max_tokens=6))
    chat = ChatRequest(plain.messages, plain.sampling, turns=({"role": "user", "content": "hi"},), extra={"user": "u"})
    assert (await engine.generate(chat)).samples == (await engine.generate(plain)).samples
    for asked, name in ((replace(chat, logprobs=1), "logprobs"), (replace(chat, extra={"top_k": 2}), "top_k")):
        with pytest.raises(RequestRejectedError, match=f"cannot heed '{name}'"):
            await engine.generate(asked)


async def test_a_model_without_chat_template_gets_messages_joined_by_blank_lines(tiny_model, tmp_path):
    folder = tmp_path / "base"
    folder.mkdir()
    for file in tiny_model.iterdir():
        if file.name != "chat_template.jinja":
            (folder / file.name).write_bytes(file.read_bytes())
    engine = TransformersEngine(str(folder), dtype="float32")
    template = Template(system="Label.", question="{options}", option="{label}")
    request = DecideRequest("x", (SENTIMENT,), template)
    (preview,) = await engine.preview(request)
    assert preview.prompt == "Label.\n\npositive\nnegative\nmixed\n\nx\n\n"
    assert (await engine.decide(request)).answers[0].label_mass > 0
    await engine.aclose()


async def test_a_chat_template_that_refuses_is_the_tasks_fault(tiny_model, tmp_path):
    folder = tmp_path / "strict"
    folder.mkdir()
    for file in tiny_model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no system role') }}")
    engine = TransformersEngine(str(folder))
    with pytest.raises(TaskError, match="no system role"):
        await engine.preview(DecideRequest("x", (SENTIMENT,), Template(system="s")))
    await engine.aclose()


async def test_settings_that_do_not_exist(tiny_model):
    with pytest.raises(ConfigError, match="dtype 'int8' is unknown"):
        TransformersEngine(str(tiny_model), dtype="int8")
    engine = connect(f"transformers:{tiny_model}", device="toaster")
    with pytest.raises(ConfigError, match="device 'toaster'"):
        await engine.decide(DecideRequest("x", (SENTIMENT,)))
    await engine.aclose()
    with pytest.raises(WeightsError, match="no weights at"):
        connect("transformers:nonsense")


async def test_damaged_weights_are_named(tiny_model, tmp_path):
    for file in tiny_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    engine = TransformersEngine(str(tmp_path))
    with pytest.raises((WeightsError, EngineError), match=r"cannot be loaded|failed"):
        await engine.decide(DecideRequest("x", (SENTIMENT,)))
    await engine.aclose()


async def test_what_prompts_share_is_read_once(engine, monkeypatch):
    await engine.decide(DecideRequest("x", (SENTIMENT,), SHORT))
    model = engine._model
    state = "a long shared state " * 4
    prompts = [(await engine.prompter()).encode(state + rest) for rest in ("one", "another", "x y z", "one more")]
    tokens = [[5, 6, 7]] * 4
    together = model.next_logprobs(prompts, tokens)
    assert shared_length(prompts) > 30
    monkeypatch.setattr(model, "_shares", False)
    for one, other in zip(together, model.next_logprobs(prompts, tokens), strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_the_last_token_is_never_shared():
    assert shared_length([[1, 2, 3], [1, 2, 3], [1, 2, 3, 4]]) == 2
    assert shared_length([[1], [1, 2]]) == 0


def test_prompts_that_begin_alike_and_are_of_similar_length_run_together():
    state, other = [1] * 200, [2] * 200
    assert choose([[*state, 3], other, [*state, 4], [*state, 5, 6]], 4096) == [0, 2, 3]
    assert choose([[1, 9] * 20, [2] * 200, [3] * 42, [4] * 39], 4096) == [0, 3, 2]
    assert choose([[number] * 100 for number in range(50)], 1000) == list(range(10))
    assert choose([[1] * 5000], 1000) == [0]
