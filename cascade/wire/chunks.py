"""The streamed pieces of `POST /v1/chat/completions`."""

from __future__ import annotations

from cascade.routed import Routed
from cascade.wire.bodies import DECLINED, Stamp, chat_usage, finish_reason, indexed, says_nothing, served_usage
from cascade.wire.chat import ChatCall, token_logprobs
from cascade.wire.extras import BLOCK
from curator.errors import InvalidOutputError
from curator.types import Completion, Delta, Json, JsonObject


class Chunks:
    """Turns the pieces of one answer into chunk bodies.

        chunks = Chunks(stamp, call)
        bodies = [body async for delta in stream for body in chunks.piece(delta)] + chunks.end(routed, block)

    What says that a sample is finished is held back until `end`: a stream that breaks never looks like an answer.
    """

    def __init__(self, stamp: Stamp, call: ChatCall) -> None:
        self._stamp = stamp
        self._call = call
        self._reasons: dict[int, str | None] = {}
        """Per sample that has begun: its finish reason, None as long as it goes on."""

    def piece(self, delta: Delta) -> list[JsonObject]:
        """The chunks of one piece: a sample's first is preceded by its role."""
        if says_nothing(delta):
            return []
        found = self._begin(delta.index)
        change: JsonObject = {}
        if delta.text:
            change["refusal" if delta.finish_reason == "refusal" else "content"] = delta.text
        if delta.tool_calls:
            change["tool_calls"] = list(indexed(delta.tool_calls))
        if change or delta.tokens:
            found.append(self._chunk(delta.index, change, token_logprobs(delta.tokens, self._call.request)))
        if delta.finish_reason is not None:
            self._reasons[delta.index] = delta.finish_reason
        return found

    def end(self, routed: Routed[Completion], block: JsonObject) -> list[JsonObject]:
        """The last chunks: every sample's finish, and the usage if it was asked for. The `goldless` block is in the
        very last.

        Raises: InvalidOutputError if a sample never finished.
        """
        found: list[JsonObject] = []
        if routed.answers[0].answer is None and not self._reasons:
            found += [*self.piece(Delta(0, DECLINED, finish_reason="refusal"))]
        if not self._reasons or None in self._reasons.values():
            raise InvalidOutputError("the stream ended before its answer was finished")
        for index, reason in sorted(self._reasons.items()):
            found.append(self._chunk(index, {}, None, finish_reason(reason or "stop")))
        if self._call.include_usage:
            found.append({**self._body([]), "usage": chat_usage(served_usage(routed))})
        found[-1][BLOCK] = block
        return found

    def _begin(self, index: int) -> list[JsonObject]:
        if index in self._reasons:
            return []
        self._reasons[index] = None
        return [self._chunk(index, {"role": "assistant", "content": "", "refusal": None}, None)]

    def _chunk(self, index: int, change: JsonObject, logprobs: Json, reason: str | None = None) -> JsonObject:
        return self._body([{"index": index, "delta": change, "logprobs": logprobs, "finish_reason": reason}])

    def _body(self, choices: list[Json]) -> JsonObject:
        body: JsonObject = {
            "id": self._stamp.id,
            "object": "chat.completion.chunk",
            "created": self._stamp.created,
            "model": self._stamp.model,
            "choices": choices,
            "system_fingerprint": None,
        }
        return {**body, "usage": None} if self._call.include_usage else body
