"""vLLM in process, on a real model; what needs no model comes first."""

from __future__ import annotations

import asyncio
import json
import math
import os

import pytest

from curator.engines import connect
from curator.engines.base import Engine
from curator.engines.pieces import Collector
from curator.engines.vllm import ENVIRONMENT, VLLMEngine
from curator.errors import (
    ConfigError,
    ContextLengthError,
    EngineError,
    MissingExtraError,
    RequestRejectedError,
    ServerError,
)
from curator.types import ChatRequest, DecideRequest, GenerateRequest, Message, Option, Question, Sampling

pytest.importorskip("vllm", reason="vLLM is not installed")

ANSWER = Question(
    "kind", "choice", "What does the question ask for?", tuple(map(Option, ("person", "place", "number")))
)
RATING = Question("rating", "score", "How polite?", tuple(map(Option, ("very rude", "very rude indeed", "polite"))))


@pytest.mark.anyio
async def test_a_setting_that_vllm_does_not_have(tiny_model):
    engine = connect(f"vllm:{tiny_model}", max_modellen=100)
    with pytest.raises(ConfigError, match=r"'max_modellen' of the vllm engine .did you mean 'max_model_len'"):
        await engine.decide(DecideRequest("x", (ANSWER,)))
    await engine.aclose()


@pytest.mark.anyio
async def test_the_preview_needs_no_engine(tiny_model, vllm_processes):
    before = len(vllm_processes())  # of the engine that the whole suite shares
    engine = VLLMEngine(str(tiny_model), max_model_len=128)
    (preview,) = await engine.preview(DecideRequest("who?", (ANSWER,)))
    assert preview.tokens > 10
    assert engine.identity.provider == "vllm"
    assert engine.identity.revision.endswith(":bfloat16")
    assert len(vllm_processes()) == before
    await engine.aclose()


def test_without_vllm_the_error_says_what_to_install(tiny_model, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"goldless\[vllm\]"):
        VLLMEngine(str(tiny_model))


@pytest.mark.anyio
async def test_nothing_phones_home(tiny_model, monkeypatch):
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "CRITICAL")
    engine = VLLMEngine(str(tiny_model), no_such_setting=1)
    with pytest.raises(ConfigError):
        await engine.decide(DecideRequest("x", (ANSWER,)))
    assert os.environ["VLLM_NO_USAGE_STATS"] == os.environ["DO_NOT_TRACK"] == "1"
    assert os.environ["VLLM_LOGGING_LEVEL"] == "CRITICAL"
    await engine.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize(("cores", "reserved"), [(2, "0"), (64, None)])
async def test_few_cores_all_compute(tiny_model, monkeypatch, cores, reserved):
    monkeypatch.setenv("VLLM_CPU_NUM_OF_RESERVED_CPU", "1")  # so that it is put back as it was
    monkeypatch.delenv("VLLM_CPU_NUM_OF_RESERVED_CPU")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    engine = VLLMEngine(str(tiny_model), no_such_setting=1)
    with pytest.raises(ConfigError):
        await engine.decide(DecideRequest("x", (ANSWER,)))
    assert os.environ.get("VLLM_CPU_NUM_OF_RESERVED_CPU") == reserved
    await engine.aclose()


