"""What Prometheus scrapes and what is exported is the same, whoever counted it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("opentelemetry.exporter.prometheus")

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from cli.meters import LeanHistogram, LeanMeterProvider

SCRIPT = """
import sys
from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import generate_latest
from cli.meters import LeanMeterProvider, LeanHistogram

resource = Resource.create({"service.name": "test"})
reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False)
make = LeanMeterProvider if sys.argv[1] == "lean" else MeterProvider
metrics.set_meter_provider(make([reader], resource))
meter = metrics.get_meter("goldless", "1")
timed = meter.create_histogram("test.seconds", "s", "Some time.", explicit_bucket_boundaries_advisory=[0.1, 0.2, 0.4])
plain = meter.create_histogram("test.plain", "{token}", "Tokens.")
empty = meter.create_histogram("test.empty", "1", "Never used.")
count = meter.create_counter("test.counted", "{answer}", "Counted.")
for value in (0.05, 0.1, 0.10001, 7, 0, -1):
    timed.record(value, {"tier": "small", "code": 200})
timed.record(0.3, {"code": 200, "tier": "small"})
timed.record(0.3, {"tier": "strong"})
timed.record(0.3)
plain.record(12, {"kind": "input"})
count.add(1, {"tier": "small"})
assert isinstance(timed, LeanHistogram) is (sys.argv[1] == "lean")
assert not isinstance(metrics.get_meter("another").create_histogram("theirs"), LeanHistogram)
print("\\n".join(sorted(line for line in generate_latest().decode().splitlines() if "test_" in line)))
"""

SAMPLED = SpanContext(0xA1, 0xB2, False, TraceFlags(TraceFlags.SAMPLED))
UNSAMPLED = SpanContext(0xC3, 0xD4, False, TraceFlags(TraceFlags.DEFAULT))


def scraped(whose: str) -> str:
    return subprocess.run([sys.executable, "-c", SCRIPT, whose], capture_output=True, text=True, check=True).stdout


def test_prometheus_reads_what_the_sdk_would_have_told() -> None:
    found = scraped("lean")
    assert 'test_seconds_bucket{code="200",le="0.1",tier="small"} 3.0' in found
    assert found == scraped("sdk")


def collected(provider: MeterProvider, reader: InMemoryMetricReader, *, counting: bool = True) -> list[object]:
    """What a reader is told of some records, without the times."""
    meter = provider.get_meter("goldless", "1", "https://example.org/schema")
    timed = meter.create_histogram("test.seconds", "s", "Time.", explicit_bucket_boundaries_advisory=[0.1, 0.2])
    meter.create_histogram("test.empty")
    if counting:
        meter.create_counter("test.counted").add(2)
        provider.get_meter("another").create_histogram("theirs").record(3)
    for ids in (SAMPLED, UNSAMPLED):
        with use_span(NonRecordingSpan(ids)):
            timed.record(0.15 if ids is SAMPLED else 0.05, {"tier": "small"})
    timed.record(7, {"tier": "small"})
    found = reader.get_metrics_data()
    assert found is not None
    (resource,) = json.loads(found.to_json(), object_hook=_timeless)["resource_metrics"]
    assert resource["resource"]["attributes"]["service.name"] == "test"
    return sorted(resource["scope_metrics"], key=lambda one: str(one["scope"]["name"]))


def _timeless(found: dict[str, object]) -> dict[str, object]:
    metrics = found.get("metrics")
    if isinstance(metrics, list):
        found["metrics"] = sorted(metrics, key=lambda one: str(one["name"]))
    return {key: value for key, value in found.items() if "time_unix_nano" not in key}


@pytest.mark.parametrize("counting", [True, False])
def test_an_exporter_is_told_what_the_sdk_would_have_told(counting: bool) -> None:
    resource, found = Resource.create({"service.name": "test"}), []
    for make in (LeanMeterProvider, MeterProvider):
        reader = InMemoryMetricReader()
        provider = make([reader], resource)
        found.append(collected(provider, reader, counting=counting))
        provider.shutdown()
    assert found[0] == found[1]
    assert json.dumps(found[0]).count(f'"span_id": {SAMPLED.span_id}') == 1
    assert str(UNSAMPLED.span_id) not in json.dumps(found[0])


def test_all_readers_are_told_of_all_records() -> None:
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    provider = LeanMeterProvider(readers, Resource.create({"service.name": "test"}))
    first = collected(provider, readers[0])
    assert collected(provider, readers[1]) != first
    for reader in readers:
        assert '"count": 6' in str(reader.get_metrics_data().to_json())
    provider.shutdown()


def lean(**wishes: object) -> bool:
    provider = LeanMeterProvider([InMemoryMetricReader(**wishes)], Resource.create())  # type: ignore[arg-type]
    return isinstance(provider.get_meter("goldless").create_histogram("a"), LeanHistogram)


def test_who_wants_other_histograms_gets_the_sdks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lean()
    assert lean(preferred_aggregation={Histogram: ExplicitBucketHistogramAggregation()})
    assert not lean(preferred_temporality={Histogram: AggregationTemporality.DELTA})
    assert not lean(preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()})
    assert not lean(preferred_aggregation={Histogram: ExplicitBucketHistogramAggregation([1.0])})
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "always_on")
    assert not lean()


@pytest.mark.parametrize(("preference", "ours"), [("cumulative", True), ("delta", False), ("lowmemory", False)])
def test_the_exporters_own_settings_decide(monkeypatch: pytest.MonkeyPatch, preference: str, ours: bool) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", preference)
    reader = PeriodicExportingMetricReader(OTLPMetricExporter("http://127.0.0.1:9"), float("inf"))
    provider = LeanMeterProvider([reader], Resource.create())
    assert isinstance(provider.get_meter("goldless").create_histogram("a"), LeanHistogram) is ours


def test_an_instrument_that_is_asked_for_twice_is_one() -> None:
    meter = LeanMeterProvider([InMemoryMetricReader()], Resource.create()).get_meter("goldless")
    made = [meter.create_histogram(name) for name in "aab"]
    assert made[0] is made[1] is not made[2]
