"""Spans and metrics of a cascade, with the real SDK in a process of its own (a provider can be set only once)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, json
from contextlib import aclosing
from dataclasses import replace
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from route_builders import CHAT, FUN, MOOD, certificate, policy, row, scripted
from cascade.policy import Scorer
from cascade.router import Cascade
from curator.engines.scripted import Streamed
from curator.engines.wrappers import wrap
from curator.errors import ServerError
from curator.types import Delta, Price

spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([reader]))

def chances(share):
    return lambda asked: {q.name: {q.labels[0]: share, q.labels[1]: 1 - share} for q in asked.questions}

def small(asked):
    return {q.name: (0.9, 0.1) if q.name == "fun" or asked.state == "clear" else (0.6, 0.4) for q in asked.questions}

asked = row("a private text", MOOD, FUN)
price = Price(1e6, 0.0, "EUR")
tiers = {"small": wrap(scripted("tiny", decide=small), price=price),
         "strong": wrap(scripted("big", decide=chances(0.2), faults={1: ServerError("quotes private")}), price=price,
                        retry=None)}
scorer = Scorer(signals=("top_probability", "order_agreement"), weights=(1.0, 0.0))
made = policy(tiers, asked, {"mood": [0.8], "fun": [0.8]}, scorer=scorer, currency="EUR",
              certified=certificate(baseline_cost=3.0))

async def main():
    cascade = Cascade(tiers, made)
    await cascade.decide(asked)
    await cascade.decide(replace(asked, state="clear"))
    await cascade.decide(asked)

asyncio.run(main())
before, found = list(spans.get_finished_spans()), json.loads(reader.get_metrics_data().to_json())

async def stream():
    words = Streamed([Delta(text=word, logprobs=(-3.0,)) for word in "abcdefgh"])
    tiers = {"small": wrap(scripted("tiny", generate=lambda asked: words)),
             "strong": wrap(scripted("big", generate=lambda asked: "private text"))}
    cascade = Cascade(tiers, policy(tiers, CHAT, {"text": [0.8]}))
    async with aclosing(cascade.route_stream(CHAT).pieces()) as pieces:
        return [trace.get_current_span().is_recording() async for _ in pieces]

outside = asyncio.run(stream())
after = [span for span in spans.get_finished_spans() if span not in before]
print(json.dumps({"metrics": found["resource_metrics"][0]["scope_metrics"][0]["metrics"],
                  "spans": [json.loads(span.to_json()) for span in before], "outside": outside,
                  "streamed": [json.loads(span.to_json()) for span in after]}))
"""


@pytest.fixture(scope="module")
def recorded():
    pytest.importorskip("opentelemetry.sdk")
    folders = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", str(Path(__file__).parents[2])).split(":")]
    environment = {**os.environ, "PYTHONPATH": ":".join(folders)}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def split(recorded):
    """The spans of each request, the workflow's first."""
    traces = {}
    for span in recorded["spans"]:
        traces.setdefault(span["context"]["trace_id"], []).append(span)
    return [sorted(found, key=lambda span: span["start_time"]) for found in traces.values()]


def test_attempts_and_judgements_stand_below_the_workflow(recorded):
    for spans in split(recorded):
        workflow, *rest = spans
        assert (workflow["name"], workflow["kind"], workflow["parent_id"]) == (
            "invoke_workflow cascade",
            "SpanKind.INTERNAL",
            None,
        )
        judged = {span["context"]["span_id"] for span in rest if span["name"] == "cascade.decide"}
        for span in rest:
            assert span["parent_id"] in {workflow["context"]["span_id"], *judged}
    first = [span["name"] for span in split(recorded)[0]]
    assert first.count("chat tiny") == 3
    assert (first.count("cascade.decide"), first.count("chat big")) == (2, 1)


def test_calls_for_a_signal_stand_below_the_judgement_that_needs_them(recorded):
    spans = split(recorded)[0]
    judged = {span["context"]["span_id"] for span in spans if span["name"] == "cascade.decide"}
    assert sum(span["parent_id"] in judged for span in spans if span["name"] == "chat tiny") == 2


