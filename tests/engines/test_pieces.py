"""Completions in pieces, and together again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from curator.engines.pieces import Collector, Tally, pieces_of, prompt_bytes, prompt_tokens, streamed
from curator.engines.sampled import HEAD, sample
from curator.engines.scripted import ScriptedEngine, Streamed
from curator.errors import ServerError
from curator.types import ChatRequest, Completion, Delta, GenerateRequest, Message, Sample, Usage

pytestmark = pytest.mark.anyio

CHAT = GenerateRequest((Message("user", "How many?"),))
CALL = {"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"x":1}'}}


class Plain:
    """An engine that does not stream."""

    def __init__(self, completion):
        self.generate = ScriptedEngine(generate=[completion]).generate


def collect(pieces):
    collector = Collector()
    for piece in pieces:
        collector.add(piece)
    return collector


async def test_an_engine_that_does_not_stream_gives_a_piece_per_sample():
    first = replace(sample("a", "length", [-0.5, -1.5]), tokens=({"token": "a"},))
    samples = (first, Sample("", "tool_calls", tool_calls=(CALL,)))
    completion = Completion(samples, Usage(5, 2), 0.25)
    found = [piece async for piece in streamed(Plain(completion), CHAT)]
    assert len(found) == 3
    assert found[-1] == Delta(usage=Usage(5, 2), cost=0.25)
    assert collect(found).completion() == completion
    assert list(pieces_of(completion)) == found


async def test_one_that_streams_is_passed_on():
    engine = ScriptedEngine(generate=[Streamed(["a", "b"])])
    assert [piece.text async for piece in streamed(engine, CHAT)] == ["a", "b", "", ""]


def test_logprobs_are_summed_up_as_in_one_go():
    logprobs = [-i / 10 for i in range(50)]
    halves = Delta(logprobs=tuple(logprobs[:20])), Delta(logprobs=tuple(logprobs[20:]), finish_reason="stop")
    collector = collect(halves)
    (found,) = collector.completion().samples
    assert collector.logprobs() == logprobs
    assert found.logprob == pytest.approx(-2.45)
    assert found.deciles[0] == -4.9
    assert found.head == tuple(logprobs[:HEAD])


def test_tool_calls_without_numbers_are_calls_of_their_own():
    collector = collect([Delta(tool_calls=(CALL, CALL), finish_reason="tool_calls")])
    assert collector.completion().samples[0].tool_calls == (CALL, CALL)


def test_a_refusal_replaces_what_was_said_before():
    collector = collect([Delta(text="Well, "), Delta(text="I cannot", finish_reason="refusal")])
    assert collector.completion().samples[0] == Sample("I cannot", "refusal")


@pytest.mark.parametrize("pieces", [[], [Delta(text="a")], [Delta(finish_reason="stop"), Delta(1, "b")]])
def test_half_an_answer_is_none(pieces):
    collector = collect(pieces)
    with pytest.raises(ServerError):
        collector.completion()
    assert len(collector.so_far().samples) == len(pieces)


def test_what_a_broken_stream_took_is_told_or_estimated():
    tally = Tally()
    for piece in (Delta(text="a b"), Delta(text="c", logprobs=(-1.0, -1.0)), Delta(finish_reason="stop")):
        tally.add(piece)
    assert tally.taken(9) == (Usage(9, 3), True)
    tally.add(Delta(usage=Usage(4, 3), cost=0.5))
    assert tally.taken(9) == (Usage(4, 3), False)
    assert tally.cost == 0.5


def test_prompts_are_counted_with_tools_and_turns():
    assert prompt_bytes(CHAT) == 9
    assert prompt_tokens(CHAT) == 2
    turns = ({"role": "user", "content": "How many, and of what?"},)
    assert prompt_bytes(ChatRequest(CHAT.messages, turns=turns, tools=({"type": "function"},))) > 60
    assert prompt_bytes(GenerateRequest(CHAT.messages, schema={"type": "object"})) == 9 + 17
