"""What an engine that knows only text may pass over, and what it must refuse."""

from __future__ import annotations

import pytest

from curator.engines.chat_fields import HARMLESS, decisive, foreign_parts, refuse_unheard
from curator.errors import RequestRejectedError
from curator.types import ChatRequest, GenerateRequest, Message

ASKED = (Message("user", "How many?"),)
TOOL = {"type": "function", "function": {"name": "add"}}
IMAGE = {"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {}}, "odd"]}


def chat(**settings):
    return ChatRequest(ASKED, **settings)


@pytest.mark.parametrize(
    "request_",
    [
        GenerateRequest(ASKED),
        chat(),
        chat(extra=dict.fromkeys(HARMLESS, "x")),
        chat(extra={"presence_penalty": 0.0, "logit_bias": {}, "response_format": {"type": "text"}, "top_k": None}),
        chat(schema={"type": "object"}, extra={"response_format": {"type": "json_object"}}),
        chat(tools=(TOOL,), tool_choice="none"),
        chat(turns=({"role": "user", "content": [{"type": "text", "text": "How many?"}]},)),
    ],
)
def test_what_changes_no_answer_is_passed_over(request_):
    refuse_unheard(request_, "the engine")


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (chat(tools=(TOOL,)), "tools"),
        (chat(logprobs=0), "logprobs"),
        (chat(extra={"reasoning_effort": "low"}), "reasoning_effort"),
        (chat(extra={"presence_penalty": 1}), "presence_penalty"),
        (chat(extra={"response_format": {"type": "json_object"}}), "response_format"),
        (chat(turns=(IMAGE,)), "content of type image_url"),
    ],
)
def test_what_would_change_the_answer_is_refused_by_name(request_, name):
    with pytest.raises(RequestRejectedError, match=f"the engine cannot heed '{name}'"):
        refuse_unheard(request_, "the engine")
    refuse_unheard(request_, "the engine", heard=[name])


def test_what_is_decisive_of_a_request():
    assert decisive(chat(extra={"user": "u", "top_k": 5})) == {"top_k": 5}
    assert foreign_parts(chat(turns=(IMAGE, IMAGE))) == ["image_url"]
