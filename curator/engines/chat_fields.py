"""Which fields of a chat request change its answer, and what to do with those that an engine cannot heed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from curator.errors import RequestRejectedError
from curator.types import ChatRequest, GenerateRequest, Json, JsonObject

HARMLESS: Final = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "stream_options",
        "user",
    }
)
"""They name who asks, or how the answer is kept, billed and sent: no answer is another for them."""

_NEUTRAL: Final[Mapping[str, Json]] = {
    "frequency_penalty": 0,
    "logit_bias": {},
    "modalities": ["text"],
    "parallel_tool_calls": True,
    "presence_penalty": 0,
    "response_format": {"type": "text"},
}
"""Values that ask for what is done anyway."""


def decisive(request: ChatRequest) -> JsonObject:
    """The fields of `extra` that may change the answer. The schema in a `response_format` is the request's own."""
    return {
        name: value
        for name, value in request.extra.items()
        if name not in HARMLESS
        and value is not None
        and _NEUTRAL.get(name) != value
        and not (name == "response_format" and request.schema is not None)
    }


def foreign_parts(request: ChatRequest) -> list[str]:
    """The kinds of content beside text that the turns have (`image_url`), each once."""
    parts = (part for turn in request.turns for part in _parts(turn.get("content")))
    kinds = {str(part.get("type")) for part in parts if isinstance(part, dict)}
    return sorted(kinds - {"text", "refusal"})


def refuse_unheard(request: GenerateRequest, engine: str, heard: Collection[str] = ()) -> None:
    """Check that an engine which knows nothing but text can answer: it heeds the fields `heard`, of `extra` or
    `logprobs`. Harmless fields (`HARMLESS`) are passed over.

    Raises: RequestRejectedError that names the first field that would be ignored.
    """
    if not isinstance(request, ChatRequest):
        return
    asked = {f"content of type {kind}": True for kind in foreign_parts(request)}
    asked |= {"tools": bool(request.tools) and request.tool_choice != "none"}
    asked |= {"logprobs": request.logprobs is not None} | dict.fromkeys(decisive(request), True)
    for name, present in asked.items():
        if present and name not in heard:
            raise RequestRejectedError(
                f"{engine} cannot heed {name!r}",
                hint="leave it out, or serve the model over HTTP (such as with vllm serve) and connect to that",
            )


def _parts(content: Json) -> list[Json]:
    return content if isinstance(content, list) else []
