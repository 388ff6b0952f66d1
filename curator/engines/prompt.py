"""From messages to token ids: the one way that all engines that see tokens prepare a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import orjson

from curator.engines.base import Preview, render_messages, scored_texts
from curator.engines.readout import LabelTrie, Tokens, label_trie
from curator.errors import ContextLengthError, TaskError
from curator.types import (
    ChatRequest,
    DecideRequest,
    GenerateRequest,
    Json,
    JsonObject,
    Message,
    Question,
    Readout,
    Template,
)

_STATE = "\ue000"
"""Stands for a state when the constant text around it is wanted (a private-use character)."""


class Tokenizer(Protocol):
    """What is needed of a Hugging Face tokenizer."""

    chat_template: object
    eos_token_id: int | None

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str: ...

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]: ...

    def apply_chat_template(
        self, conversation: Sequence[JsonObject], **settings: bool | Mapping[str, bool]
    ) -> str | list[int]: ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question, ready to be asked: the text, its token ids, and the trie of its options."""

    text: str
    ids: list[int]
    trie: LabelTrie


class Prompter:
    """Prepares prompts with a model's own tokenizer and chat template.

    A model without chat template gets the messages joined by blank lines. `limit` is the model's context in
    tokens, the answer included.
    """

    def __init__(self, tokenizer: Tokenizer, limit: int) -> None:
        self.limit = limit
        self.tokenizer = tokenizer
        self._trie = lru_cache(maxsize=64)(self._make_trie)
        self._end: int | None = None

    def question(self, request: DecideRequest, question: Question) -> Prompt:
        """The prompt of one question.

        Raises: ContextLengthError before anything is sent; TaskError for labels or messages that the model's
        tokenizer or chat template cannot express.
        """
        text = self.text(render_messages(request, question), request.template.answer_prefix)
        trie = self._trie(request.template, question)
        ids = self.encode(text)
        ids = ids[: len(ids) - trie.drop]
        self.fit(len(ids), trie.depth + 1)
        return Prompt(text, ids, trie)

    def messages(self, messages: Sequence[Message], max_tokens: int) -> list[int]:
        """Token ids of a chat that the model shall continue by up to `max_tokens`.

        Raises: ContextLengthError, TaskError.
        """
        ids = self.encode(self.text(messages))
        self.fit(len(ids), max_tokens)
        return ids

    def request(self, request: GenerateRequest) -> list[int]:
        """The same for a request; of a chat request its turns, tool calls and their results included, as far as the
        chat template writes them."""
        max_tokens = request.sampling.max_tokens
        if not isinstance(request, ChatRequest) or not request.turns or not self.tokenizer.chat_template:
            return self.messages(request.messages, max_tokens)
        ids = self.encode(self._render([_turn(turn) for turn in request.turns], opens_answer=True))
        self.fit(len(ids), max_tokens)
        return ids

    def text(self, messages: Sequence[Message], answer_prefix: str = "") -> str:
        """The text that the model continues."""
        if not self.tokenizer.chat_template:
            return "".join(f"{message.content}\n\n" for message in messages) + answer_prefix
        return self._chat(messages, opens_answer=True) + answer_prefix

    def encode(self, text: str) -> list[int]:
        """Token ids. A chat template writes its special tokens itself."""
        return self.tokenizer.encode(text, add_special_tokens=not self.tokenizer.chat_template)

    def decode(self, ids: Sequence[int]) -> str:
        """Text without special tokens."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def fit(self, prompt: int, answer: int) -> None:
        """Raises: ContextLengthError if `prompt` + `answer` tokens exceed the context."""
        if prompt + answer > self.limit:
            raise ContextLengthError(
                f"the prompt takes {prompt} tokens and the answer {answer}, the model's context is {self.limit}",
                limit=self.limit,
                needed=prompt + answer,
                hint="shorten the text, or raise max_model_len if the model allows it",
            )

    def preview(self, request: DecideRequest) -> tuple[Preview, ...]:
        """What is sent per question, and the tokens that decide on each option."""
        return tuple(self._preview(request, question) for question in request.questions)

    def _preview(self, request: DecideRequest, question: Question) -> Preview:
        prompt = self.question(request, question)
        scored = tuple(
            (label, tuple(map(self.token, prompt.trie.scored(option)))) for option, label in enumerate(question.labels)
        )
        return Preview(question.name, prompt.text, len(prompt.ids), scored, readout(request.template))

    def token(self, token: int) -> str:
        """A token as people read it; half a character is shown in the tokenizer's own notation."""
        text = self.tokenizer.decode([token])
        return text if text and "�" not in text else self.tokenizer.convert_ids_to_tokens([token])[0]

    @property
    def end(self) -> int:
        """The token that ends the assistant's turn: what the chat template writes after an answer."""
        if self._end is None:
            self._end = self._find_end()
        return self._end

    def _find_end(self) -> int:
        if self.tokenizer.chat_template:
            text = self._chat((Message("user", "?"), Message("assistant", _STATE)), opens_answer=False)
            if ids := self.tokenizer.encode(text.rpartition(_STATE)[2], add_special_tokens=False):
                return ids[0]
        if self.tokenizer.eos_token_id is None:
            raise TaskError("the model's tokenizer has no end-of-text token", hint="use letters, or other labels")
        return self.tokenizer.eos_token_id

    def _make_trie(self, template: Template, question: Question) -> LabelTrie:
        plain = DecideRequest(_STATE, (question,), template)
        tail = self.text(render_messages(plain, question), template.answer_prefix).rpartition(_STATE)[2]
        texts = scored_texts(question, template)
        return label_trie(texts, self._tail(tail), [self._tail(tail + text) for text in texts], self.end)

    def _tail(self, text: str) -> Tokens:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def _chat(self, messages: Sequence[Message], *, opens_answer: bool) -> str:
        turns: list[JsonObject] = [{"role": message.role, "content": message.content} for message in messages]
        return self._render(turns, opens_answer=opens_answer)

    def _render(self, chat: Sequence[JsonObject], *, opens_answer: bool) -> str:
        try:
            text = self.tokenizer.apply_chat_template(
                chat, tokenize=False, add_generation_prompt=opens_answer, enable_thinking=False
            )
        except Exception as error:  # jinja2's own tree, and whatever a template raises
            raise TaskError(
                f"the model's chat template refuses these messages: {error}",
                hint="a template without a system message, or alternating user and assistant turns, may help",
            ) from error
        return str(text)


def _turn(turn: JsonObject) -> JsonObject:
    """A turn of the API as chat templates read it: its text in one piece, arguments of calls as objects, and no role
    that only the API has."""
    content, calls = turn.get("content"), turn.get("tool_calls")
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        content = "".join(text for text in texts if isinstance(text, str))
    found: JsonObject = {**turn, "content": "" if content is None else content}
    if found.get("role") == "developer":
        found["role"] = "system"
    if isinstance(calls, list):
        found["tool_calls"] = [_call(call) for call in calls]
    return found


def _call(call: Json) -> Json:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict):
        return call
    arguments = function.get("arguments")
    try:
        read = orjson.loads(arguments) if isinstance(arguments, str) and arguments else {}
    except orjson.JSONDecodeError:
        return call
    return {**call, "function": {**function, "arguments": read}}


def readout(template: Template) -> Readout:
    """How options are read under `template`."""
    return "letters" if template.letters else "labels"