@pytest.mark.engine
@pytest.mark.anyio
@pytest.mark.timeout(1800)
class TestOnAModel:
    async def test_several_questions_about_one_state(self, vllm_engine):
        assert isinstance(vllm_engine, Engine)
        answers = await vllm_engine.decide(DecideRequest("Who wrote Hamlet?", (ANSWER, RATING)))
        for decision in answers.answers:
            assert sum(map(math.exp, decision.logprobs)) == pytest.approx(decision.label_mass, rel=1e-5)
        assert answers.usage.calls >= 2
        assert answers.usage.output_tokens == answers.usage.calls
        assert answers.latency > 0

    async def test_a_repeated_prompt_is_read_from_the_prefix_cache(self, vllm_engine):
        request = DecideRequest("How long is the Nile, in miles, from its source to the sea?", (ANSWER,))
        first, second = await vllm_engine.decide(request), await vllm_engine.decide(request)
        assert second.usage.cached_tokens >= 32
        assert second.answers[0].logprobs == pytest.approx(first.answers[0].logprobs, abs=1e-3)

    async def test_more_labels_than_one_request_may_ask_for(self, vllm_engine):
        prompter = await asyncio.wrap_future(vllm_engine.submit(vllm_engine.engine.prompter()))
        words = [prompter.token(token) for token in range(1000, 5000)]
        words = [word for word in words if word.isascii() and word.isalpha() and len(word) > 3]
        questions = [Question("q", "choice", "Which word?", tuple(map(Option, words[:size]))) for size in (150, 20)]
        many = (await vllm_engine.decide(DecideRequest("", (questions[0],)))).answers[0]
        assert len(set(many.logprobs)) > 140
        assert sum(map(math.exp, many.logprobs)) == pytest.approx(many.label_mass, rel=1e-4)

    async def test_a_prompt_beyond_the_context_is_refused_before_it_is_sent(self, vllm_engine):
        with pytest.raises(ContextLengthError) as caught:
            await vllm_engine.decide(DecideRequest("long " * 3000, (ANSWER,)))
        assert caught.value.limit == 2048
        assert caught.value.needed > 3000

    async def test_greedy_samples(self, vllm_engine):
        ask = (Message("user", "What is the capital of France?"),)
        completion = await vllm_engine.generate(GenerateRequest(ask, Sampling(max_tokens=20), n=2))
        first, second = completion.samples
        assert first == second
        assert "Paris" in first.text
        assert first.finish_reason == "stop"
        assert -1 < first.logprob < 0
        stopped = await vllm_engine.generate(GenerateRequest(ask, Sampling(max_tokens=20, stop=("Paris",))))
        assert stopped.samples[0].text == first.text.partition("Paris")[0]

    async def test_seeded_samples_repeat_and_differ_among_themselves(self, vllm_engine):
        ask = GenerateRequest((Message("user", "Tell me a story."),), Sampling(1.2, max_tokens=16, seed=5), n=3)
        first, second = await vllm_engine.generate(ask), await vllm_engine.generate(ask)
        assert first.samples == second.samples
        assert len(set(first.samples)) == 3
        assert first.samples[0].finish_reason == "length"
        assert first.usage.output_tokens == 48

    async def test_seeded_prompts_that_do_not_fit_into_one_batch(self, vllm_engine):
        asks = [
            GenerateRequest((Message("user", f"{i} " + "word " * 1200),), Sampling(1.0, max_tokens=2, seed=5))
            for i in range(8)
        ]
        found = await asyncio.gather(*map(vllm_engine.generate, asks))
        assert [one.usage.output_tokens for one in found] == [2] * 8

    async def test_a_schema_holds_the_text_to_it(self, vllm_engine):
        schema = {"type": "object", "properties": {"kind": {"enum": ["person", "place"]}}, "required": ["kind"]}
        ask = (Message("user", "Who wrote Hamlet? Answer in JSON."),)
        completion = await vllm_engine.generate(GenerateRequest(ask, Sampling(max_tokens=60), schema))
        assert json.loads(completion.samples[0].text)["kind"] in ("person", "place")

    async def test_the_pieces_of_a_stream_are_the_answer(self, vllm_engine):
        ask = (Message("user", "What is the capital of France?"),)
        request = ChatRequest(ask, Sampling(max_tokens=20), n=2, logprobs=2)
        whole = await vllm_engine.generate(request)
        found = await vllm_engine.read(request)
        collector = Collector()
        for piece in found:
            collector.add(piece)
        streamed = collector.completion()
        assert len(found) > 4
        assert [(one.text, one.finish_reason) for one in streamed.samples] == [
            (one.text, one.finish_reason) for one in whole.samples
        ]
        assert streamed.samples[0].logprob == pytest.approx(whole.samples[0].logprob, abs=1e-2)
        assert streamed.usage.output_tokens == whole.usage.output_tokens
        assert streamed.usage.input_tokens == whole.usage.input_tokens
        assert len(streamed.samples[0].tokens) == len(collector.logprobs())
        assert all(len(token["top_logprobs"]) == 2 for token in streamed.samples[0].tokens)

    async def test_samples_stream_side_by_side(self, vllm_engine):
        ask = GenerateRequest((Message("user", "Tell me a story."),), Sampling(1.2, max_tokens=16, seed=5), n=3)
        found = await vllm_engine.read(ask)
        assert {piece.index for piece in found} == {0, 1, 2}
        assert sorted(piece.index for piece in found if piece.finish_reason) == [0, 1, 2]
        assert found[-1].usage.output_tokens == 48

    async def test_a_stream_that_is_closed_is_aborted_in_the_engine(self, vllm_engine):
        ask = GenerateRequest((Message("user", "Tell me a story."),), Sampling(1.0, max_tokens=1500))
        first = await vllm_engine.read(ask, 3)
        assert [piece.usage.output_tokens for piece in first] == sorted(piece.usage.output_tokens for piece in first)
        llm = vllm_engine.engine._starting.result().llm
        await until(lambda: llm.get_num_unfinished_requests() == 0)

    async def test_tools_are_refused_and_their_results_are_read(self, vllm_engine):
        tool = {"type": "function", "function": {"name": "add"}}
        ask = (Message("user", "Hi"),)
        with pytest.raises(RequestRejectedError, match="cannot heed 'tools'"):
            await vllm_engine.generate(ChatRequest(ask, tools=(tool,)))
        turns = ({"role": "user", "content": [{"type": "text", "text": "What is the capital of France?"}]},)
        request = ChatRequest(ask, Sampling(max_tokens=20), turns=turns, tools=(tool,), tool_choice="none")
        assert "Paris" in (await vllm_engine.generate(request)).samples[0].text

    async def test_a_cancelled_request_is_aborted_in_the_engine(self, vllm_engine):
        ask = GenerateRequest((Message("user", "Tell me a story."),), Sampling(1.0, max_tokens=1500))
        task = vllm_engine.submit(vllm_engine.engine.generate(ask))
        llm = vllm_engine.engine._starting.result().llm
        await until(lambda: llm.get_num_unfinished_requests() == 1)
        task.cancel()
        await until(lambda: llm.get_num_unfinished_requests() == 0)

    async def test_another_event_loop_is_refused(self, vllm_engine):
        await vllm_engine.decide(DecideRequest("x", (ANSWER,)))
        with pytest.raises(EngineError, match="another event loop"):
            await vllm_engine.engine.decide(DecideRequest("x", (ANSWER,)))

    async def test_a_dead_engine_is_an_error_and_starts_again(self, vllm_engine, vllm_processes):
        await vllm_engine.decide(DecideRequest("x", (ANSWER,)))
        ask = GenerateRequest((Message("user", "Tell me a story."),), Sampling(1.0, max_tokens=1500))
        task = vllm_engine.submit(vllm_engine.engine.generate(ask))
        llm = vllm_engine.engine._starting.result().llm
        await until(lambda: llm.get_num_unfinished_requests() == 1)
        for process in vllm_processes():
            process.kill()
        with pytest.raises(ServerError, match="the vLLM engine died"):
            await asyncio.wrap_future(task)
        assert (await vllm_engine.decide(DecideRequest("x", (ANSWER,)))).answers[0].label_mass > 0


async def until(condition) -> None:
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not happen within a minute")
