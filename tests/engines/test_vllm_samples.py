"""Requests as vLLM's sampling parameters, and vLLM's outputs as ours; no engine is started."""

from __future__ import annotations

import importlib
import json
import warnings

import pytest

from curator.errors import RequestRejectedError
from curator.types import ChatRequest, GenerateRequest, Message, Sampling, Usage

pytest.importorskip("vllm", reason="vLLM is not installed")

ASKED = (Message("user", "How many?"),)
SCHEMA = {"type": "object"}


@pytest.fixture(scope="module")
def samples():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # importing vLLM warns of what torch deprecates
        return importlib.import_module("curator.engines.vllm_samples")


def output(finish=None):
    from vllm.logprobs import Logprob
    from vllm.outputs import CompletionOutput

    chances = [
        {5: Logprob(-0.5, 1, "é"), 6: Logprob(-2.0, 2, "b")},
        {8: Logprob(-3.0, 9, "c"), 6: Logprob(-0.25, 1, "b"), 5: Logprob(float("-inf"), 2, "é")},
    ]
    return CompletionOutput(1, "éc", (5, 8), None, chances, finish_reason=finish)


def test_a_plain_request_asks_for_its_sampling_only(samples):
    found = samples.sample_params(GenerateRequest(ASKED, Sampling(0.5, 0.9, 8, 3, ("x",)), SCHEMA), 1, 7)
    assert (found.temperature, found.top_p, found.max_tokens, found.seed) == (0.5, 0.9, 8, 3)
    assert (found.stop, found.stop_token_ids, found.logprobs) == (["x"], [7], 0)
    assert found.structured_outputs.json == SCHEMA


def test_fields_of_a_chat_request_are_heeded(samples):
    extra = {"presence_penalty": 1.0, "top_k": 5, "min_p": 0.1, "logit_bias": {"9": 200}, "user": "u"}
    extra["response_format"] = {"type": "json_object"}
    found = samples.sample_params(ChatRequest(ASKED, Sampling(1.0), logprobs=3, extra=extra), 1, 7)
    assert (found.presence_penalty, found.top_k, found.min_p, found.logit_bias) == (1.0, 5, 0.1, {9: 100.0})
    assert found.logprobs == 3
    assert found.structured_outputs.json_object


@pytest.mark.parametrize(
    "extra",
    [{"presence_penalty": 9}, {"logit_bias": {"x": 1}}, {"response_format": {"type": "grammar"}}, {"top_k": "many"}],
)
def test_what_vllm_does_not_take_is_refused(samples, extra):
    with pytest.raises(RequestRejectedError, match="vLLM"):
        samples.sample_params(ChatRequest(ASKED, extra=extra), 1, 7)


def test_tokens_are_shown_as_the_api_has_them(samples):
    shown = ChatRequest(ASKED, logprobs=2)
    found = samples.read_sample(output("length"), shown)
    assert (found.text, found.finish_reason, found.logprob) == ("éc", "length", -1.75)
    first, second = found.tokens
    assert first == {
        "token": "é",
        "logprob": -0.5,
        "bytes": [195, 169],
        "top_logprobs": [
            {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
            {"token": "b", "logprob": -2.0, "bytes": [98]},
        ],
    }
    assert [token["token"] for token in second["top_logprobs"]] == ["b", "c"]
    assert json.dumps(found.tokens, allow_nan=False)
    assert samples.read_sample(output(), GenerateRequest(ASKED)).tokens == ()
    piece = samples.read_piece(output(), ChatRequest(ASKED, logprobs=0), Usage(3, 2))
    assert (piece.index, piece.logprobs, piece.finish_reason, piece.usage) == (1, (-0.5, -3.0), None, Usage(3, 2))
    assert [token["top_logprobs"] for token in piece.tokens] == [[], []]
