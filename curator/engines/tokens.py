"""Decisions by token ids, for servers that take them: vLLM (`/tokenize`, `logprob_token_ids`).

The same read-out as the local engines' (`readout.py`), on the same token ids: labels are encoded in
the context of the prompt's end, one prefill reads all distinct first tokens over the whole
vocabulary, and only branches that matter are asked about again. A row is one call of
`/chat/completions`, which renders the prompt; where the labels share a prefix, or the template opens
the answer, the prompt's ids are fetched from `/tokenize` and sent to `/completions`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypedDict, cast

import orjson

from curator.engines.base import Preview, render_messages, scored_texts
from curator.engines.chat import PATH as CHAT
from curator.engines.chat import ChatBody, chat_messages
from curator.engines.dialects import NOT_SPOKEN
from curator.engines.readout import LabelTrie, Tokens, common, label_trie, read, together
from curator.engines.wire import MARK, SHAPE_ERRORS, Answered, Frame, Memo, Server, UsageBody, unreadable, usage_of
from curator.errors import InvalidOutputError, RequestRejectedError, TaskError
from curator.types import DecideRequest, Decision, JsonObject, Message, Question, Readout, Usage

TOKENIZE: Final = "//tokenize"
DETOKENIZE: Final = "//detokenize"
COMPLETIONS: Final = "/completions"
MOST: Final = 128
"""vLLM's MAX_LOGPROB_TOKEN_IDS; longer lists are asked for in parts."""

_THINKING: Final[JsonObject] = {"enable_thinking": False}


class CompletionBody(TypedDict, total=False):
    choices: list[CompletionChoice]
    usage: UsageBody


class CompletionChoice(TypedDict, total=False):
    logprobs: CompletionLogprobs


class CompletionLogprobs(TypedDict, total=False):
    top_logprobs: list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class Plan:
    """One question ready to be asked. `chat` reads the root in one call; None where ids are needed:
    then the last `drop` ids of the rendered prompt give way to `suffix`. `dropped` are the ids at the
    prompt's end that the labels take over."""

    question: Question
    trie: LabelTrie
    readout: Readout
    chat: tuple[Frame, ...] | None
    render: Frame
    drop: int
    suffix: Tokens
    dropped: Tokens


