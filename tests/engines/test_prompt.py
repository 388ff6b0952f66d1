"""Prompts and token ids, with a tokenizer that merges and one chat template after another."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

from transformers import AutoTokenizer

from curator.engines.prompt import Prompter
from curator.errors import ContextLengthError, TaskError
from curator.types import ChatRequest, DecideRequest, GenerateRequest, Message, Option, Question, Sampling, Template

QUESTION = Question("tone", "choice", "Tone?", (Option("positive", "it is good"), Option("negative"), Option("mixed")))
GEMMA = (
    "<bos>{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('System role not "
    "supported') }}{% endif %}<start_of_turn>{{ message['role'] | replace('assistant', 'model') }}\n"
    "{{ message['content'] | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
THINKING = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


@pytest.fixture
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def test_the_preview_is_exactly_what_is_sent(tokenizer):
    prompter = Prompter(tokenizer, 1000)
    request = DecideRequest("I {like} it", (QUESTION,), Template(system="Be brief.", state="Text: {state}"))
    (preview,) = prompter.preview(request)
    assert preview.prompt == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nTone?\n"
        "- positive: it is good\n- negative\n- mixed\nAnswer with one of the options only.\n\nText: I {like} it"
        "<|im_end|>\n<|im_start|>assistant\n"
    )
    assert preview.tokens == len(tokenizer.encode(preview.prompt, add_special_tokens=False))
    assert [label for label, _ in preview.scored] == ["positive", "negative", "mixed"]
    assert all(label.startswith("".join(tokens)) for label, tokens in preview.scored)


@pytest.mark.parametrize("prefix", ["", "Answer: ", "Answer:", "It is card", " "])
def test_prompt_and_path_are_the_tokens_of_the_whole_text(tokenizer, prefix):
    labels = ("card_arrival", "card_linking", "card", " positive", "1", "日本語")
    question = Question("q", "choice", "?", tuple(map(Option, labels)))
    prompt = Prompter(tokenizer, 1000).question(
        DecideRequest("x", (question,), Template(answer_prefix=prefix)), question
    )
    for option, label in enumerate(labels):
        whole = tokenizer.encode(prompt.text + label, add_special_tokens=False)
        assert whole[: len(prompt.ids)] == prompt.ids
        rest = whole[len(prompt.ids) :]
        places = [rest.index(token) if token in rest else len(rest) for token in prompt.trie.scored(option)]
        assert places == sorted(places)


def test_the_end_of_turn_is_what_the_chat_template_writes(tokenizer):
    assert Prompter(tokenizer, 100).end == tokenizer.convert_tokens_to_ids("<|im_end|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end_of_turn>", "<start_of_turn>", "<bos>"]})
    tokenizer.chat_template = GEMMA
    assert Prompter(tokenizer, 100).end == tokenizer.convert_tokens_to_ids("<end_of_turn>")
    tokenizer.chat_template = None
    assert Prompter(tokenizer, 100).end == tokenizer.eos_token_id


def test_a_template_that_trims_or_refuses(tokenizer):
    tokenizer.chat_template = GEMMA
    prompter = Prompter(tokenizer, 1000)
    request = DecideRequest("x  ", (QUESTION,))
    assert "only.\n\nx<end_of_turn>" in prompter.preview(request)[0].prompt
    with pytest.raises(TaskError, match="System role not supported"):
        prompter.preview(DecideRequest("x", (QUESTION,), Template(system="s")))


def test_thinking_is_switched_off(tokenizer):
    tokenizer.chat_template = THINKING
    assert Prompter(tokenizer, 1000).text([Message("user", "x")]).endswith("assistant\n<think>\n\n</think>\n\n")


def test_labels_are_encoded_once_per_question(tokenizer, monkeypatch):
    prompter = Prompter(tokenizer, 1000)
    first = prompter.question(DecideRequest("x", (QUESTION,)), QUESTION)
    assert prompter.question(DecideRequest("another text", (QUESTION,)), QUESTION).trie is first.trie
    assert prompter.question(DecideRequest("x", (QUESTION,), Template(letters=True)), QUESTION).trie is not first.trie


def test_what_does_not_fit_says_how_much_it_takes(tokenizer):
    with pytest.raises(ContextLengthError) as caught:
        Prompter(tokenizer, 50).messages([Message("user", "word " * 60)], max_tokens=10)
    assert caught.value.limit == 50
    assert caught.value.needed > 60


def test_half_a_character_is_shown_in_the_tokenizers_notation(tokenizer):
    question = Question("q", "choice", "?", (Option("日"), Option("本")))
    (preview,) = Prompter(tokenizer, 1000).preview(DecideRequest("x", (question,)))
    assert all("�" not in token for _, tokens in preview.scored for token in tokens)


CALLS = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}"
    "{% for call in message.get('tool_calls') or [] %}{{ call['function']['name'] }}="
    "{{ call['function']['arguments']['n'] if call['function']['arguments'] is mapping else 'raw' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def test_the_turns_of_a_chat_request_are_what_the_template_is_given(tokenizer):
    tokenizer.chat_template = CALLS
    call = {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"n": 1}'}}
    half = {"id": "b", "type": "function", "function": {"name": "sub", "arguments": '{"n": '}}
    turns = (
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "How "}, {"type": "text", "text": "many?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call, half]},
        {"role": "tool", "tool_call_id": "a", "content": "42"},
    )
    request = ChatRequest((Message("user", "How many?"),), Sampling(max_tokens=5), turns=turns)
    prompter = Prompter(tokenizer, 1000)
    assert prompter.decode(prompter.request(request)) == (
        "<system>Be brief.<user>How many?<assistant>add=1sub=raw<tool>42<assistant>"
    )
    plain = GenerateRequest((Message("user", "How many?"),), Sampling(max_tokens=5))
    assert prompter.decode(prompter.request(plain)) == "<user>How many?<assistant>"
    with pytest.raises(ContextLengthError):
        Prompter(tokenizer, 20).request(request)
