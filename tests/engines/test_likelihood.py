"""Mean log-likelihoods: against a loop over tokens, in any batch, with prompts, and cut at the limit."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from curator.engines import likelihood  # noqa: E402
from curator.engines.likelihood import Likelihood  # noqa: E402
from curator.engines.torch_model import read_model  # noqa: E402
from curator.errors import ConfigError  # noqa: E402

TEXTS = ["positive", "a neutral film", "card_arrival or card_linking, who knows", "x"]


def by_hand(folder, prompt: list[int], ids: list[int]) -> float:
    model, losses = read_model(folder, torch.float32), []
    for place in range(len(ids)):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *ids[:place]]])).logits[0, -1]
        losses.append(-logits.log_softmax(-1)[ids[place]].item())
    return float(np.mean(losses))


def test_it_is_the_mean_over_the_texts_tokens_whatever_the_batch(tiny_model, monkeypatch):
    model = Likelihood(str(tiny_model), dtype="float32")
    found = model.mean_nll(TEXTS)
    prompter = model._prompter
    expected = [by_hand(tiny_model, [prompter.end], prompter.tokenizer.encode(text)) for text in TEXTS]
    assert found == pytest.approx(expected, rel=1e-4)
    monkeypatch.setattr(likelihood, "BATCH_TOKENS", 1)
    assert model.mean_nll(TEXTS) == pytest.approx(expected, rel=1e-4)


def test_only_the_text_behind_a_prompt_is_scored(tiny_model):
    model = Likelihood(str(tiny_model), dtype="float32")
    prompts = ["Tone? ", "", "What a film. ", "Tone? "]
    encode = model._prompter.tokenizer.encode
    starts = [encode(prompt) or [model._prompter.end] for prompt in prompts]
    expected = [by_hand(tiny_model, start, encode(text)) for start, text in zip(starts, TEXTS, strict=True)]
    assert model.mean_nll(TEXTS, prompts) == pytest.approx(expected, rel=1e-4)


def test_long_texts_lose_their_end_and_long_prompts_their_beginning(tiny_model):
    model = Likelihood(str(tiny_model), dtype="float32", max_length=12)
    encode = model._prompter.tokenizer.encode
    text, prompt = "positive or negative or neutral or neither", "this prompt is far too long for so few tokens"
    assert model.mean_nll([text])[0] == pytest.approx(
        by_hand(tiny_model, [model._prompter.end], encode(text)[:11]), rel=1e-4
    )
    expected = by_hand(tiny_model, encode(prompt)[-11:], encode("x"))
    assert model.mean_nll(["x"], [prompt])[0] == pytest.approx(expected, rel=1e-4)


def test_nothing_to_score(tiny_model):
    model = Likelihood(str(tiny_model))
    assert np.isnan(model.mean_nll([""])).all()
    assert model.mean_nll([]).shape == (0,)
    with pytest.raises(ConfigError, match="max_length is 1"):
        Likelihood(str(tiny_model), max_length=1)
