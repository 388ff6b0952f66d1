"""The tree, of spans that the real SDK made."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the otel extra is not installed")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from cli.span_tree import tree


def spans_of(make: Callable[[Tracer], None]) -> tuple[ReadableSpan, ...]:
    memory, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    make(provider.get_tracer("test"))
    return memory.get_finished_spans()


def escalated(tracer: Tracer) -> None:
    totals = {"cascade.tier": ["strong"], "cascade.outcome": ["teacher"], "cascade.certified": True}
    money = {"cascade.cost.total": 0.0000123, "cascade.cost.baseline": 0.00001, "cascade.cost.currency": "USD"}
    with tracer.start_as_current_span("invoke_workflow cascade", attributes={**totals, **money}):
        used = {"gen_ai.usage.input_tokens": 1200, "gen_ai.usage.cost.amount": 0.0000023}
        with tracer.start_as_current_span("chat small", attributes={**used, "gen_ai.usage.cost.currency": "USD"}):
            pass
        judged = {"cascade.decision": "escalate", "cascade.reason": "below", "cascade.signal.margin": 0.25}
        with (
            tracer.start_as_current_span("cascade.decide", attributes={**judged, "cascade.score": 0.6}) as current,
            tracer.start_as_current_span("chat probe", attributes={"gen_ai.usage.output_tokens": 3}),
        ):
            current.set_attribute("cascade.threshold", 0.8)
        with tracer.start_as_current_span("chat strong", attributes={"error.type": "EngineTimeoutError"}):
            pass


def test_branches_durations_costs_and_the_reason() -> None:
    lines = tree(spans_of(escalated))
    heads = [line[:44].rstrip() for line in lines]
    assert heads == [
        "invoke_workflow cascade",
        "├─ chat small",
        "├─ cascade.decide",
        "│  └─ chat probe",
        "└─ chat strong",
    ]
    assert all(re.fullmatch(r" +[\d,]+\.\d ms", line[44:54]) for line in lines)
    assert [line[56:] for line in lines] == [
        "served by strong, teacher, certified, 1.2e-05 USD, the last tier alone 1e-05 USD",
        "1,200 tokens in, 2.3e-06 USD",
        "escalate: below; score 0.600, threshold 0.800; margin 0.250",
        "3 out",
        "failed: EngineTimeoutError",
    ]


def test_a_span_whose_parent_is_elsewhere_is_a_root_and_long_names_are_cut() -> None:
    def make(tracer: Tracer) -> None:
        with tracer.start_as_current_span("the caller's"), tracer.start_as_current_span("chat " + "m" * 80):
            pass

    inner = [span for span in spans_of(make) if span.name.startswith("chat")]
    (line,) = tree(inner)
    assert line.startswith("chat mmm")
    assert line[43] == "…"
    assert tree([]) == []
