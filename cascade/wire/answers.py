"""`POST /v1/responses`: the body that answers a call, and the events of a streamed one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cascade.routed import Routed
from cascade.wire.bodies import DECLINED, Stamp, finish_reason, indexed, input_usage, samples_of, served_usage
from cascade.wire.extras import BLOCK
from cascade.wire.faults import Fault
from cascade.wire.responses import ResponsesCall
from curator.errors import InvalidOutputError
from curator.types import Completion, Delta, Json, JsonObject, Usage

_CUT: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons of an answer that is not whole, and what the API calls them."""


def reply(stamp: Stamp, call: ResponsesCall, routed: Routed[Completion], block: JsonObject) -> JsonObject:
    """The body that answers a call; `block` is of `extras.text_block`."""
    sample = samples_of(routed.answers[0])[0]
    events = ResponseEvents(stamp, call)
    events.piece(Delta(0, sample.text, (), sample.tool_calls, sample.tokens, sample.finish_reason))
    return events.finished(served_usage(routed), block)


@dataclass(slots=True)
class _Item:
    """An output item that grows: a message with its parts, or a function call."""

    id: str
    call: JsonObject | None = None
    said: list[str] = field(default_factory=list)
    """Arguments of a call; of a message the texts of its parts."""
    kinds: list[str] = field(default_factory=list)
    tokens: list[JsonObject] = field(default_factory=list)

    def body(self, status: str) -> JsonObject:
        if self.call is not None:
            return {**self.call, "id": self.id, "arguments": "".join(self.said), "status": status}
        parts: list[Json] = [self.part(place) for place in range(len(self.kinds))]
        return {"type": "message", "id": self.id, "role": "assistant", "status": status, "content": parts}

    def part(self, place: int) -> JsonObject:
        if self.kinds[place] == "refusal":
            return {"type": "refusal", "refusal": self.said[place]}
        return {"type": "output_text", "text": self.said[place], "annotations": [], "logprobs": _logprobs(self.tokens)}


