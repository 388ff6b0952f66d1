"""What Prometheus scrapes is the same, whoever counted it."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("opentelemetry.exporter.prometheus")

SCRIPT = """
import sys
from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from prometheus_client import generate_latest
from cli.meters import LeanMeterProvider, LeanHistogram, ScrapeReader

resource = Resource.create({"service.name": "test"})
if sys.argv[1] == "lean":
    metrics.set_meter_provider(LeanMeterProvider(ScrapeReader(), resource))
else:
    reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False)
    metrics.set_meter_provider(MeterProvider([reader], resource))
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


def scraped(whose: str) -> str:
    return subprocess.run([sys.executable, "-c", SCRIPT, whose], capture_output=True, text=True, check=True).stdout


def test_prometheus_reads_what_the_sdk_would_have_told() -> None:
    found = scraped("lean")
    assert 'test_seconds_bucket{code="200",le="0.1",tier="small"} 3.0' in found
    assert found == scraped("sdk")


def test_an_instrument_that_is_asked_for_twice_is_one() -> None:
    code = """
from opentelemetry.sdk.resources import Resource
from cli.meters import LeanMeterProvider, ScrapeReader
meter = LeanMeterProvider(ScrapeReader(), Resource.create()).get_meter("goldless")
made = [meter.create_histogram(name) for name in "aab"]
print(made[0] is made[1], made[0] is made[2])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True False"
