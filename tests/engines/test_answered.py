"""Error answers of servers, mapped to our errors."""

from __future__ import annotations

import email.utils
import time

import orjson
import pytest

from curator.engines.answered import error_from, retry_after
from curator.engines.transport import Transport, parse_base
from curator.errors import (
    ConfigError,
    ContextLengthError,
    EngineTimeoutError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
)

URL = "http://host/v1/chat/completions"


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), (None, None), ("", None), ("soon", None)]
)
def test_retry_after_in_seconds(value, seconds):
    assert retry_after(value) == seconds


def test_retry_after_as_a_date():
    assert 25 < retry_after(email.utils.formatdate(time.time() + 30, usegmt=True)) <= 31
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


@pytest.mark.parametrize(
    ("message", "limit", "needed"),
    [
        # vLLM
        (
            "maximum context length is 1024 tokens. However, your prompt contains at least 1025 input tokens",
            1024,
            1025,
        ),
        # OpenAI
        (
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
            8192,
            9000,
        ),
        # Anthropic
        ("prompt is too long: 210000 tokens > 200000 maximum", 0, 210000),
        # SGLang
        ("The input (9000 tokens) is longer than the model's context length (8192 tokens).", 8192, 9000),
        # llama.cpp
        ("the request exceeds the available context size, try increasing it", 0, 0),
        # text-generation-inference
        ("Input validation error: `inputs` must have less than 1024 tokens. Given: 2000", 1024, 2000),
    ],
)
def test_a_prompt_that_is_too_long_is_told_with_its_figures(message, limit, needed):
    body = orjson.dumps({"error": {"message": message, "type": "invalid_request_error", "code": 400}})
    error = error_from(400, {}, body, URL)
    assert isinstance(error, ContextLengthError)
    assert (error.limit, error.needed) == (limit, needed)
    assert message[:40] in error.message


def test_other_complaints_are_not_about_length():
    error = error_from(400, {}, b'{"error": {"message": "max_tokens must be positive"}}', URL)
    assert isinstance(error, RequestRejectedError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(429, RateLimitError), (408, EngineTimeoutError), (504, EngineTimeoutError), (502, ServerError)],
)
def test_passing_failures_keep_the_servers_wish(status, kind):
    error = error_from(status, {"Retry-After": "9"}, b"", URL)
    assert isinstance(error, kind)
    assert error.retry_after == 9
    assert error.message == f"{URL} answered {status}"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"error": {"message": "m"}}', "m"),
        (b'{"error": "e"}', "e"),
        (b'{"detail": "d"}', "d"),
        (b'{"detail": [{"loc": ["body"], "msg": "field required"}]}', "field required"),
        (b'{"message": "top"}', "top"),
        (b'[{"error": {"message": "google"}}]', "google"),
        (b"<html><head><title>502</title></head><body>Bad\n gateway</body></html>", "502 Bad gateway"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b'{"odd": 1}', '{"odd":1}'),
    ],
)
def test_the_servers_message_is_found_in_many_shapes(raw, said):
    assert error_from(500, {}, raw, URL).message == f"{URL} answered 500: {said}"


def test_a_long_message_is_cut():
    assert len(error_from(500, {}, b"x" * 100_000, URL).message) < 600


def test_paths_are_relative_to_the_base_or_to_the_root():
    transport = Transport("http://host:1/api/v1/", api_key=None, timeout=1, headers={}, connections=1)
    assert str(transport._url("/decisions")) == "http://host:1/api/v1/decisions"
    assert str(transport._url("//tokenize")) == "http://host:1/tokenize"
    assert str(parse_base("HTTPS://Host/v1/")) == "https://host/v1"
    with pytest.raises(ConfigError, match="must end with the path"):
        parse_base("https://host/v1?api-version=1")
