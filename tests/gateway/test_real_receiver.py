"""The trace of one escalated query as Arize Phoenix has it: sent by `goldless serve`, asked back over Phoenix's API."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from docs_server import serving
from phoenix_process import serving_phoenix
from route_builders import MOOD, row
from serving_process import cascade_of, saved, started

from curator.task import DEFAULT_TEMPLATE

# It is installed where it is not yet.
pytestmark = pytest.mark.timeout(1500)

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
QUESTION = {
    "type": "choice",
    "name": "mood",
    "instructions": MOOD.instructions,
    "choices": [{"value": "good"}, {"value": "bad"}],
}
SECRET = "a private text"


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving_phoenix(tmp_path_factory.mktemp("phoenix")) as url:
        yield url


@pytest.fixture(scope="module")
def told(phoenix: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """The spans of an escalated decision, by name."""
    folder = tmp_path_factory.mktemp("served")
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": phoenix,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        # It takes traces only.
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with serving(speaks=("decisions",), labels=("good", "bad")) as upstream:
        specs = {name: f"{upstream}#{name}?dialect=decisions" for name in ("small", "strong")}
        saved(folder, cascade_of(specs, {replace(row(""), template=DEFAULT_TEMPLATE): {"mood": [1.0]}}))
        with started(folder, **environment) as (_, url):
            body = {"model": "cascade", "input": SECRET, "questions": [QUESTION]}
            headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
            answer = httpx.post(f"{url}/v1/decisions", json=body, headers=headers, timeout=60)
            assert answer.status_code == 200, answer.text
            return {span["name"]: span for span in _arrived(phoenix, 4)}


def _arrived(phoenix: str, count: int) -> list[dict]:
    """The trace's spans, as soon as so many are there."""
    deadline, found = time.monotonic() + 60, []
    while len(found) < count and time.monotonic() < deadline:
        time.sleep(0.3)
        answer = httpx.get(f"{phoenix}/v1/projects/default/spans", params={"trace_id": TRACE}, timeout=30)
        found = answer.json()["data"] if answer.status_code == 200 else []
    return found


def test_the_spans_stand_as_they_were_drawn(told: dict[str, dict]) -> None:
    assert set(told) == {"invoke_workflow cascade", "chat small", "cascade.decide", "chat strong"}
    root = told["invoke_workflow cascade"]
    assert root["parent_id"] == CALLER
    below = {span["parent_id"] for name, span in told.items() if span is not root}
    assert below == {root["context"]["span_id"]}
    begun = sorted(told, key=lambda name: told[name]["start_time"])
    assert begun == ["invoke_workflow cascade", "chat small", "cascade.decide", "chat strong"]


def test_the_backend_reads_the_attempts_as_calls_of_models(told: dict[str, dict]) -> None:
    """From the GenAI attributes alone: nothing of ours is made for it."""
    for name in ("small", "strong"):
        span = told[f"chat {name}"]
        found = span["attributes"]
        assert span["span_kind"] == "LLM"
        assert found["llm.model_name"] == found["gen_ai.request.model"] == name
        assert found["llm.token_count.prompt"] == found["gen_ai.usage.input_tokens"] > 0
        assert found["llm.token_count.completion"] == found["gen_ai.usage.output_tokens"] > 0
        assert found["gen_ai.operation.name"] == "chat"
        assert found["gen_ai.provider.name"] == "openai"
        assert found["server.address"] == "127.0.0.1"
        assert found["gen_ai.usage.cost.amount"] > 0
        assert found["gen_ai.usage.cost.currency"] == "USD"


def test_the_judgement_and_the_totals_arrive_whole(told: dict[str, dict]) -> None:
    judged, root = told["cascade.decide"], told["invoke_workflow cascade"]["attributes"]
    found = judged["attributes"]
    assert (found["cascade.tier"], found["cascade.question"]) == ("small", "mood")
    assert (found["cascade.decision"], found["cascade.reason"]) == ("escalate", "below_threshold")
    assert found["cascade.signal.top_probability"] == found["cascade.score"] < found["cascade.threshold"] == 1.0
    (event,) = judged["events"]
    assert event["name"] == "gen_ai.evaluation.result"
    assert event["attributes"]["gen_ai.evaluation.score.value"] == found["cascade.score"]
    assert event["attributes"]["gen_ai.evaluation.score.label"] == "escalate"
    assert (root["cascade.tier"], root["cascade.outcome"], root["cascade.certified"]) == (["strong"], ["teacher"], True)
    attempts = [told[name]["attributes"]["gen_ai.usage.cost.amount"] for name in ("chat small", "chat strong")]
    assert root["cascade.cost.total"] == pytest.approx(sum(attempts))
    assert root["cascade.cost.baseline"] == pytest.approx(attempts[1])


def test_no_text_arrives(told: dict[str, dict]) -> None:
    assert SECRET not in str(told)
