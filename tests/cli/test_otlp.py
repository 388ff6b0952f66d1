"""What is written by hand says what the exporter's own encoder says."""

from __future__ import annotations

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http import trace_exporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from cli.otlp import Encoded, encoded, lean_encoding
from cli.spans import OURS, LeanProvider

ATTRIBUTES = {
    "text": "größer",
    "long": "x" * 300,
    "yes": True,
    "no": False,
    "one": 1,
    "zero": 0,
    "minus": -7,
    "many": 1 << 40,
    "float": 0.25,
    "whole": 1.0,
    "tiers": ("small", "strong"),
    "none": (),
}


@pytest.fixture
def spans() -> tuple[ReadableSpan, ...]:
    """A remote parent with a state, a child with an event and a failure, and a trace of its own."""
    kept = InMemorySpanExporter()
    provider = LeanProvider(resource=Resource.create({"service.name": "test"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer(OURS, "1", "https://example.org/schema")
    caller = SpanContext(7 << 90, 9, True, TraceFlags(1), TraceState([("vendor", "a"), ("other", "b")]))
    above = trace.set_span_in_context(trace.NonRecordingSpan(caller))
    outer = tracer.start_span("invoke", above, SpanKind.CLIENT, ATTRIBUTES)
    inner = tracer.start_span("decide", trace.set_span_in_context(outer))
    inner.add_event("result", {"score": 0.5, "label": "serve"})
    inner.set_status(Status(StatusCode.ERROR, "ServerError"))
    inner.end()
    outer.end()
    tracer.start_span("alone").end()
    return kept.get_finished_spans()


def test_it_says_what_the_exporters_own_encoder_says(spans: tuple[ReadableSpan, ...]) -> None:
    found = encoded(spans)
    assert isinstance(found, Encoded)
    assert ExportTraceServiceRequest.FromString(found.SerializePartialToString()) == encode_spans(spans)


def test_values_that_are_equal_but_of_other_types_stay_apart() -> None:
    kept = InMemorySpanExporter()
    provider = LeanProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    for value in (True, 1, 1.0):
        provider.get_tracer(OURS).start_span("s", attributes={"value": value}).end()
    spans = kept.get_finished_spans()
    assert ExportTraceServiceRequest.FromString(bytes(encoded(spans))) == encode_spans(spans)  # type: ignore[arg-type]


def test_spans_of_others_are_left_to_the_exporter(spans: tuple[ReadableSpan, ...]) -> None:
    kept = InMemorySpanExporter()
    provider = LeanProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    provider.get_tracer("another library").start_span("theirs", attributes={"raw": b"bytes"}).end()
    mixed = [*spans, *kept.get_finished_spans()]
    assert encoded(mixed) == encode_spans(mixed)
    assert encoded([]) == encode_spans([])


def test_values_that_ours_never_have_are_left_to_the_exporter() -> None:
    kept = InMemorySpanExporter()
    provider = LeanProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    provider.get_tracer(OURS).start_span("s", attributes={"raw": b"bytes"}).end()
    assert encoded(kept.get_finished_spans()) == encode_spans(kept.get_finished_spans())


def test_the_exporter_has_its_encoder_back() -> None:
    before = trace_exporter.encode_spans
    with lean_encoding():
        assert trace_exporter.encode_spans is encoded
    assert trace_exporter.encode_spans is before
