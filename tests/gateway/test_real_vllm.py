"""`goldless serve` in front of vLLM with SmolLM2-135M: as both tiers, by two names, so that there is one server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import openai
import orjson
import pyarrow.parquet as pq
import pytest
from route_builders import FUN, MOOD, row
from serving_process import cascade_of, ended, saved, started

from benchmarks._otlp import Collected, Received
from curator.task import DEFAULT_TEMPLATE
from curator.types import GenerateRequest, Message, Sampling

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

DECIDED = replace(row("", MOOD, FUN), template=DEFAULT_TEMPLATE)
SHORT = GenerateRequest((Message("user", ""),), Sampling(max_tokens=16, temperature=0.0))
LONG = GenerateRequest((Message("user", ""),), Sampling(max_tokens=17, temperature=0.0))
QUESTIONS = [
    {
        "type": "choice",
        "name": "mood",
        "instructions": MOOD.instructions,
        "choices": [{"value": "good"}, {"value": "bad"}],
    },
    {"type": "predicate", "name": "fun", "instructions": FUN.instructions},
]
ASKED = [{"role": "user", "content": "Say hello to Ann."}]
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
EXPORT = {"OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}


@dataclass
class Served:
    url: str
    folder: Path
    vllm: str

    def direct(self, path: str, **body: object) -> dict:
        """What vLLM says to whoever asks it without a gateway."""
        answer = httpx.post(f"{self.vllm}{path}", json={"model": "smol", **body}, timeout=120)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def served(vllm_server: str, vllm_spans: Collected, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Decisions and texts of 16 tokens are never served by the small tier, and texts of 17 always."""
    folder = tmp_path_factory.mktemp("served")
    specs = {"small": f"{vllm_server}#smol?dialect=chat", "strong": f"{vllm_server}#smol-strong?dialect=chat"}
    rules = {DECIDED: {"mood": [1.0], "fun": [1.0]}, SHORT: {"text": [1.0]}, LONG: {"text": [0.0]}}
    saved(folder, cascade_of(specs, rules))
    collector = {"OTEL_EXPORTER_OTLP_ENDPOINT": vllm_spans.url, "OTEL_SERVICE_NAME": "gateway", **EXPORT}
    with started(folder, "--ledger", "ledger", **collector) as (process, url):
        yield Served(url, folder, vllm_server)
        code, _ = ended(process)
        assert code == 0


@pytest.fixture
def client(served: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=120) as found:
        yield found


def test_decisions_are_read_from_the_models_own_probabilities(served: Served, client: openai.OpenAI) -> None:
    said = client.decisions.create(model="cascade", input="I laughed all day", questions=QUESTIONS)
    assert [one["tier"] for one in said.goldless["answers"]] == ["strong", "strong"]
    assert [one["tier"] for one in said.goldless["attempts"]] == ["small", "strong"]
    small, strong = (one["usage"] for one in said.goldless["attempts"])
    assert small == strong
    assert strong["input_tokens"] == said.usage.input_tokens > 20
    again = client.decisions.create(model="cascade:small", input="I laughed all day", questions=QUESTIONS)
    assert again.answers[1].probability == pytest.approx(said.answers[1].probability, abs=1e-3)
    assert 0 < said.answers[1].probability < 1


def test_a_text_is_what_vllm_says_by_itself(served: Served, client: openai.OpenAI) -> None:
    alone = served.direct("/chat/completions", messages=ASKED, max_tokens=16, temperature=0)
    said = client.chat.completions.create(model="cascade", messages=ASKED, max_tokens=16, temperature=0)
    assert said.choices[0].message.content == alone["choices"][0]["message"]["content"]
    assert said.choices[0].finish_reason == alone["choices"][0]["finish_reason"]
    assert said.usage.prompt_tokens == alone["usage"]["prompt_tokens"]
    assert said.usage.completion_tokens == alone["usage"]["completion_tokens"]
    assert (said.goldless["tier"], said.goldless["usage"]["calls"]) == ("strong", 2)
    assert said.goldless["usage"]["output_tokens"] == 2 * said.usage.completion_tokens


