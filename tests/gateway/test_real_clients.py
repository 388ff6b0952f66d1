"""litellm and curl against `goldless serve`; the openai client and typesafe-sdk are in the other files here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from docs_server import serving
from route_builders import MOOD, row
from serving_process import cascade_of, saved, started

from curator.task import DEFAULT_TEMPLATE
from curator.types import GenerateRequest, Message, Sampling

HERE = Path(__file__).parent
CHAT = GenerateRequest((Message("user", ""),), Sampling(max_tokens=16, temperature=0.0))
ASKED = {
    "model": "cascade",
    "messages": [{"role": "user", "content": "Is it fun?"}],
    "temperature": 0,
    "max_tokens": 16,
}
CHOICES = [{"value": "good"}, {"value": "bad"}]
QUESTION = {"type": "choice", "name": "mood", "instructions": MOOD.instructions, "choices": CHOICES}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A gateway whose small tier answers chats, and whose strong one decides."""
    folder = tmp_path_factory.mktemp("served")
    with serving(speaks=("decisions", "chat"), labels=("good", "bad")) as upstream:
        specs = {name: f"{upstream}#{name}?dialect=decisions" for name in ("small", "strong")}
        decided = replace(row(""), template=DEFAULT_TEMPLATE)
        saved(folder, cascade_of(specs, {decided: {"mood": [1.0]}, CHAT: {"text": [0.0]}}))
        with started(folder) as (_, found):
            yield found


@pytest.fixture(scope="module")
def litellm(url: str) -> dict:
    """What litellm_client.py got."""
    # Its prices come with it; it would ask for newer ones.
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    command = [sys.executable, str(HERE / "litellm_client.py"), url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_litellm_completes(litellm: dict) -> None:
    assert litellm["whole"]["text"] in ("good", "bad")
    assert litellm["whole"]["tier"] == litellm["header"] == "small"
    assert litellm["whole"]["usage"] > 1
    assert litellm["async"]["whole"] == litellm["whole"]


def test_litellm_streams(litellm: dict) -> None:
    assert litellm["streamed"] == litellm["async"]["streamed"] == litellm["whole"]["text"]
    assert litellm["streamed_usage"] == litellm["whole"]["usage"]


def test_litellm_controls_a_request(litellm: dict) -> None:
    assert (litellm["strong"]["tier"], litellm["named"]["tier"]) == ("strong", "strong")


def test_litellm_raises_what_openai_would(litellm: dict) -> None:
    assert (litellm["unknown"]["kind"], litellm["unknown"]["status"]) == ("NotFoundError", 404)
    assert "'nope' is not served here" in litellm["unknown"]["said"]
    assert (litellm["wrong"]["kind"], litellm["wrong"]["status"]) == ("BadRequestError", 400)
    assert "temperature must be" in litellm["wrong"]["said"]


def curl(address: str, body: object = None, *options: str) -> tuple[int, str, str]:
    """Status, content type and body, as a shell gets them."""
    data = [] if body is None else ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
    told = ["-w", "\n%{http_code} %{content_type}"]
    command = ["curl", "-sS", "--max-time", "60", *options, *data, *told, address]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said, _, ending = done.stdout.rpartition("\n")
    status, _, kind = ending.partition(" ")
    return int(status), kind.partition(";")[0], said


def test_curl_decides(url: str) -> None:
    status, kind, said = curl(f"{url}/v1/decisions", {"model": "cascade", "input": "fine", "questions": [QUESTION]})
    assert (status, kind) == (200, "application/json")
    answer = json.loads(said)
    assert answer["answers"][0]["choice"] in ("good", "bad")
    assert answer["goldless"]["answers"][0]["tier"] == "strong"
    body = {"state": "fine", "questions": {"mood": {"type": "noul", "instructions": "Is it fun?"}}}
    status, _, said = curl(f"{url}/v1/systemone", body)
    assert status == 200
    assert 0 <= json.loads(said)["answers"]["mood"]["noul"] <= 1


def test_curl_chats_whole_and_in_events(url: str) -> None:
    status, kind, said = curl(f"{url}/v1/chat/completions", ASKED)
    assert (status, kind) == (200, "application/json")
    text = json.loads(said)["choices"][0]["message"]["content"]
    status, kind, said = curl(f"{url}/v1/chat/completions", {**ASKED, "stream": True}, "-N")
    assert (status, kind) == (200, "text/event-stream")
    events = [line.removeprefix("data: ") for line in said.splitlines() if line]
    assert events.pop() == "[DONE]"
    chunks = [json.loads(event) for event in events]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"]) == text
    assert chunks[-1]["goldless"]["tier"] == "small"


def test_curl_is_told_what_is_wrong(url: str) -> None:
    chat = f"{url}/v1/chat/completions"
    for body, expected in (
        ({**ASKED, "model": "nope"}, (404, "model_not_found")),
        ({**ASKED, "temperature": "hot"}, (400, "invalid_value")),
        ({}, (400, "invalid_value")),
    ):
        status, kind, said = curl(chat, body)
        assert (status, json.loads(said)["error"]["code"], kind) == (*expected, "application/json")
    status, _, said = curl(f"{url}/v1/systemone", {"state": "fine"})
    assert (status, json.loads(said)["detail"][0]["loc"]) == (422, ["body", "questions"])
    assert curl(chat, None, "-X", "POST")[0] == 400
    assert curl(chat)[0] == 405
    assert curl(f"{url}/v1/nothing")[0] == 404


def test_curl_waits_before_a_large_body_and_is_answered(url: str) -> None:
    """As it asks with `Expect: 100-continue` by itself before it sends more than a megabyte."""
    long = {"model": "cascade", "input": "x" * 200_000, "questions": [QUESTION]}
    command = ["curl", "-sS", "--max-time", "60", "-H", "Expect: 100-continue", "-d", "@-", f"{url}/v1/decisions"]
    done = subprocess.run(command, input=json.dumps(long), capture_output=True, text=True, check=True)
    assert "answers" in json.loads(done.stdout), done.stdout[:500]
    larger = json.dumps({**long, "input": "x" * 5_000_000})
    done = subprocess.run(command, input=larger, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["error"]["code"] == "body_too_large"
