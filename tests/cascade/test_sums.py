"""Sums are kept per combination of attributes, and are the SDK's counters where one collects."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cascade.sums import Sums


def test_sums_are_kept_apart_by_their_attributes() -> None:
    sums = Sums("test.sums.apart", "{money}", "A test's.", ("tier", "currency"))
    assert sums.read() == []
    sums.add(0.5, "small", "USD")
    sums.add(0.25, "small", "USD")
    sums.add(2, "strong", "EUR")
    assert sums.read() == [
        (0.75, {"tier": "small", "currency": "USD"}),
        (2, {"tier": "strong", "currency": "EUR"}),
    ]


def test_an_sdk_that_is_set_up_later_reads_them_as_a_counter() -> None:
    pytest.importorskip("opentelemetry.sdk")
    code = """
from cascade.sums import Sums
sums = Sums("test.sums", "{answer}", "A test's.", ("tier",))
sums.add(2, "small")
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
sums.add(1, "small")
data = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics[0].data
print(data.is_monotonic, [(point.value, dict(point.attributes)) for point in data.data_points])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True [(3, {'tier': 'small'})]"