def test_a_judgement_tells_signals_threshold_decision_and_reason(recorded):
    judged = {
        span["attributes"]["cascade.question"]: span for span in split(recorded)[0] if span["name"] == "cascade.decide"
    }
    assert judged["mood"]["attributes"] == {
        "cascade.tier": "small",
        "cascade.question": "mood",
        "cascade.decision": "escalate",
        "cascade.reason": "below_threshold",
        "cascade.signal.top_probability": pytest.approx(0.6),
        "cascade.signal.order_agreement": 0.0,
        "cascade.score": pytest.approx(0.6),
        "cascade.threshold": 0.8,
    }
    (event,) = judged["fun"]["events"]
    assert event["name"] == "gen_ai.evaluation.result"
    assert event["attributes"] == {
        "gen_ai.evaluation.name": "cascade.score",
        "gen_ai.evaluation.score.label": "serve",
        "gen_ai.evaluation.score.value": pytest.approx(0.9),
        "gen_ai.evaluation.explanation": "reached",
    }


def test_totals_stand_on_the_workflow_only_and_costs_on_attempts_only(recorded):
    for spans in split(recorded):
        for span in spans:
            totals = [name for name in span["attributes"] if name.startswith("cascade.cost")]
            assert bool(totals) == (span["name"] == "invoke_workflow cascade")
            if span["name"] != "chat big":  # the one that failed tells no cost
                assert ("gen_ai.usage.cost.amount" in span["attributes"]) == (span["name"] == "chat tiny")
    workflow, *rest = split(recorded)[0]
    paid = sum(span["attributes"].get("gen_ai.usage.cost.amount", 0) for span in rest)
    assert workflow["attributes"] == {
        "gen_ai.operation.name": "invoke_workflow",
        "gen_ai.workflow.name": "cascade",
        "goldless.questions": 2,
        "cascade.tier": ["strong", "small"],
        "cascade.outcome": ["teacher", "accepted"],
        "cascade.certified": True,
        "cascade.cost.total": pytest.approx(paid),
        "cascade.cost.baseline": 6.0,
        "cascade.cost.currency": "EUR",
    }


def test_a_fallback_is_told_without_the_failures_message(recorded):
    workflow = split(recorded)[2][0]
    assert workflow["attributes"]["cascade.outcome"] == ["fallback", "accepted"]
    assert workflow["attributes"]["cascade.certified"] is False
    assert "cascade.cost.total" not in workflow["attributes"]
    assert "private" not in json.dumps(recorded["spans"])


def test_metrics_count_answers_by_tier_and_outcome(recorded):
    found = {metric["name"]: metric for metric in recorded["metrics"]}
    counts = {
        (point["attributes"]["cascade.tier"], point["attributes"]["cascade.outcome"]): point["value"]
        for point in found["cascade.requests"]["data"]["data_points"]
    }
    assert counts == {("strong", "teacher"): 1, ("small", "accepted"): 4, ("small", "fallback"): 1}
    costs = {point["attributes"]["cascade.tier"]: point for point in found["cascade.cost"]["data"]["data_points"]}
    assert {name: point["value"] for name, point in costs.items()} == {
        "small": pytest.approx(3 + 6 + 1 + 2 + 3 + 6),
        "strong": pytest.approx(3),
    }
    assert costs["small"]["attributes"]["gen_ai.usage.cost.currency"] == "EUR"
    confidence = {p["attributes"]["cascade.tier"]: p for p in found["cascade.confidence"]["data"]["data_points"]}
    assert (confidence["small"]["count"], confidence["strong"]["count"]) == (5, 1)


def test_a_stream_is_one_trace_and_its_reader_is_not_in_it(recorded):
    by_name = {span["name"]: span for span in recorded["streamed"]}
    workflow, draft, judged, strong = (
        by_name[name] for name in ("invoke_workflow cascade", "chat tiny", "cascade.decide", "chat big")
    )
    assert {span["context"]["trace_id"] for span in recorded["streamed"]} == {workflow["context"]["trace_id"]}
    assert all(one["parent_id"] == workflow["context"]["span_id"] for one in (draft, judged, strong))
    assert draft["attributes"]["error.type"] == "aborted"
    assert judged["attributes"]["cascade.decision"] == "escalate"
    assert judged["attributes"]["cascade.score"] < 0.8
    assert workflow["attributes"]["cascade.tier"] == ["strong"]
    assert workflow["attributes"]["gen_ai.request.stream"] is True
    assert workflow["attributes"]["gen_ai.response.time_to_first_chunk"] > 0
    assert "private" not in json.dumps(recorded["streamed"])
    assert recorded["outside"]
    assert not any(recorded["outside"])
