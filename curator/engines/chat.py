"""Decisions over `POST /chat/completions`, for servers that have no decision endpoint.

Per question, in this order: the labels' first tokens among the `top_logprobs` of one generated token;
letter codes read the same way, where the labels share their beginnings; structured output
(`response_format` with an enum), where there are too many options for letters. A server that gives no
log-probabilities is asked for structured output, and its one answer counts as one vote.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypedDict, cast

import orjson

from curator.engines.base import Preview, render_messages, scored_texts
from curator.engines.dialects import NOT_SPOKEN, PROBE
from curator.engines.matching import Matcher, TokenChance, read_first, read_spelled, separable
from curator.engines.wire import (
    MARK,
    SHAPE_ERRORS,
    Answered,
    Frame,
    Memo,
    Server,
    UsageBody,
    from_probabilities,
    unreadable,
    usage_of,
)
from curator.errors import InvalidOutputError, RequestRejectedError
from curator.types import DecideRequest, Decision, Json, JsonObject, Message, Question, Readout, Template, Usage

PATH: Final = "/chat/completions"
LETTERS: Final = "Answer with the letter of one option only."


class ChatBody(TypedDict, total=False):
    choices: list[ChatChoice]
    usage: UsageBody | None


class ChatChoice(TypedDict, total=False):
    index: int
    message: ChatMessage
    delta: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: str | None


class ChatMessage(TypedDict, total=False):
    """A whole message, or in a stream (`delta`) its next piece."""

    content: str | None
    refusal: str | None
    tool_calls: list[JsonObject] | None


class ChatLogprobs(TypedDict, total=False):
    content: list[TokenChance] | None


def chat_messages(messages: Sequence[Message], prefix: str = "") -> Json:
    """Messages as JSON; `prefix` opens the assistant's turn."""
    said: list[Json] = [{"role": message.role, "content": message.content} for message in messages]
    return [*said, {"role": "assistant", "content": prefix}] if prefix else said


def refused(choice: ChatChoice) -> bool:
    """Whether the model declined, or a filter did."""
    return bool(choice["message"].get("refusal")) or choice.get("finish_reason") == "content_filter"


def is_unknown_max_tokens(server: Server, error: RequestRejectedError) -> bool:
    """Newer OpenAI models want `max_completion_tokens`; learn it from their error, once."""
    if server.max_tokens == "max_tokens" and "max_completion_tokens" in error.message:
        server.max_tokens = "max_completion_tokens"
        return True
    return False


@dataclass(frozen=True, slots=True)
class Asked:
    """One question ready to be asked of any row."""

    question: Question
    readout: Readout
    frame: Frame
    matcher: Matcher


class ChatDialect:
    """One generated token per question; questions are asked one after the other, so that the server's
    prefix cache has the shared state and a row never takes more than one connection."""

    name = "chat"

    def __init__(self, server: Server) -> None:
        self._server = server
        self._asked = Memo(lambda request: [self.prepare(request, q) for q in request.questions])

    def fits(self, request: DecideRequest) -> bool:
        return True

    async def probe(self) -> Usage | None:
        """Ask for one token with 20 alternatives, else 5 (some servers' limit)."""
        for top in (20, 5):
            self._server.top_logprobs = top
            try:
                return await self._try()
            except (*NOT_SPOKEN, *SHAPE_ERRORS):
                continue
        self._server.logprobs = False
        return None

    async def _try(self) -> Usage:
        body = await self.ask_probe()
        if len(_chances(body)) < 2:
            raise InvalidOutputError("no log-probabilities")
        return _usage(body)

    async def ask_probe(self) -> ChatBody:
        """The answer to a tiny question."""
        try:
            return await self.post(self.prepare(PROBE, PROBE.questions[0]).frame, PROBE.state)
        except RequestRejectedError as error:
            if not is_unknown_max_tokens(self._server, error):
                raise
        return await self.post(self.prepare(PROBE, PROBE.questions[0]).frame, PROBE.state)

    def prepare(self, request: DecideRequest, question: Question) -> Asked:
        """The body of a question, with the read-out that its options allow."""
        template = request.template
        if not separable(scored_texts(question, template)) and len(question.options) <= self._server.top_logprobs:
            template = lettered(template)
        if not separable(scored_texts(question, template)):
            return self._structured(request, question)
        body = self.body(replace(request, template=template, state=MARK), question)
        readout: Readout = "letters" if template.letters else "labels"
        return Asked(question, readout, Frame(body), Matcher(scored_texts(question, template)))

    def body(self, request: DecideRequest, question: Question) -> JsonObject:
        """The JSON that asks for one token and its likeliest alternatives."""
        return {
            "model": self._server.model,
            "messages": chat_messages(render_messages(request, question), request.template.answer_prefix),
            self._server.max_tokens: 1,
            "temperature": 0,
            "logprobs": True,
            "top_logprobs": self._server.top_logprobs,
            **self._server.extra,
        }

    def _structured(self, request: DecideRequest, question: Question) -> Asked:
        body = self.body(replace(request, state=MARK), question)
        schema: JsonObject = {
            "type": "object",
            "properties": {"answer": {"type": "string", "enum": list(question.labels)}},
            "required": ["answer"],
            "additionalProperties": False,
        }
        body["response_format"] = response_format(schema)
        body[self._server.max_tokens] = 24 + 2 * max(len(label.encode()) for label in question.labels)
        if not self._server.logprobs:
            del body["logprobs"], body["top_logprobs"]
        return Asked(question, "structured", Frame(body), Matcher(question.labels))

    async def post(self, frame: Frame, state: str) -> ChatBody:
        """One chat completion; its shape is not checked yet."""
        return cast(ChatBody, await self._server.post(PATH, frame.fill(state)))

    async def decide(self, request: DecideRequest) -> Answered:
        answers: list[Decision | None] = []
        usage = Usage(calls=0)
        for asked in self._asked(request):
            body = await self.post(asked.frame, request.state)
            try:
                answers.append(read(asked, body))
            except SHAPE_ERRORS as error:
                raise unreadable("chat completion", body, error) from None
            usage += _usage(body)
        return Answered(tuple(answers), usage)

    async def preview(self, request: DecideRequest) -> tuple[Preview, ...]:
        return tuple(_preview(asked, request.state) for asked in self._asked(request))


