"""Our spans are what the SDK's would be: same parents, same sampling, same limits."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from cli.spans import OURS, LeanProvider, LeanSpan

REMOTE = trace.set_span_in_context(trace.NonRecordingSpan(SpanContext(1 << 100, 5, True, TraceFlags(1))))
UNSAMPLED = trace.set_span_in_context(trace.NonRecordingSpan(SpanContext(1 << 100, 5, True, TraceFlags(0))))


def recorded(provider: TracerProvider) -> list[ReadableSpan]:
    """A span with everything, and its child."""
    kept = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer(OURS, "3")
    outer = tracer.start_span("outer", REMOTE, SpanKind.CLIENT, {"a": 1, "b": "two"})
    inner = tracer.start_span("inner", trace.set_span_in_context(outer))
    inner.set_attribute("c", 0.5)
    inner.set_attributes({"d": ("x", "y"), "c": 1.5})
    inner.add_event("result", {"score": 0.25}, timestamp=17)
    inner.set_status(Status(StatusCode.ERROR, "late"))
    inner.update_name("renamed")
    inner.end(end_time=99)
    inner.set_attribute("after", True)
    inner.end()
    outer.end()
    return list(kept.get_finished_spans())


def shown(span: ReadableSpan) -> dict[str, object]:
    """Everything but what differs from run to run."""
    found = json.loads(span.to_json())
    for key in ("start_time", "end_time"):
        del found[key]
    del found["context"]["span_id"]
    return {**found, "parent_id": found["parent_id"] is not None, "scope": span.instrumentation_scope}


def test_a_span_is_what_the_sdk_makes_of_it() -> None:
    ours, theirs = recorded(LeanProvider(shutdown_on_exit=False)), recorded(TracerProvider(shutdown_on_exit=False))
    assert [shown(span) for span in ours] == [shown(span) for span in theirs]
    inner, outer = ours
    assert inner.parent == outer.context
    assert inner.end_time == 99
    assert (outer.start_time or 0) <= (outer.end_time or 0)


def test_only_our_own_tracer_is_lean() -> None:
    provider = LeanProvider(shutdown_on_exit=False)
    assert isinstance(provider.get_tracer(OURS).start_span("s"), LeanSpan)
    assert not isinstance(provider.get_tracer("another").start_span("s"), LeanSpan)


@pytest.mark.parametrize("name", ["always_on", "always_off", "parentbased_always_on", "parentbased_traceidratio"])
def test_samplers_of_the_environment_are_heeded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.0")
    lean, sdk = LeanProvider(shutdown_on_exit=False), TracerProvider(shutdown_on_exit=False)
    for context in (None, REMOTE, UNSAMPLED):
        spans = [provider.get_tracer(OURS).start_span("s", context) for provider in (lean, sdk)]
        below = [
            provider.get_tracer(OURS).start_span("s", trace.set_span_in_context(span))
            for provider, span in zip((lean, sdk), spans, strict=True)
        ]
        for ours, theirs in (spans, below):
            assert ours.is_recording() == theirs.is_recording()
            assert ours.get_span_context().trace_flags == theirs.get_span_context().trace_flags


class _ByName(Sampler):
    """One that looks at every span."""

    def should_sample(self, parent_context, trace_id, name, *_, **__):  # type: ignore[no-untyped-def]
        return SamplingResult(Decision.DROP if name == "dull" else Decision.RECORD_AND_SAMPLE, {"seen": True})

    def get_description(self) -> str:
        return "by name"


def test_a_sampler_of_its_own_is_asked_for_every_span() -> None:
    tracer = LeanProvider(_ByName(), shutdown_on_exit=False).get_tracer(OURS)
    outer = tracer.start_span("outer")
    assert outer.is_recording()
    assert not tracer.start_span("dull", trace.set_span_in_context(outer)).is_recording()


def test_limits_of_the_environment_are_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2")
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3")
    monkeypatch.setenv("OTEL_SPAN_EVENT_COUNT_LIMIT", "1")
    ours, theirs = recorded(LeanProvider(shutdown_on_exit=False)), recorded(TracerProvider(shutdown_on_exit=False))
    assert [shown(span) for span in ours] == [shown(span) for span in theirs]
    assert [span.dropped_attributes for span in ours] == [span.dropped_attributes for span in theirs]


def test_an_exception_is_an_event() -> None:
    kept = InMemorySpanExporter()
    provider = LeanProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    span = provider.get_tracer(OURS).start_span("s")
    span.record_exception(ValueError("wrong"))
    span.end()
    (event,) = kept.get_finished_spans()[0].events
    assert event.name == "exception"
    assert event.attributes["exception.message"] == "wrong"  # type: ignore[index]


def test_the_switch_of_the_sdk_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not LeanProvider(shutdown_on_exit=False).get_tracer(OURS).start_span("s").is_recording()


def test_it_can_be_made_current() -> None:
    tracer = LeanProvider(shutdown_on_exit=False).get_tracer(OURS)
    with tracer.start_as_current_span("s", kind=SpanKind.CLIENT, record_exception=False) as current:
        assert trace.get_current_span() is current
    assert not current.is_recording()