class ResponseEvents:
    """Turns the pieces of one answer into events: `start`, then `piece` for each, then `end`, or `fail`.

    What says that something is done (a part, an item, the response) is held back until `end`: a stream that breaks
    never looks like an answer.
    """

    def __init__(self, stamp: Stamp, call: ResponsesCall) -> None:
        self._stamp = stamp
        self._call = call
        self._number = 0
        self._items: list[_Item] = []
        self._places: dict[int, int] = {}
        """Index of a tool call -> place of its item in the output."""
        self._message: int | None = None
        """Place of the message in the output."""
        self._reason: str | None = None

    def start(self) -> list[JsonObject]:
        """The events before the first piece."""
        body = self._body("in_progress", None)
        return [self._event(f"response.{name}", {"response": body}) for name in ("created", "in_progress")]

    def piece(self, delta: Delta) -> list[JsonObject]:
        """The events of one piece."""
        found: list[JsonObject] = []
        if delta.text or (delta.finish_reason and not self._items and not delta.tool_calls):
            kind = "refusal" if delta.finish_reason == "refusal" else "output_text"
            found += self._say(kind, delta.text, delta.tokens)
        for fragment in indexed(delta.tool_calls):
            found += self._call_tool(fragment)
        self._reason = delta.finish_reason or self._reason
        return found

    def end(self, routed: Routed[Completion], block: JsonObject) -> list[JsonObject]:
        """The last events. Raises: InvalidOutputError if the answer never finished."""
        found: list[JsonObject] = []
        if routed.answers[0].answer is None and self._reason is None and not self._items:
            found += self.piece(Delta(0, DECLINED, finish_reason="refusal"))
        body = self.finished(served_usage(routed), block)
        for place, item in enumerate(self._items):
            found += self._done(place, item)
        return [*found, self._event(f"response.{body['status']}", {"response": body})]

    def fail(self, fault: Fault) -> list[JsonObject]:
        """The last event of a stream that broke."""
        code = "rate_limit_exceeded" if fault.status == 429 else "server_error"
        error: JsonObject = {"code": code, "message": fault.message}
        body: JsonObject = {**self._body("failed", None), "error": error}
        return [self._event("response.failed", {"response": body})]

    def finished(self, usage: Usage, block: JsonObject) -> JsonObject:
        """The whole response. Raises: InvalidOutputError if the answer never finished."""
        if self._reason is None:
            raise InvalidOutputError("the stream ended before its answer was finished")
        cut = _CUT.get(finish_reason(self._reason))
        body = self._body("incomplete" if cut else "completed", usage)
        return {**body, "incomplete_details": {"reason": cut} if cut else None, BLOCK: block}

    def _body(self, status: str, usage: Usage | None) -> JsonObject:
        return {
            "id": self._stamp.id,
            "object": "response",
            "created_at": self._stamp.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self._stamp.model,
            "output": [] if status == "in_progress" else [item.body(self._item_status()) for item in self._items],
            "previous_response_id": None,
            "store": False,
            "truncation": "disabled",
            "usage": None if usage is None else input_usage(usage),
            **self._call.echo,
        }

    def _item_status(self) -> str:
        whole = self._reason is not None and finish_reason(self._reason) not in _CUT
        return "completed" if whole else "incomplete"

    def _say(self, kind: str, text: str, tokens: Sequence[JsonObject]) -> list[JsonObject]:
        """Text of the message: its item and its part are announced before their first piece."""
        found: list[JsonObject] = []
        if self._message is None:
            self._message = len(self._items)
            found.append(self._announce(_Item(self._item_id("msg"))))
        item = self._items[self._message]
        if not item.kinds or item.kinds[-1] != kind:
            item.kinds.append(kind)
            item.said.append("")
            found.append(self._part_event("response.content_part.added", "part", item.part(len(item.kinds) - 1)))
        item.said[-1] += text
        shown = tokens if self._call.request.logprobs is not None else ()
        item.tokens += shown
        if not text:
            return found
        if kind == "refusal":
            return [*found, self._part_event("response.refusal.delta", "delta", text)]
        delta = self._part_event("response.output_text.delta", "delta", text)
        return [*found, {**delta, "logprobs": _logprobs(shown)}]

    def _call_tool(self, fragment: JsonObject) -> list[JsonObject]:
        index, function = fragment.get("index"), fragment.get("function")
        if not isinstance(index, int) or not isinstance(function, dict):
            raise InvalidOutputError("a tool call came in a shape that is not the API's")
        found: list[JsonObject] = []
        if index not in self._places:
            self._places[index] = len(self._items)
            call: JsonObject = {"type": "function_call", "call_id": fragment.get("id"), "name": function.get("name")}
            found.append(self._announce(_Item(self._item_id("fc"), call)))
        place = self._places[index]
        if said := function.get("arguments"):
            self._items[place].said.append(str(said))
            found.append(self._item_event("response.function_call_arguments.delta", place, {"delta": said}))
        return found

    def _done(self, place: int, item: _Item) -> list[JsonObject]:
        found: list[JsonObject] = []
        if item.call is not None:
            said: JsonObject = {"arguments": "".join(item.said)}
            found.append(self._item_event("response.function_call_arguments.done", place, said))
        for at, kind in enumerate(item.kinds):
            head: JsonObject = {"content_index": at}
            said = {"refusal": item.said[at]} if kind == "refusal" else {"text": item.said[at]}
            if kind == "output_text":
                said["logprobs"] = _logprobs(item.tokens)
            found.append(self._item_event(f"response.{kind}.done", place, {**head, **said}))
            found.append(self._item_event("response.content_part.done", place, {**head, "part": item.part(at)}))
        body = item.body(self._item_status())
        return [*found, self._event("response.output_item.done", {"output_index": place, "item": body})]

    def _announce(self, item: _Item) -> JsonObject:
        self._items.append(item)
        said: JsonObject = {"output_index": len(self._items) - 1, "item": item.body("in_progress")}
        return self._event("response.output_item.added", said)

    def _part_event(self, kind: str, key: str, value: Json) -> JsonObject:
        """An event about the message's newest part."""
        place = self._message or 0
        return self._item_event(kind, place, {"content_index": len(self._items[place].kinds) - 1, key: value})

    def _item_event(self, kind: str, place: int, said: JsonObject) -> JsonObject:
        return self._event(kind, {"item_id": self._items[place].id, "output_index": place, **said})

    def _event(self, kind: str, said: JsonObject) -> JsonObject:
        self._number += 1
        return {"type": kind, "sequence_number": self._number - 1, **said}

    def _item_id(self, prefix: str) -> str:
        return f"{prefix}_{self._stamp.id}_{len(self._items)}"


def _logprobs(tokens: Sequence[JsonObject]) -> list[Json]:
    """Tokens as this API has them: the bytes of each are always there."""
    return [{**_token(token), "top_logprobs": [_token(other) for other in _others(token)]} for token in tokens]


def _token(token: JsonObject) -> JsonObject:
    text, raw = str(token["token"]), token.get("bytes")
    return {"token": text, "logprob": token["logprob"], "bytes": list(text.encode()) if raw is None else raw}


def _others(token: JsonObject) -> list[JsonObject]:
    found = token.get("top_logprobs")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