class TokensDialect:
    """vLLM's token ids over HTTP."""

    name = "tokens"

    def __init__(self, server: Server) -> None:
        self._server = server
        self._plans = Memo(lambda request: _Once(self, request))
        self._end: int | None = None
        self.plain = False
        """The model has no chat template: messages are joined by blank lines."""

    def fits(self, request: DecideRequest) -> bool:
        return True

    async def probe(self) -> Usage | None:
        """Renders a prompt and reads two tokens of it by id; only a server that gives exactly these
        speaks this dialect."""
        usage: list[Usage] = [Usage(calls=0)]
        try:
            ids = await self._probe_prompt()
            await self.next_logprobs(ids, tuple(dict.fromkeys((ids[0], ids[-1]))), usage)
            await self._decode(ids)
        except (*NOT_SPOKEN, *SHAPE_ERRORS):
            return None
        return sum(usage[1:], usage[0])

    async def _probe_prompt(self) -> list[int]:
        """Token ids of a short chat; finds out whether the model has a chat template."""
        chat = (Message("user", "?"),)
        try:
            return await self.encode_chat(orjson.dumps(self.render_body(chat)))
        except RequestRejectedError as error:
            if "chat template" not in error.message:
                raise
        self.plain = True
        return await self.encode_chat(orjson.dumps(self.render_body(chat)))

    async def decide(self, request: DecideRequest) -> Answered:
        usage = [Usage(calls=0)]
        answers = [await self._read(plan, request.state, usage) for plan in await self._plans(request).get()]
        return Answered(tuple(answers), sum(usage[1:], usage[0]))

    async def preview(self, request: DecideRequest) -> tuple[Preview, ...]:
        return tuple([await self._preview(plan, request.state) for plan in await self._plans(request).get()])

    async def _preview(self, plan: Plan, state: str) -> Preview:
        ids = await self._ids(plan, state)
        scored = []
        for option, label in enumerate(plan.question.labels):
            scored.append((label, tuple([await self._decode([token]) for token in plan.trie.scored(option)])))
        text = await self._decode([*ids, *plan.dropped])
        return Preview(plan.question.name, text, len(ids), tuple(scored), plan.readout)

    async def _read(self, plan: Plan, state: str, usage: list[Usage]) -> Decision:
        ids: list[int] = []
        rendering = asyncio.Lock()

        async def ask(path: Tokens, tokens: Tokens) -> Sequence[float]:
            if not path and plan.chat is not None:
                return await self._root(plan.chat, state, tokens, usage)
            async with rendering:  # branches are asked about at once, the prompt is rendered once
                ids[:] = ids or await self._ids(plan, state)
            return await self.next_logprobs([*ids, *path], tokens, usage)

        reading = await read(plan.trie, ask)
        return Decision(reading.logprobs, reading.label_mass, plan.readout)

    async def _root(self, frames: tuple[Frame, ...], state: str, tokens: Tokens, usage: list[Usage]) -> list[float]:
        found: dict[str, float] = {}
        for frame in frames:
            reply = await self._server.post(CHAT, frame.fill(state))
            body = cast(ChatBody, reply)
            try:
                logprobs = body["choices"][0]["logprobs"] or {}
                content = logprobs["content"] or []
                found.update((chance["token"], chance["logprob"]) for chance in content[0]["top_logprobs"])
                usage.append(usage_of(body["usage"]))
            except SHAPE_ERRORS as error:
                raise unreadable("log-probabilities", reply, error) from None
        return _by_id(found, tokens)

    async def next_logprobs(self, ids: Sequence[int], tokens: Tokens, usage: list[Usage]) -> list[float]:
        """Log-probability of each of `tokens` after the prompt `ids`."""
        found: dict[str, float] = {}
        for part in parts(tokens):
            reply = await self._server.post(COMPLETIONS, orjson.dumps({**self._ask(part, 1), "prompt": list(ids)}))
            body = cast(CompletionBody, reply)
            try:
                found.update(body["choices"][0]["logprobs"]["top_logprobs"][0])
                usage.append(usage_of(body["usage"]))
            except SHAPE_ERRORS as error:
                raise unreadable("log-probabilities", reply, error) from None
        return _by_id(found, tokens)

    def _ask(self, tokens: Sequence[int], logprobs: int | bool) -> JsonObject:
        return {
            "model": self._server.model,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": logprobs,
            "logprob_token_ids": list(tokens),
            "return_tokens_as_token_ids": True,
            **self._server.extra,
        }

    async def _ids(self, plan: Plan, state: str) -> list[int]:
        ids = await self.encode_chat(plan.render.fill(state))
        return [*ids[: len(ids) - plan.drop], *plan.suffix]

    def render_body(self, messages: Sequence[Message], *, opens_answer: bool = True) -> JsonObject:
        """The body of `/tokenize` for a chat."""
        body: JsonObject = {"model": self._server.model}
        if self.plain:
            return {**body, "prompt": "".join(f"{message.content}\n\n" for message in messages)}
        said: JsonObject = {"messages": chat_messages(messages), "chat_template_kwargs": dict(_THINKING)}
        return {**body, **said, "add_generation_prompt": opens_answer}

    async def encode_chat(self, body: bytes) -> list[int]:
        """Token ids of what `/tokenize` makes of a body."""
        reply = await self._server.post(TOKENIZE, body)
        try:
            return cast(dict[str, list[int]], reply)["tokens"]
        except SHAPE_ERRORS as error:
            raise unreadable("token ids", reply, error) from None

    async def _encode(self, text: str) -> Tokens:
        body = {"model": self._server.model, "prompt": text, "add_special_tokens": False}
        return tuple(await self.encode_chat(orjson.dumps(body)))

    async def _decode(self, ids: Sequence[int]) -> str:
        reply = await self._server.post(DETOKENIZE, orjson.dumps({"model": self._server.model, "tokens": list(ids)}))
        try:
            return cast(dict[str, str], reply)["prompt"]
        except SHAPE_ERRORS as error:
            raise unreadable("text of tokens", reply, error) from None

    async def plan(self, request: DecideRequest, question: Question) -> Plan:
        """Encode the labels in the context of the prompt's end, once per question."""
        template = request.template
        blank = replace(request, state=MARK, demonstrations=())
        rendered = Frame(self.render_body(render_messages(blank, question)))
        tail = (await self._decode(await self.encode_chat(rendered.fill(MARK)))).rpartition(MARK)[2]
        texts = scored_texts(question, template)
        encoded = await together([self._encode(tail + template.answer_prefix + text) for text in ("", *texts)])
        trie = label_trie(texts, encoded[0], encoded[1:], await self._end_of_turn())
        bare = await self._encode(tail) if template.answer_prefix else encoded[0]
        kept = encoded[0][: len(encoded[0]) - trie.drop]
        same = common(bare, kept)
        messages = render_messages(replace(request, state=MARK), question)
        direct = same == len(bare) == len(kept) and not self.plain
        return Plan(
            question,
            trie,
            "letters" if template.letters else "labels",
            tuple(self._chat(messages, part) for part in parts(trie.root.tokens)) if direct else None,
            Frame(self.render_body(messages)),
            len(bare) - same,
            kept[same:],
            encoded[0][len(kept) :],
        )

    def _chat(self, messages: Sequence[Message], tokens: Sequence[int]) -> Frame:
        said: JsonObject = {"messages": chat_messages(messages), "chat_template_kwargs": dict(_THINKING)}
        return Frame({**self._ask(tokens, True), **said})

    async def _end_of_turn(self) -> int:
        """The token that the chat template writes after an answer."""
        if self._end is None:
            turn = (Message("user", "?"), Message("assistant", MARK))
            body = orjson.dumps(self.render_body(turn, opens_answer=False))
            tail = (await self._decode(await self.encode_chat(body))).rpartition(MARK)[2]
            ids = await self._encode(tail)
            if not ids:
                raise TaskError("the model's chat template does not close an answer", hint="use letters")
            self._end = ids[0]
        return self._end


class _Once:
    """The plans of a request's questions, made by the first caller while the others wait. A failure is
    not remembered."""

    def __init__(self, dialect: TokensDialect, request: DecideRequest) -> None:
        self._dialect = dialect
        self._request = replace(request, state="")
        self._lock = asyncio.Lock()
        self._plans: list[Plan] | None = None

    async def get(self) -> list[Plan]:
        if self._plans is None:
            async with self._lock:
                if self._plans is None:
                    self._plans = [await self._dialect.plan(self._request, q) for q in self._request.questions]
        return self._plans


def parts(tokens: Tokens) -> list[Tokens]:
    """`tokens` in lists that vLLM accepts."""
    return [tokens[start : start + MOST] for start in range(0, len(tokens), MOST)]


def _by_id(found: dict[str, float], tokens: Tokens) -> list[float]:
    try:
        return [found[f"token_id:{token}"] for token in tokens]
    except KeyError as error:
        raise InvalidOutputError(f"the server left out the log-probability of {error}") from None
