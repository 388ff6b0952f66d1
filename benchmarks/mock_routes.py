"""What the mock server answers, per route: request body in, response body out. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypedDict, cast

import orjson

from benchmarks import mock_model
from curator.types import JsonObject


class Said(TypedDict, total=False):
    """The parts of a request body that the mock looks at."""

    model: str
    messages: list[dict[str, str]]
    n: int
    logprobs: bool | int
    top_logprobs: int
    logprob_token_ids: list[int]
    response_format: JsonObject
    prompt: str | list[int]
    tokens: list[int]
    add_generation_prompt: bool
    input: str
    state: str
    questions: list[dict[str, object]] | dict[str, dict[str, object]]


Route = Callable[[Said, Sequence[str]], JsonObject]
_USAGE: Final[JsonObject] = {"prompt_tokens": 40, "completion_tokens": 1, "total_tokens": 41}
_CHAT: Final[JsonObject] = {"id": "chatcmpl-mock", "object": "chat.completion", "created": 0}


def chat(said: Said, labels: Sequence[str]) -> JsonObject:
    """`/chat/completions`: the likeliest of `labels` (or of the schema's enum), with log-probabilities."""
    text = said["messages"][-1]["content"]
    if said.get("logprob_token_ids"):
        return _chat_by_ids(said)
    enum = _enum(said)
    chances = dict(zip(enum or labels, mock_model.distribution(text, enum or labels), strict=True))
    best = max(chances, key=chances.__getitem__)
    content = orjson.dumps({"answer": best}).decode() if enum else best
    logprobs = None
    if said.get("logprobs"):
        top = said.get("top_logprobs") or 0
        tokens = ['{"answer":"', best, '"}', "<|im_end|>"] if enum else [best]
        logprobs = {"content": [_token(t, chances if t == best else {t: 1.0}, top) for t in tokens], "refusal": None}
    message = {"role": "assistant", "content": content, "refusal": None}
    choices = [
        {"index": i, "message": message, "finish_reason": "stop", "logprobs": logprobs}
        for i in range(said.get("n") or 1)
    ]
    return {**_CHAT, "model": said["model"], "choices": choices, "usage": dict(_USAGE)}  # type: ignore[dict-item]


def _enum(said: Said) -> list[str]:
    schema = said.get("response_format")
    if not schema:
        return []
    found = cast(dict[str, dict[str, dict[str, dict[str, dict[str, list[str]]]]]], schema)
    return found["json_schema"]["schema"]["properties"]["answer"]["enum"]


def _token(text: str, chances: Mapping[str, float], top: int) -> dict[str, object]:
    """A token as the API describes it. A twentieth of the probability goes to tokens that mean nothing."""
    listed = [(option, 0.95 * p) for option, p in chances.items()] + [(f"~{i}", 0.05 / 2**i) for i in range(1, 21)]
    listed.sort(key=lambda item: -item[1])
    ranked = [{"token": t, "logprob": math.log(p), "bytes": list(t.encode())} for t, p in listed[:top]]
    own = math.log(0.95 * chances[text])
    return {"token": text, "logprob": own, "bytes": list(text.encode()), "top_logprobs": ranked}


def _named(ids: Sequence[int], wanted: Sequence[int]) -> dict[str, float]:
    logprobs = mock_model.next_token(tuple(ids))
    return {f"token_id:{token}": logprobs[token] for token in wanted}


def _chat_by_ids(said: Said) -> JsonObject:
    ids = mock_model.encode(mock_model.chat(said["messages"]))
    top = [{"token": t, "logprob": p, "bytes": []} for t, p in _named(ids, said["logprob_token_ids"]).items()]
    content = [{**top[0], "top_logprobs": top}]
    message = {"role": "assistant", "content": "", "refusal": None}
    choice = {
        "index": 0,
        "message": message,
        "finish_reason": "length",
        "logprobs": {"content": content, "refusal": None},
    }
    usage = {"prompt_tokens": len(ids), "completion_tokens": 1, "total_tokens": len(ids) + 1}
    return cast(JsonObject, {**_CHAT, "model": said["model"], "choices": [choice], "usage": usage})


def completions(said: Said, labels: Sequence[str]) -> JsonObject:
    """vLLM's `/completions` for a prompt of token ids and `logprob_token_ids`."""
    prompt = said["prompt"]
    ids = mock_model.encode(prompt) if isinstance(prompt, str) else prompt
    named = _named(ids, said["logprob_token_ids"])
    logprobs = {"top_logprobs": [named], "tokens": [next(iter(named))], "token_logprobs": [0.0], "text_offset": [0]}
    choice = {"index": 0, "text": "", "finish_reason": "length", "logprobs": logprobs}
    usage = {"prompt_tokens": len(ids), "completion_tokens": 1, "total_tokens": len(ids) + 1}
    head = {"id": "cmpl-mock", "object": "text_completion", "created": 0, "model": said["model"]}
    return cast(JsonObject, {**head, "choices": [choice], "usage": usage})


def tokenize(said: Said, labels: Sequence[str]) -> JsonObject:
    """vLLM's `/tokenize`, for a text or a chat."""
    if "messages" in said:
        text = mock_model.chat(said["messages"], opens_answer=said.get("add_generation_prompt", True))
    else:
        text = cast(str, said["prompt"])
    ids = mock_model.encode(text)
    return cast(JsonObject, {"tokens": ids, "count": len(ids), "max_model_len": 4096})


def detokenize(said: Said, labels: Sequence[str]) -> JsonObject:
    return {"prompt": mock_model.decode(said["tokens"])}


def decisions(said: Said, labels: Sequence[str]) -> JsonObject:
    """OpenAI's `/decisions`."""
    questions = cast(list[dict[str, object]], said["questions"])
    usage = {
        "input_tokens": 30,
        "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
        "output_tokens": len(questions),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 30 + len(questions),
    }
    answers = [_decide(question, said["input"]) for question in questions]
    return cast(JsonObject, {"answers": answers, "model": said["model"], "usage": usage})


def _decide(question: dict[str, object], state: str) -> dict[str, object]:
    head: dict[str, object] = {"type": question["type"], "name": question.get("name")}
    if "refuse" in state:
        return {**head, "type": "refusal"}
    if question["type"] == "predicate":
        return {**head, "probability": mock_model.distribution(state, ["true", "false"])[0]}
    key, name = ("choices", "value") if question["type"] == "choice" else ("levels", "label")
    options = [cast(str, option[name]) for option in cast(list[dict[str, object]], question[key])]
    chances = mock_model.distribution(state, options)
    if question["type"] == "choice":
        ranked = [{"value": o, "probability": p} for o, p in zip(options, chances, strict=True)]
        return {
            **head,
            "choice": options[chances.index(max(chances))],
            "confidence": max(chances),
            "probabilities": ranked,
        }
    levels = [{"label": o, "probability": p, "value": i} for i, (o, p) in enumerate(zip(options, chances, strict=True))]
    score = sum(i * p for i, p in enumerate(chances))
    return {**head, "score": score, "confidence": max(chances), "probabilities": levels}


def systemone(said: Said, labels: Sequence[str]) -> JsonObject:
    """The System One shape, with a label mass of 0.9."""
    questions = cast(dict[str, dict[str, object]], said["questions"])
    answers = {name: _judge(question, said["state"]) for name, question in questions.items()}
    notes = {name: {"label_mass": 0.9, "argmax_is_label": True} for name in questions}
    usage = {"input_tokens": 30, "output_tokens": len(questions)}
    head = {"id": "mock", "object": "structured_decision", "created": 0, "model": said["model"]}
    return cast(JsonObject, {**head, "answers": answers, "usage": usage, "diagnostics": notes})


def _judge(question: dict[str, object], state: str) -> dict[str, object]:
    kind, criteria = question["type"], question.get("criteria")
    if kind == "noul":
        p = mock_model.distribution(state, ["true", "false"])
        return {"type": kind, "noul": p[0], "probabilities": {"yes": p[0], "no": p[1]}, "confidence": 0.9 * max(p)}
    options = list(cast(dict[str, str], criteria)) if kind == "choice" else cast(list[str], criteria)
    chances = mock_model.distribution(state, options)
    if kind == "choice":
        best = options[chances.index(max(chances))]
        return {
            "type": kind,
            "choice": best,
            "probabilities": dict(zip(options, chances, strict=True)),
            "confidence": 0.9,
        }
    levels = {str(i): p for i, p in enumerate(chances)}
    return {
        "type": kind,
        "score": sum(i * p for i, p in enumerate(chances)),
        "probabilities": levels,
        "confidence": 0.9,
    }


DIALECTS: Final[dict[str, dict[str, Route]]] = {
    "chat": {"/v1/chat/completions": chat},
    "decisions": {"/v1/decisions": decisions},
    "systemone": {"/v1/systemone": systemone},
    "tokens": {
        "/v1/chat/completions": chat,
        "/v1/completions": completions,
        "/tokenize": tokenize,
        "/detokenize": detokenize,
    },
}
"""The routes that make up each dialect."""
