"""The served OpenAPI document. What it says of requests and answers is tested by asking as it says, and otherwise.

Fields that are passed on as they are, or read over, are not listed: every object of a request may have more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from curator.types import Json, JsonObject

ERRORS: Final[Mapping[str, str]] = {
    "400": "the request is wrong: `param` names the field",
    "401": "no API key, or none that is good",
    "402": "the budget of the request or the key is used up",
    "403": "the API key may not do this",
    "404": "no such model",
    "408": "the body was not all there in time",
    "413": "the body is too large",
    "422": "the model declined",
    "429": "too many requests; see Retry-After",
    "500": "the server failed",
    "501": "the server was installed without what the request needs",
    "502": "the model's server failed for good",
    "503": "overloaded, or the model's server failed for now; see Retry-After",
    "504": "no model answered in time",
}
CONTROLS: Final[Sequence[tuple[str, JsonObject, str]]] = (
    ("x-goldless-tier", {"type": "string"}, "Ask this tier alone; the answer is not certified."),
    ("x-goldless-alpha", {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, "At most this risk."),
    ("x-goldless-budget", {"type": "number", "exclusiveMinimum": 0}, "At most so much money for this request."),
)


def document(models: Sequence[str]) -> JsonObject:
    """The description of a server with these models."""
    named: JsonObject = {"type": "string", "enum": list(models)}
    posts: JsonObject = {
        "/v1/chat/completions": _post("Chat completions", _chat(named), "choices", streams=True),
        "/v1/completions": _post("Completions", _completions(named), "choices", streams=True),
        "/v1/responses": _post("Responses", _responses(named), "output", streams=True),
        "/v1/decisions": _post("Decisions", _decisions(named), "answers"),
        "/v1/systemone": _systemone(_state(named)),
    }
    gets: JsonObject = {
        "/v1/models": _get("The models that are served", _object({"data": _list(_open_object())})),
        "/v1/models/{model}": {**_get("One model", _object({"id": named})), "parameters": [_path_parameter()]},
        "/healthz": _get("Whether the process answers", _object({"status": _TEXT})),
        "/readyz": _get("Whether requests should be sent here", _object({"status": _TEXT}), unwell="503"),
        "/status": _get("Policies, live risk, upstreams", _object({"policy": _open_object()})),
        "/metrics": _metrics(),
        "/openapi.json": _get("This document", _open_object()),
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "goldless", "version": "1", "description": "A certified cascade behind OpenAI's API."},
        "paths": {**posts, **gets},
        "components": {
            "schemas": {"Error": _ERROR, "Detail": _DETAIL},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


_TEXT: Final[JsonObject] = {"type": "string"}
_WORD: Final[JsonObject] = {"type": "string", "minLength": 1}
_FLAG: Final[JsonObject] = {"type": "boolean"}


def _object(properties: JsonObject, required: Sequence[str] | None = None) -> JsonObject:
    needed = list(properties) if required is None else list(required)
    return {"type": "object", "properties": properties, "required": [*needed]}


def _open_object() -> JsonObject:
    return {"type": "object"}


def _list(items: JsonObject, least: int = 0) -> JsonObject:
    return {"type": "array", "items": items, "minItems": least} if least else {"type": "array", "items": items}


_PROBLEM: Final = _object(
    {
        "message": _TEXT,
        "type": _TEXT,
        "param": {"type": ["string", "null"]},
        "code": {"type": ["string", "null"]},
    }
)
_ERROR: Final = _object({"error": _PROBLEM})
_DETAIL: Final = _object(
    {"detail": {"anyOf": [_TEXT, _list(_object({"loc": _list({}), "msg": _TEXT, "type": _TEXT}))]}}
)


def _json(schema: JsonObject) -> JsonObject:
    return {"application/json": {"schema": schema}}


def _refusals(shape: str, codes: Sequence[str]) -> JsonObject:
    content = _json({"$ref": f"#/components/schemas/{shape}"})
    return {code: {"description": ERRORS[code], "content": content} for code in codes}


def _answers(told: str, content: JsonObject) -> JsonObject:
    return {"200": {"description": told, "content": content}}


def _post(title: str, schema: JsonObject, key: str, *, streams: bool = False) -> JsonObject:
    content = _json(_object({key: _list({}), "goldless": {}}))
    if streams:
        content["text/event-stream"] = {"schema": _TEXT}
    answers = _answers("the answer", content) | _refusals("Error", list(ERRORS))
    return {"post": _operation(title, schema, answers)}


def _systemone(schema: JsonObject) -> JsonObject:
    content = _json(_object({"answers": _open_object(), "goldless": {}}))
    codes = [code for code in ERRORS if code != "400"]
    answers = _answers("the answers", content) | _refusals("Detail", codes)
    return {"post": _operation("System One decisions", schema, answers)}


def _operation(title: str, schema: JsonObject, answers: JsonObject) -> JsonObject:
    controls: list[Json] = [
        {"name": name, "in": "header", "required": False, "schema": shape, "description": told}
        for name, shape, told in CONTROLS
    ]
    body: JsonObject = {"required": True, "content": _json(schema)}
    return {"summary": title, "parameters": controls, "requestBody": body, "responses": answers, "security": _SECURITY}


_SECURITY: Final[list[Json]] = [{"key": []}, {}]


def _get(title: str, schema: JsonObject, unwell: str = "") -> JsonObject:
    answers = _answers("the answer", _json(schema))
    if unwell:
        answers[unwell] = {"description": "not now", "content": _json(schema)}
    answers |= _refusals("Error", ["401", "404"])
    return {"get": {"summary": title, "responses": answers, "security": _SECURITY}}


def _metrics() -> JsonObject:
    answers = _answers("the metrics", {"text/plain": {"schema": _TEXT}}) | _refusals("Error", ["501"])
    return {"get": {"summary": "Prometheus' text format", "responses": answers}}


def _path_parameter() -> JsonObject:
    return {"name": "model", "in": "path", "required": True, "schema": _WORD}


def _sampling() -> JsonObject:
    return {
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "top_p": {"type": "number", "minimum": 0, "maximum": 1},
        "stream": _FLAG,
    }


def _chat(named: JsonObject) -> JsonObject:
    said = _object({"role": {"enum": ["system", "developer", "user"]}, "content": _TEXT})
    return _object(
        {
            "model": named,
            "messages": _list(said, 1),
            **_sampling(),
            "n": {"type": "integer", "minimum": 1, "maximum": 128},
            "max_completion_tokens": {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
            "seed": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
        },
        ["model", "messages"],
    )


def _completions(named: JsonObject) -> JsonObject:
    return _object({"model": named, "prompt": _TEXT, **_sampling()}, ["model", "prompt"])


def _responses(named: JsonObject) -> JsonObject:
    fields: JsonObject = {"model": named, "input": _TEXT, "instructions": _TEXT, **_sampling()}
    return {**_object(fields, ["model", "input"]), "additionalProperties": False}


def _decisions(named: JsonObject) -> JsonObject:
    asked: JsonObject = {"instructions": _TEXT}
    choices = _list(_object({"value": _WORD, "description": _TEXT}, ["value"]), 2)
    levels = _list(_object({"label": _WORD, "description": _TEXT}, ["label"]), 2)
    kinds: list[Json] = [
        _object({"type": {"const": "predicate"}, **asked}),
        _object({"type": {"const": "choice"}, **asked, "choices": choices}),
        _object({"type": {"const": "score"}, **asked, "levels": levels}),
    ]
    return _object({"model": named, "input": _TEXT, "questions": _list({"oneOf": kinds}, 1)})


def _state(named: JsonObject) -> JsonObject:
    noul = _object({"type": {"const": "noul"}, "instructions": _WORD})
    choice = _object(
        {
            "type": {"const": "choice"},
            "instructions": _TEXT,
            "criteria": {"type": "object", "minProperties": 2, "additionalProperties": {"type": ["string", "null"]}},
        }
    )
    score = _object({"type": {"const": "score"}, "instructions": _TEXT, "criteria": _list(_WORD, 2)})
    for one in (noul, choice, score):
        one["additionalProperties"] = False
    questions: JsonObject = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"minLength": 1},
        "additionalProperties": {"oneOf": [noul, choice, score]},
    }
    return _object({"model": named, "state": _TEXT, "questions": questions})
