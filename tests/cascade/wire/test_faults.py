"""Errors in the shape of each dialect, as the official clients raise them."""

from __future__ import annotations

import inspect

import httpx2
import openai
import pytest
import typesafe_sdk

from cascade.wire.faults import fault
from cascade.wire.models import UnknownModelError
from cascade.wire.reading import FieldError
from curator import errors
from curator.errors import (
    AuthenticationError,
    BudgetExceededError,
    ConfigError,
    ContextLengthError,
    EngineTimeoutError,
    InputError,
    InvalidOutputError,
    MissingExtraError,
    ModelNotFoundError,
    RateLimitError,
    RefusalError,
    RequestRejectedError,
    ServerError,
    StoreLockedError,
    TrainingError,
)
from tests.cascade.wire.wire_builders import as_json, official

URL = "http://10.0.0.7:8000/v1/chat/completions"
TABLE = [
    (FieldError("messages[2].content", "must be a string"), 400, "invalid_value"),
    (UnknownModelError("no model 'x'", hint="models: cascade"), 404, "model_not_found"),
    (InputError("x-goldless-alpha must be a number"), 400, None),
    (ConfigError("not certified"), 400, None),
    (BudgetExceededError("2 USD are spent"), 402, "insufficient_quota"),
    (RateLimitError(f"{URL} answered 429", retry_after=2.5), 429, "rate_limit_exceeded"),
    (ContextLengthError(f"{URL} answered 400: too long"), 400, "context_length_exceeded"),
    (RequestRejectedError(f"{URL} answered 400: no tools"), 400, "rejected_by_model"),
    (RefusalError("no"), 422, "refusal"),
    (EngineTimeoutError(f"no answer from {URL}"), 504, "timeout"),
    (ServerError(f"{URL} answered 500: Traceback"), 503, "upstream_failed"),
    (ModelNotFoundError(f"{URL} answered 404"), 502, "upstream_failed"),
    (AuthenticationError(f"{URL} answered 401: key sk-1234"), 502, "upstream_failed"),
    (InvalidOutputError("garbage: <secret text>"), 502, "upstream_failed"),
    (MissingExtraError("no jsonschema", hint="pip install"), 501, "not_available"),
    (StoreLockedError("busy"), 503, "overloaded"),
    (TrainingError("loss is nan"), 500, "internal_error"),
    (KeyError("secret text"), 500, "internal_error"),
]


def raised_by_openai(found):
    """What the official client raises for the answer."""
    response = httpx2.Response(found.status_in(), json=found.body(), headers=found.headers)
    with official(response) as client, pytest.raises(openai.APIStatusError) as seen:
        client.models.list()
    return seen.value


@pytest.mark.parametrize(("error", "status", "code"), TABLE, ids=lambda value: type(value).__name__)
def test_every_kind_has_its_status_in_openais_shape(error, status, code):
    found = fault(error)
    seen = raised_by_openai(found)
    assert (seen.status_code, seen.code) == (status, code)
    assert seen.type == found.type
    assert as_json(found.body())["error"].keys() == {"message", "type", "param", "code"}


@pytest.mark.parametrize(("error", "status", "code"), TABLE, ids=lambda value: type(value).__name__)
def test_nothing_of_the_inside_is_told(error, status, code):
    told = str(fault(error).body()) + str(fault(error).body("systemone"))
    for inner in ("10.0.0.7", "Traceback", "sk-1234", "secret", "pip install"):
        assert inner not in told


@pytest.mark.parametrize(("error", "status", "code"), TABLE, ids=lambda value: type(value).__name__)
def test_system_ones_client_raises_its_own_kind(error, status, code):
    found = fault(error)
    wanted = 422 if status == 400 else status
    response = httpx2.Response(found.status_in("systemone"), json=found.body("systemone"), headers=found.headers)
    with pytest.raises(typesafe_sdk.TypeSafeAPIError) as seen:
        typesafe_sdk.SystemOneResponse.from_http_response(response)
    assert seen.value.status == wanted
    assert found.message in str(seen.value)


def test_the_path_is_a_param_here_and_a_location_there():
    found = fault(FieldError("questions.mood.criteria[1]", "is empty"))
    assert found.body()["error"]["param"] == "questions.mood.criteria[1]"
    (detail,) = found.body("systemone")["detail"]
    assert detail["loc"] == ["body", "questions", "mood", "criteria", 1]
    assert fault(FieldError("body", "must be an object")).body("systemone")["detail"][0]["loc"] == ["body"]


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (RateLimitError("slow", retry_after=2.5), "3"),
        (RateLimitError("slow"), "1"),
        (ServerError("down", retry_after=0.0), "1"),
        (StoreLockedError("busy"), "1"),
        (BudgetExceededError("spent"), None),
        (ServerError("down"), "1"),
        (FieldError("n", "is wrong"), None),
    ],
)
def test_who_may_come_back_is_told_when(error, wait):
    assert fault(error).headers.get("Retry-After") == wait


def test_a_budget_that_fills_again_is_worth_waiting_for():
    error = BudgetExceededError("the day's 2 USD are spent")
    error.retry_after = 3600.0
    found = fault(error)
    assert (found.status, found.headers) == (429, {"Retry-After": "3600"})


def test_no_error_of_ours_is_without_an_answer():
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.GoldlessError)]
    assert len(kinds) > 20
    for kind in kinds:
        named = inspect.signature(kind).parameters
        needed = {name: 1.0 for name, one in named.items() if one.kind is one.KEYWORD_ONLY and one.default is one.empty}
        found = fault(kind("what happened", **needed))
        assert 400 <= found.status < 600
        assert found.message
