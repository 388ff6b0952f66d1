"""Spans and metrics, with the real SDK in a process of its own (a provider can be set only once)."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from curator import telemetry

PROGRAM = """
import asyncio, json, sys
from contextlib import aclosing
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from benchmarks.mock_server import MockServer
from benchmarks.mock_stream import StreamServer, chunks
from curator import telemetry
from curator.engines.http import HTTPEngine
from curator.engines.scripted import ScriptedEngine, Streamed
from curator.engines.wrappers import PricedEngine, TracingEngine, wrap
from curator.errors import RefusalError, ServerError
from curator.types import DecideRequest, GenerateRequest, Message, Option, Price, Question, Sampling

assert not telemetry.recording()
spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([reader]))
assert telemetry.recording()
row = DecideRequest("a private text", (Question("mood", "choice", "Mood?", (Option("good"), Option("bad"))),))
chat = GenerateRequest((Message("user", "secret"),), Sampling(0.5, 0.9, 8, 3), n=2)

async def main():
    async with MockServer(speaks=["decisions"]) as server:
        engine = wrap(HTTPEngine(server.url, "gpt", dialect="decisions"), price=Price(1.0, 2.0, "EUR"))
        with telemetry.stage_span("curate"), telemetry.stage_span("annotate", rows=1):
            await engine.decide(row)
        await engine.aclose()
        port, parent = server.port, server.headers[0].get("traceparent")
    local = TracingEngine(ScriptedEngine(generate=["x"] * 2, faults=[RefusalError("quotes secret")]), content=True)
    try:
        await local.generate(chat)
    except RefusalError:
        pass
    await local.generate(chat)
    decider = TracingEngine(ScriptedEngine(decide=lambda asked: [0.2, 0.8]), content=True)
    await decider.decide(row)
    return port, parent

port, parent = asyncio.run(main())
found = json.loads(reader.get_metrics_data().to_json())
before = list(spans.get_finished_spans())
outside = []

async def read(engine, count):
    async with aclosing(engine.stream(chat)) as pieces:
        for _ in range(count):
            await anext(pieces)
            outside.append(trace.get_current_span().is_recording())

async def streams():
    async with StreamServer(chunks("It is", " 42")) as server:
        engine = wrap(HTTPEngine(server.url, "gpt"), price=Price(1.0, 2.0, "EUR"))
        async with aclosing(engine.stream(GenerateRequest(chat.messages))) as pieces:
            async for piece in pieces:
                outside.append(trace.get_current_span().is_recording())
        await engine.aclose()
    local = TracingEngine(ScriptedEngine(generate=lambda asked: Streamed(["a", "b", ServerError("quotes secret")])))
    await read(local, 1)
    try:
        await read(local, 3)
    except ServerError:
        pass
    return server.headers[0].get("traceparent")

parent_of_stream = asyncio.run(streams())
after = [span for span in spans.get_finished_spans() if span not in before]
later = json.loads(reader.get_metrics_data().to_json())
print(json.dumps({"port": port, "parent": parent, "metrics": found["resource_metrics"][0]["scope_metrics"][0],
                  "spans": [json.loads(span.to_json()) for span in before],
                  "streams": [json.loads(span.to_json()) for span in after], "parent_of_stream": parent_of_stream,
                  "outside": outside, "later": later["resource_metrics"][0]["scope_metrics"][0]["metrics"]}))