@pytest.mark.parametrize(("tokens", "tier"), [(16, "strong"), (17, "small")])
def test_a_stream_is_the_same_text_of_one_tier(client: openai.OpenAI, tokens: int, tier: str) -> None:
    asked = {"model": "cascade", "messages": ASKED, "max_tokens": tokens, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert (chunks[-1].goldless["tier"], whole.goldless["tier"]) == (tier, tier)


def test_samples_and_logprobs_and_schemas_pass_through(client: openai.OpenAI) -> None:
    asked = {"model": "cascade", "messages": ASKED, "max_tokens": 8}
    said = client.chat.completions.create(**asked, n=2, logprobs=True, top_logprobs=2)
    assert [len(choice.logprobs.content) for choice in said.choices] == [8, 8]
    schema = {"type": "object", "properties": {"name": {"enum": ["Ann", "Bob"]}}, "required": ["name"]}
    shape = {"type": "json_schema", "json_schema": {"name": "who", "schema": {**schema, "additionalProperties": False}}}
    said = client.chat.completions.create(**{**asked, "max_tokens": 40}, response_format=shape)
    assert orjson.loads(said.choices[0].message.content)["name"] in ("Ann", "Bob")


def test_what_vllm_refuses_is_said_as_our_own_error(client: openai.OpenAI) -> None:
    asked = {"model": "cascade", "messages": ASKED, "max_tokens": 8}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**{**asked, "messages": [{"role": "user", "content": "word " * 3000}]})
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", None)
    with pytest.raises(openai.BadRequestError) as refused:
        client.decisions.create(model="cascade:strong", input="word " * 3000, questions=QUESTIONS)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", None)
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    for changed in ({"tools": [tool]}, {"extra_body": {"min_p": 3.0}}, {"max_tokens": 5000}):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(**{**asked, **changed})
        assert refused.value.code in ("rejected_by_model", "context_length_exceeded")
        assert "http" not in refused.value.message


def test_the_other_dialects_reach_vllm_too(client: openai.OpenAI) -> None:
    said = client.completions.create(model="cascade", prompt="Hello", max_tokens=4, logprobs=1)
    assert len(said.choices[0].logprobs.tokens) == said.usage.completion_tokens == 4
    answer = client.responses.create(model="cascade", input="Hello", max_output_tokens=8)
    assert answer.output_text
    assert answer.usage.output_tokens <= 8


def test_vllms_own_span_stands_below_ours(served: Served, vllm_spans: Collected) -> None:
    body = {"model": "cascade", "messages": ASKED, "max_tokens": 16, "temperature": 0}
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    answer = httpx.post(f"{served.url}/v1/chat/completions", json=body, headers=headers, timeout=120)
    assert answer.status_code == 200, answer.text
    vllm_spans.until(lambda found: len(of_trace(found)) == 6)
    spans = {span.id: span for span in of_trace(vllm_spans)}

    def above(span: Received) -> str:
        parent = spans.get(span.parent)
        return parent.name if parent else {CALLER: "caller"}.get(span.parent, "?")

    assert sorted((span.service, span.name, span.kind, above(span)) for span in spans.values()) == [
        ("gateway", "cascade.decide", "INTERNAL", "invoke_workflow cascade"),
        ("gateway", "chat smol", "CLIENT", "invoke_workflow cascade"),
        ("gateway", "chat smol-strong", "CLIENT", "invoke_workflow cascade"),
        ("gateway", "invoke_workflow cascade", "INTERNAL", "caller"),
        ("vllm", "llm_request", "SERVER", "chat smol"),
        ("vllm", "llm_request", "SERVER", "chat smol-strong"),
    ]
    theirs = [span.attributes for span in spans.values() if span.service == "vllm"]
    ours = [span.attributes for span in spans.values() if span.name.startswith("chat ")]
    assert {(one["gen_ai.usage.prompt_tokens"], one["gen_ai.usage.completion_tokens"]) for one in theirs} == {
        (one["gen_ai.usage.input_tokens"], one["gen_ai.usage.output_tokens"]) for one in ours
    }


def of_trace(found: Collected) -> list[Received]:
    return [span for span in found.spans if span.trace == TRACE]


def test_a_client_that_leaves_stops_the_work_in_vllm_and_is_billed_for_it(served: Served) -> None:
    body = {"model": "cascade:strong", "messages": ASKED, "max_tokens": 1500, "stream": True, "ignore_eos": True}
    with httpx.stream("POST", f"{served.url}/v1/chat/completions", json=body, timeout=120) as answer:
        pieces = answer.iter_lines()
        while not next(pieces).startswith("data:"):
            pass
        assert running(served) == 1
    deadline = time.monotonic() + 60
    while running(served) and time.monotonic() < deadline:
        time.sleep(0.1)
    # 1500 tokens take a minute or more here.
    assert running(served) == 0
    rows: list[dict] = []
    while not rows and time.monotonic() < deadline:
        files = (served.folder / "ledger").glob("*.parquet")
        rows = [one for file in files for one in pq.read_table(file).to_pylist() if one["kind"] == "aborted"]
        time.sleep(0.2)
    assert 0 < rows[0]["output_tokens"] < 1500


def running(served: Served) -> float:
    """Requests in vLLM now."""
    lines = httpx.get(served.vllm.removesuffix("/v1") + "/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("vllm:num_requests_running"))
