"""Streams of a real server: whole, broken, hanging, and left alone."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from stream_reader import read

from benchmarks.mock_stream import DONE, DROP, HANG, USAGE, StreamServer, chunk, chunks, event
from curator.engines.base import StreamingEngine
from curator.engines.http import HTTPEngine
from curator.engines.pieces import Collector
from curator.errors import (
    ContextLengthError,
    EngineTimeoutError,
    InvalidOutputError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
)
from curator.types import ChatRequest, Delta, GenerateRequest, Message, Usage

pytestmark = pytest.mark.anyio

CHAT = GenerateRequest((Message("user", "How many?"),))
SHOWN = ChatRequest((Message("user", "How many?"),), logprobs=0)
TOLD = Usage(7, 3)
READ_CHUNKS = chunks("It is", " 42")


@pytest.fixture
async def engines():
    """Makes engines and closes them."""
    made = []

    def make(server, **settings):
        made.append(HTTPEngine(server.url, "mock", **settings))
        return made[-1]

    yield make
    for engine in made:
        await engine.aclose()


async def whole(engine, request=CHAT):
    found, error = await read(engine.stream(request))
    if error:
        raise error
    collector = Collector()
    for piece in found:
        collector.add(piece)
    return collector.completion()


async def test_an_answer_comes_in_pieces_with_its_usage_at_the_end(engines):
    async with StreamServer(READ_CHUNKS) as server:
        engine = engines(server)
        assert isinstance(engine, StreamingEngine)
        found, error = await read(engine.stream(CHAT))
    assert error is None
    assert found == [Delta(text="It is"), Delta(text=" 42"), Delta(finish_reason="stop", text=""), Delta(usage=TOLD)]
    (body,) = server.bodies
    assert body["stream"] is True
    assert body["stream_options"]["include_usage"] is True
    assert server.headers[0]["Accept"] == "text/event-stream"


async def test_the_pieces_come_while_the_server_still_writes(engines):
    async with StreamServer([chunk("It is"), HANG]) as server, aclosing(engines(server).stream(CHAT)) as pieces:
        assert (await anext(pieces)).text == "It is"
        assert server.gone == 0


async def test_bytes_may_be_cut_anywhere(engines):
    raw = b": hello\r\n\r\n" + b"".join(chunks("é😀", " und so")).replace(b"\n", b"\r\n")
    async with StreamServer([raw[i : i + 1] for i in range(len(raw))]) as server:
        assert (await whole(engines(server))).samples[0].text == "é😀 und so"


async def test_log_probabilities_and_tokens_are_kept(engines):
    script = [chunk("a", logprobs=[-0.1]), chunk("b", logprobs=[-0.3]), chunk(finish="length"), DONE]
    async with StreamServer(script) as server:
        plain = (await whole(engines(server))).samples[0]
        shown = (await whole(engines(server), SHOWN)).samples[0]
    assert plain.logprob == pytest.approx(-0.2)
    assert (plain.head, plain.tokens, plain.finish_reason) == ((-0.1, -0.3), (), "length")
    assert [token["logprob"] for token in shown.tokens] == [-0.1, -0.3]


async def test_a_tool_call_is_put_together_from_its_fragments(engines):
    def calls(*fragments):
        return chunk(tool_calls=[{"index": index, **fragment} for index, fragment in fragments])

    script = [
        calls((0, {"id": "a", "type": "function", "function": {"name": "add", "arguments": ""}})),
        calls((0, {"function": {"arguments": '{"x": '}})),
        calls((0, {"function": {"arguments": "1}"}}), (1, {"id": "b", "function": {"name": "now", "arguments": "{}"}})),
        chunk(finish="tool_calls"),
        DONE,
    ]
    async with StreamServer(script) as server:
        sample = (await whole(engines(server))).samples[0]
    assert sample.finish_reason == "tool_calls"
    assert sample.tool_calls == (
        {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}},
        {"id": "b", "function": {"name": "now", "arguments": "{}"}},
    )


async def test_a_refusal_comes_whole_and_a_filter_says_so(engines):
    refusing = [chunk(refusal="I can"), chunk(refusal="not"), chunk(finish="stop"), DONE]
    async with StreamServer(refusing) as server:
        found, _ = await read(engines(server).stream(CHAT))
    assert found[0] == Delta(text="I cannot", finish_reason="refusal")
    async with StreamServer([chunk("Well"), chunk(finish="content_filter"), DONE]) as server:
        sample = (await whole(engines(server))).samples[0]
    assert (sample.text, sample.finish_reason) == ("Well", "content_filter")


async def test_samples_may_be_interleaved_and_the_missing_ones_are_asked_for(engines):
    both = [chunk("a", index=0), chunk("b", index=1), chunk("!", index=0, finish="stop"), chunk(index=1, finish="stop")]
    request = GenerateRequest(CHAT.messages, n=2)
    async with StreamServer([*both, DONE]) as server:
        assert [one.text for one in (await whole(engines(server), request)).samples] == ["a!", "b"]
    async with StreamServer(chunks("a")) as server:
        completion = await whole(engines(server), request)
    assert [one.text for one in completion.samples] == ["a", "a"]
    assert completion.usage == Usage(14, 6, calls=2)
    assert [body.get("n") for body in server.bodies] == [2, None]


async def test_a_server_may_leave_out_done_and_usage_but_no_finish(engines):
    async with StreamServer([chunk("a"), chunk(finish="stop")]) as server:
        completion = await whole(engines(server))
    assert (completion.samples[0].text, completion.usage) == ("a", Usage())
    async with StreamServer([chunk("a"), DONE]) as server:
        _, error = await read(engines(server).stream(CHAT))
    assert "ended the stream in the middle of an answer" in str(error)


async def test_a_server_that_does_not_stream_is_read_all_the_same(engines):
    reply = {"choices": [{"message": {"content": "hi"}, "finish_reason": "length"}], "usage": USAGE}
    async with StreamServer(lambda body: (200, reply)) as server:
        found, error = await read(engines(server).stream(CHAT))
    assert (found, error) == ([Delta(text="hi", finish_reason="length", usage=TOLD), Delta(usage=TOLD)], None)


async def test_usage_with_every_piece_is_passed_on(engines):
    script = [chunk("a", usage={"prompt_tokens": 7, "completion_tokens": 1}), HANG]
    async with StreamServer(script) as server, aclosing(engines(server).stream(CHAT)) as pieces:
        assert (await anext(pieces)).usage == Usage(7, 1)


@pytest.mark.parametrize(
    ("script", "kind", "match"),
    [
        ([chunk("a"), DROP], ServerError, "broke the connection"),
        ([chunk("a")], ServerError, "in the middle of an answer"),
        ([chunk("a"), event({"error": {"message": "out of memory", "code": 500}})], ServerError, "out of memory"),
        ([chunk("a"), event({"error": {"message": "slow down", "code": "429"}})], RateLimitError, "slow down"),
        ([chunk("a"), b'event: error\ndata: {"message": "bad luck"}\n\n'], ServerError, "bad luck"),
        ([chunk("a"), b'data: {"choices": [{"del\n\n'], ServerError, "no valid JSON"),
        ([chunk("a"), b"data: \xff\xfe\n\n"], ServerError, "no valid JSON"),
        ([chunk("a"), b"Internal Server Error\n"], ServerError, "no event"),
        ([chunk("a"), event({"choices": [{"index": 0, "delta": {"content": 7}}]})], InvalidOutputError, "cannot read"),
        ([chunk("a"), event([])], InvalidOutputError, "cannot read"),
        ([chunk("a", finish="stop"), chunk("b")], InvalidOutputError, "goes on after its end"),
    ],
)
async def test_a_broken_stream_is_an_error_after_its_pieces(engines, script, kind, match):
    async with StreamServer(script) as server:
        found, error = await read(engines(server).stream(CHAT))
    assert found[0].text == "a"
    assert type(error) is kind
    assert match in str(error)
    assert not any(piece.usage for piece in found)


async def test_one_sample_of_two_is_no_answer(engines):
    async with StreamServer([chunk("a", finish="stop"), chunk("b", index=1), DONE]) as server:
        _, error = await read(engines(server).stream(GenerateRequest(CHAT.messages, n=2)))
    assert isinstance(error, ServerError)


@pytest.mark.parametrize("script", [[HANG], [chunk("a"), HANG], [chunk("a"), *([b": ping\n\n", 0.02] * 200)]])
async def test_a_pause_that_is_too_long_is_a_timeout_and_hangs_up(engines, script):
    async with StreamServer(script) as server:
        _, error = await read(engines(server, timeout=0.3).stream(CHAT))
        assert isinstance(error, EngineTimeoutError)
        await server.until(lambda: server.gone == 1)


async def test_an_answer_may_take_longer_than_the_timeout_of_its_pieces(engines):
    script = [part for text in "abcdefgh" for part in (chunk(text), 0.1)]
    async with StreamServer([*script, chunk(finish="stop"), DONE]) as server:
        assert (await whole(engines(server, timeout=0.6))).samples[0].text == "abcdefgh"


async def test_closing_the_generator_hangs_up(engines):
    async with StreamServer([chunk("a"), HANG]) as server:
        pieces = engines(server).stream(CHAT)
        await anext(pieces)
        await pieces.aclose()
        await server.until(lambda: server.gone == 1)


@pytest.mark.parametrize("script", [[HANG], [chunk("a"), HANG]])
async def test_cancelling_the_reader_hangs_up(engines, script):
    async with StreamServer(script) as server:
        task = asyncio.create_task(read(engines(server).stream(CHAT)))
        await server.until(lambda: len(server.bodies) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.until(lambda: server.gone == 1)


async def test_the_connection_is_used_again_after_a_whole_stream(engines):
    async with StreamServer(READ_CHUNKS) as server:
        engine = engines(server)
        for _ in range(3):
            await whole(engine)
        assert len(server.connections) == 1


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "This model's maximum context length is 100 tokens", ContextLengthError),
        (429, "slow down", RateLimitError),
        (400, "no such field: foo", RequestRejectedError),
    ],
)
async def test_errors_before_the_stream_are_those_of_any_request(engines, status, message, kind):
    async with StreamServer(lambda body: (status, {"error": {"message": message}})) as server:
        found, error = await read(engines(server).stream(CHAT))
    assert (found, type(error)) == ([], kind)


async def test_it_learns_which_fields_a_server_takes(engines):
    def strict(body):
        if "continuous_usage_stats" in body.get("stream_options", {}):
            return 400, {"error": {"message": "Unknown parameter: 'stream_options.continuous_usage_stats'"}}
        if "max_tokens" in body:
            return 400, {"error": {"message": "Use 'max_completion_tokens' instead."}}
        if "logprobs" in body:
            return 400, {"error": {"message": "logprobs are not supported with this model"}}
        return READ_CHUNKS

    async with StreamServer(strict) as server:
        engine = engines(server)
        assert (await whole(engine)).usage == TOLD
        assert len(server.bodies) == 4
        await asyncio.gather(whole(engine), whole(engine))
        assert len(server.bodies) == 6
        # What the caller asked for is not left out.
        with pytest.raises(RequestRejectedError, match="logprobs are not supported"):
            await whole(engine, SHOWN)