class StructuredDialect(ChatDialect):
    """Structured output for every question."""

    name = "structured"

    def prepare(self, request: DecideRequest, question: Question) -> Asked:
        return self._structured(request, question)

    async def probe(self) -> Usage | None:
        """Whether there are log-probabilities beside the answer; structured output is the last resort,
        so what the server says to the question itself is raised."""
        try:
            return _usage(await self.ask_probe())
        except RequestRejectedError:
            self._server.logprobs = False
        return _usage(await self.ask_probe())


def lettered(template: Template) -> Template:
    """The template with its options under letter codes."""
    if template.letters:
        return template
    asks = template.question.replace("Answer with one of the options only.", LETTERS)
    if LETTERS not in asks:
        asks += "\n" + LETTERS
    option = "{code}. " + template.option.removeprefix("- ")
    described = "{code}. " + template.described.removeprefix("- ")
    return replace(template, question=asks, option=option, described=described, letters=True)


def response_format(schema: JsonObject) -> JsonObject:
    """`response_format` for a JSON schema, strict."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def read(asked: Asked, body: ChatBody) -> Decision | None:
    """The decision in a chat completion; None where the model refused.

    Raises: InvalidOutputError if no option can be read; what a wrong shape raises.
    """
    choice = body["choices"][0]
    if refused(choice):
        return None
    if asked.readout == "structured":
        return _read_structured(asked, choice)
    chances = _chances(body)
    found = read_first(asked.matcher, chances)
    if found is None:
        said = chances[0]["token"] if chances else ""
        raise InvalidOutputError(
            f"question {asked.question.name!r}: no option is among the likeliest {len(chances)} tokens,"
            f" the model wants to say {said!r}",
            hint="say in the template how to answer, use letters, or dialect='structured'",
        )
    return Decision(tuple(found[0]), found[1], asked.readout)


def _usage(body: ChatBody) -> Usage:
    try:
        return usage_of(body.get("usage"))
    except SHAPE_ERRORS as error:
        raise unreadable("chat completion", body, error) from None


def _chances(body: ChatBody) -> Sequence[TokenChance]:
    logprobs = body["choices"][0].get("logprobs")
    content = (logprobs.get("content") or ()) if logprobs else ()
    return content[0].get("top_logprobs") or () if content else ()


def _read_structured(asked: Asked, choice: ChatChoice) -> Decision:
    content = choice["message"].get("content") or ""
    label = _answered(content, asked.question)
    logprobs = choice.get("logprobs")
    tokens = (logprobs.get("content") or ()) if logprobs else ()
    # A closing token such as <|im_end|> may follow the content.
    if label in content and "".join(token["token"] for token in tokens).startswith(content):
        spelled = read_spelled(asked.matcher, tokens, content.rindex(label))
        if spelled is not None:
            return Decision(tuple(spelled), None, "structured")
    count = len(asked.question.options)
    votes = [(1 + (other == label)) / (1 + count) for other in asked.question.labels]
    return from_probabilities(votes, "structured")


def _answered(content: str, question: Question) -> str:
    """The label that a structured answer names; a bare label will do.

    Raises: InvalidOutputError for anything else.
    """
    try:
        parsed: Json = orjson.loads(content)
    except orjson.JSONDecodeError:
        parsed = content.strip()
    label = parsed.get("answer") if isinstance(parsed, dict) else parsed
    if label not in question.labels:
        raise InvalidOutputError(
            f"question {question.name!r}: the model answered {content[:200]!r}, which names none of the options",
            hint="does the server support response_format json_schema?" if content else "the answer is empty",
        )
    return str(label)


def _preview(asked: Asked, state: str) -> Preview:
    text = orjson.dumps(orjson.loads(asked.frame.fill(state)), option=orjson.OPT_INDENT_2).decode()
    scored = tuple((o.label, (t,)) for o, t in zip(asked.question.options, asked.matcher.texts, strict=True))
    return Preview(asked.question.name, text, 0, scored, asked.readout)