"""


@pytest.fixture(scope="module")
def recorded():
    pytest.importorskip("opentelemetry.sdk")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_call_over_http_is_a_client_span_inside_its_stage(recorded):
    call, stage, run = recorded["spans"][:3]
    assert (call["name"], stage["name"], run["name"]) == ("chat gpt", "stage annotate", "curate")
    assert call["parent_id"] == stage["context"]["span_id"]
    assert stage["parent_id"] == run["context"]["span_id"]
    assert (call["kind"], stage["kind"]) == ("SpanKind.CLIENT", "SpanKind.INTERNAL")
    assert call["attributes"] == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt",
        "server.address": "127.0.0.1",
        "server.port": recorded["port"],
        "goldless.questions": 1,
        "goldless.readout": ["decisions"],
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 1,
        "gen_ai.usage.cost.amount": pytest.approx(32e-6),
        "gen_ai.usage.cost.currency": "EUR",
        "gen_ai.usage.cost.source": "configured",
    }
    assert stage["attributes"] == {"goldless.stage": "annotate", "goldless.rows": 1}


def test_the_server_is_told_of_the_span(recorded):
    context = recorded["spans"][0]["context"]
    assert recorded["parent"].startswith(f"00-{context['trace_id'][2:]}-{context['span_id'][2:]}-")


def test_texts_are_recorded_on_request_only(recorded):
    assert "private" not in json.dumps(recorded["spans"][:3])
    answered = recorded["spans"][4]["attributes"]
    assert json.loads(answered["gen_ai.input.messages"])[0]["parts"] == [{"type": "text", "content": "secret"}]
    assert answered["gen_ai.request.choice.count"] == 2
    assert answered["gen_ai.response.finish_reasons"] == ["stop", "stop"]
    (said,) = json.loads(recorded["spans"][5]["attributes"]["gen_ai.output.messages"])
    assert said == {"role": "assistant", "parts": [{"type": "text", "content": '{"mood":"bad"}'}]}


def test_a_failure_is_marked_without_its_message(recorded):
    failed = recorded["spans"][3]
    assert failed["kind"] == "SpanKind.INTERNAL"
    assert failed["status"] == {"status_code": "ERROR", "description": "RefusalError"}
    assert failed["attributes"]["error.type"] == "RefusalError"
    assert "quotes" not in json.dumps(failed)


def test_metrics_have_the_conventions_buckets(recorded):
    found = {metric["name"]: metric for metric in recorded["metrics"]["metrics"]}
    duration, tokens = found["gen_ai.client.operation.duration"], found["gen_ai.client.token.usage"]
    assert (duration["unit"], tokens["unit"]) == ("s", "{token}")
    bounds = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
    assert duration["data"]["data_points"][0]["explicit_bounds"] == pytest.approx(bounds)
    assert sum(point["count"] for point in duration["data"]["data_points"]) == 4
    assert {point["attributes"].get("error.type") for point in duration["data"]["data_points"]} == {
        None,
        "RefusalError",
    }
    kinds = {
        (p["attributes"]["gen_ai.token.type"], p["attributes"]["gen_ai.request.model"]): p["sum"]
        for p in tokens["data"]["data_points"]
    }
    assert kinds[("input", "gpt")] == 30
    assert kinds[("output", "gpt")] == 1


def test_a_stream_is_one_span_until_its_end(recorded):
    whole = recorded["streams"][0]
    found = whole["attributes"]
    assert (whole["name"], whole["kind"], found["gen_ai.request.stream"]) == ("chat gpt", "SpanKind.CLIENT", True)
    assert found["gen_ai.response.finish_reasons"] == ["stop"]
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (7, 3)
    assert found["gen_ai.usage.cost.amount"] == pytest.approx(13e-6)
    assert found["gen_ai.response.time_to_first_chunk"] > 0
    assert whole["context"]["span_id"][2:] in recorded["parent_of_stream"]
    assert not any(recorded["outside"])


def test_a_stream_that_is_closed_or_breaks_says_so(recorded):
    closed, broken = recorded["streams"][1:]
    assert (closed["attributes"]["error.type"], closed["status"]["status_code"]) == ("aborted", "UNSET")
    assert broken["attributes"]["error.type"] == "ServerError"
    assert broken["status"] == {"status_code": "ERROR", "description": "ServerError"}
    assert "quotes" not in json.dumps(broken)


def test_the_time_to_the_first_piece_is_a_metric_of_streams_only(recorded):
    assert "gen_ai.client.operation.time_to_first_chunk" not in {m["name"] for m in recorded["metrics"]["metrics"]}
    found = {metric["name"]: metric["data"]["data_points"] for metric in recorded["later"]}
    assert sum(point["count"] for point in found["gen_ai.client.operation.time_to_first_chunk"]) == 3
    kinds = {point["attributes"].get("error.type") for point in found["gen_ai.client.operation.duration"]}
    assert kinds == {None, "RefusalError", "ServerError", "aborted"}


def test_without_an_sdk_nothing_is_recorded_or_sent():
    code = """
import asyncio
from curator import telemetry
from curator.engines.scripted import ScriptedEngine
from curator.engines.wrappers import TracingEngine
from curator.types import DecideRequest, Option, Question
row = DecideRequest("x", (Question("q", "choice", "?", (Option("a"), Option("b"))),))
with telemetry.stage_span("curate") as span:
    asyncio.run(TracingEngine(ScriptedEngine(decide=["a"])).decide(row))
print(telemetry.recording(), span.is_recording(), telemetry.trace_headers())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False {}"


def test_no_other_module_of_the_curator_imports_opentelemetry():
    for path in Path(telemetry.__file__).parent.rglob("*.py"):
        if path.name != "telemetry.py":
            names = [
                name
                for node in ast.walk(ast.parse(path.read_text()))
                for name in (
                    [a.name for a in node.names]
                    if isinstance(node, ast.Import)
                    else [getattr(node, "module", "") or ""]
                    if isinstance(node, ast.ImportFrom)
                    else []
                )
            ]
            assert not [name for name in names if name.startswith("opentelemetry")], path
