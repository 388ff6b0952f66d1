"""What a chat request becomes on the wire, and what comes back."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.mock_server import MockServer
from benchmarks.mock_stream import StreamServer
from curator.engines.http import HTTPEngine
from curator.types import ChatRequest, GenerateRequest, Message, Sampling

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/completions"
ASKED = (Message("user", "How many?"),)
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = {"id": "a", "type": "function", "function": {"name": "add", "arguments": "{}"}}


def reply(message, finish="stop", **more):
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish, **more}]}


async def ask(request, answer=None, **settings):
    """The body that was sent, and the completion."""
    async with MockServer(replies={} if answer is None else {PATH: answer}) as server:
        engine = HTTPEngine(server.url, "mock", **settings)
        completion = await engine.generate(request)
        await engine.aclose()
    return server.requests[0][1], completion


async def test_turns_tools_and_foreign_fields_are_sent_as_they_are():
    turns = (
        {"role": "user", "content": [{"type": "text", "text": "How many?"}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "a", "content": "42"},
    )
    extra = {"user": "u", "parallel_tool_calls": False, "logit_bias": {"5": 1}}
    request = ChatRequest(ASKED, Sampling(0.5), turns=turns, tools=(TOOL,), tool_choice="auto", logprobs=3, extra=extra)
    body, _ = await ask(request, reply({"content": "hi"}))
    assert body["messages"] == list(turns)
    assert (body["tools"], body["tool_choice"]) == ([TOOL], "auto")
    assert (body["logprobs"], body["top_logprobs"], body["temperature"]) == (True, 3, 0.5)
    assert {name: body[name] for name in extra} == extra


async def test_foreign_fields_do_not_replace_ours_but_for_the_response_format():
    schema = {"type": "object"}
    own = {"type": "json_schema", "json_schema": {"name": "mine", "schema": schema}}
    request = ChatRequest(ASKED, schema=schema, extra={"model": "other", "temperature": 2, "response_format": own})
    body, _ = await ask(request, reply({"content": "{}"}))
    assert (body["model"], body["temperature"], body["response_format"]) == ("mock", 0.0, own)
    body, _ = await ask(GenerateRequest(ASKED, schema=schema), reply({"content": "{}"}))
    assert body["response_format"]["json_schema"]["name"] == "answer"


async def test_a_plain_request_is_sent_as_before():
    body, completion = await ask(ChatRequest(ASKED), reply({"content": "hi"}))
    plain, _ = await ask(GenerateRequest(ASKED), reply({"content": "hi"}))
    assert body == plain
    assert completion.samples[0].tokens == ()


@pytest.mark.parametrize(
    ("message", "finish", "expected"),
    [
        ({"content": None, "tool_calls": [CALL]}, "tool_calls", ("", "tool_calls", (CALL,))),
        ({"content": "cut"}, "length", ("cut", "length", ())),
        ({"content": "Well"}, "content_filter", ("Well", "content_filter", ())),
        ({"content": None, "refusal": "I cannot"}, "stop", ("I cannot", "refusal", ())),
    ],
)
async def test_how_an_answer_ends_is_told_as_it_is(message, finish, expected):
    _, completion = await ask(ChatRequest(ASKED, tools=(TOOL,)), reply(message, finish))
    (sample,) = completion.samples
    assert (sample.text, sample.finish_reason, sample.tool_calls) == expected


async def test_tokens_are_kept_where_they_were_asked_for():
    tokens = [{"token": "hi", "logprob": -0.5, "bytes": [104, 105], "top_logprobs": [{"token": "ho", "logprob": -1}]}]
    answer = reply({"content": "hi"}, logprobs={"content": tokens})
    _, shown = await ask(ChatRequest(ASKED, logprobs=1), answer)
    _, plain = await ask(ChatRequest(ASKED), answer)
    assert (shown.samples[0].tokens, shown.samples[0].logprob) == (tuple(tokens), -0.5)
    assert (plain.samples[0].tokens, plain.samples[0].logprob) == ((), -0.5)


async def test_requests_at_once_all_learn_what_newer_models_want():
    def newer(body):
        if "max_tokens" in body:
            return 400, {"error": {"message": "Use 'max_completion_tokens' instead."}}
        return 200, reply({"content": "hi"})

    async with StreamServer(newer) as server:
        engine = HTTPEngine(server.url, "mock")
        found = await asyncio.gather(*(engine.generate(ChatRequest(ASKED)) for _ in range(5)))
        await engine.aclose()
    assert [completion.samples[0].text for completion in found] == ["hi"] * 5
