"""`POST /v1/completions`, the API before chat: each prompt is asked as one user message.

A chat model's template stands around the prompt, so an answer is a reply to it and not its raw continuation; what
makes sense for continuations only (`echo`, `suffix`, prompts of token ids) is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from cascade.routed import Routed
from cascade.wire.bodies import Stamp, chat_usage, finish_reason, says_nothing, served_usage
from cascade.wire.chat import MOST_SAMPLES, MOST_TOKENS, asks_usage, read_sampling, read_schema
from cascade.wire.extras import BLOCK
from cascade.wire.reading import FieldError, Fields, read_body
from curator.errors import InvalidOutputError
from curator.types import ChatRequest, Completion, Delta, Json, JsonObject, Message, Sample, Usage

MAX_TOKENS: Final = 16
"""The API's own default."""

MOST_PROMPTS: Final = 128
_FINISHED: Final = ("stop", "length", "content_filter")
_READ: Final = frozenset(
    {"model", "prompt", "stream", "stream_options", "n", "max_tokens", "temperature", "top_p", "stop", "seed"}
    | {"logprobs", "echo", "suffix", "best_of"}
)


@dataclass(frozen=True, slots=True)
class CompletionsCall:
    """A request as it was read: one `ChatRequest` per prompt, in order; a streamed one has a single prompt."""

    requests: tuple[ChatRequest, ...]
    model: str
    stream: bool = False
    include_usage: bool = False


def parse(body: Json) -> CompletionsCall:
    """The call that a body makes. Other fields are kept, as for chat. Raises: FieldError."""
    fields = read_body(body)
    fields.refuse(("echo", "suffix"), "prompts are asked as chat messages")
    n = fields.whole("n", 1, MOST_SAMPLES) or 1
    if (fields.whole("best_of", 1, MOST_SAMPLES) or n) != n:
        raise FieldError("best_of", "is not supported here: leave it out, and ask for n")
    stream, prompts = bool(fields.flag("stream")), _prompts(fields)
    if stream and len(prompts) > 1:
        raise FieldError("prompt", "must be one text where stream is true")
    sampling = read_sampling(fields, fields.whole("max_tokens", 1, MOST_TOKENS) or MAX_TOKENS)
    schema = read_schema(fields.inner("response_format"))
    top = fields.whole("logprobs", 0, 5)
    extra = fields.others(_READ)
    requests = tuple(
        ChatRequest(
            (Message("user", prompt),),
            sampling,
            schema,
            n,
            turns=({"role": "user", "content": prompt},),
            logprobs=top,
            extra=extra,
        )
        for prompt in prompts
    )
    return CompletionsCall(requests, fields.need_text("model"), stream, asks_usage(fields))


def _prompts(fields: Fields) -> list[str]:
    prompt = fields.values.get("prompt")
    if isinstance(prompt, str):
        return [prompt]
    found = [one for one in fields.items("prompt") if isinstance(one, str)]
    if not found or len(found) != len(fields.items("prompt")) or len(found) > MOST_PROMPTS:
        raise FieldError("prompt", f"must be a text or a list of 1 to {MOST_PROMPTS} texts (token ids are not read)")
    return found


def reply(stamp: Stamp, call: CompletionsCall, routed: Sequence[Routed[Completion]], block: Json) -> JsonObject:
    """The body that answers a call: the samples of all prompts, in their order. `routed` is one per prompt, `block`
    that of the one, else a list of blocks."""
    found = [_samples(one) for one in routed]
    placed = [(sample, request) for samples, request in zip(found, call.requests, strict=True) for sample in samples]
    choices: list[Json] = [
        _choice(place, sample.text, sample.finish_reason, _logprobs(sample.tokens, request))
        for place, (sample, request) in enumerate(placed)
    ]
    usage = sum((served_usage(one) for one in routed), Usage(calls=0))
    return {**_body(stamp, choices), "usage": chat_usage(usage), BLOCK: block}


def _samples(routed: Routed[Completion]) -> Sequence[Sample]:
    """The API before chat has no refusal; `content_filter` is the nearest."""
    answer = routed.answers[0].answer
    samples = answer.samples if answer is not None else (Sample("", "refusal"),)
    return [Sample("", "content_filter") if one.finish_reason == "refusal" else one for one in samples]


def _body(stamp: Stamp, choices: list[Json]) -> JsonObject:
    return {
        "id": stamp.id,
        "object": "text_completion",
        "created": stamp.created,
        "model": stamp.model,
        "choices": choices,
        "system_fingerprint": None,
    }


def _choice(place: int, text: str, reason: str | None, logprobs: Json) -> JsonObject:
    return {"index": place, "text": text, "logprobs": logprobs, "finish_reason": reason and _finished(reason)}


def _finished(reason: str) -> str:
    known = finish_reason(reason)
    return known if known in _FINISHED else "stop"


def _logprobs(tokens: Sequence[JsonObject], request: ChatRequest, offset: int = 0) -> Json:
    """The old shape: parallel lists, and for each token a mapping of the likeliest to their log-probabilities."""
    if request.logprobs is None or not tokens:
        return None
    words = [str(token["token"]) for token in tokens]
    starts = list(accumulate(map(len, words[:-1]), initial=offset))
    return {
        "tokens": list(words),
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [_top(token) for token in tokens],
        "text_offset": list(starts),
    }


def _top(token: JsonObject) -> JsonObject:
    others = token.get("top_logprobs")
    found = others if isinstance(others, list) else []
    return {str(one["token"]): one["logprob"] for one in found if isinstance(one, dict)}


class TextChunks:
    """Turns the pieces of one prompt's answer into chunk bodies, as `chunks.Chunks` does for chat: nothing says that a
    sample is finished before `end`."""

    def __init__(self, stamp: Stamp, call: CompletionsCall) -> None:
        self._stamp = stamp
        self._call = call
        self._reasons: dict[int, str | None] = {}
        self._written: dict[int, int] = {}

    def piece(self, delta: Delta) -> list[JsonObject]:
        """The chunk of one piece, if it has text."""
        if says_nothing(delta):
            return []
        text = "" if delta.finish_reason == "refusal" else delta.text
        reason = "content_filter" if delta.finish_reason == "refusal" else delta.finish_reason
        self._reasons[delta.index] = reason or self._reasons.get(delta.index)
        offset = self._written.get(delta.index, 0)
        self._written[delta.index] = offset + len(text)
        if not text:
            return []
        return [self._chunk(delta.index, text, None, _logprobs(delta.tokens, self._call.requests[0], offset))]

    def end(self, routed: Routed[Completion], block: JsonObject) -> list[JsonObject]:
        """The last chunks. Raises: InvalidOutputError if a sample never finished."""
        if routed.answers[0].answer is None and not self._reasons:
            self._reasons[0] = "content_filter"
        if not self._reasons or None in self._reasons.values():
            raise InvalidOutputError("the stream ended before its answer was finished")
        found = [self._chunk(index, "", reason, None) for index, reason in sorted(self._reasons.items())]
        if self._call.include_usage:
            found.append({**_body(self._stamp, []), "usage": chat_usage(served_usage(routed))})
        found[-1][BLOCK] = block
        return found

    def _chunk(self, index: int, text: str, reason: str | None, logprobs: Json) -> JsonObject:
        body = _body(self._stamp, [_choice(index, text, reason, logprobs)])
        return {**body, "usage": None} if self._call.include_usage else body
