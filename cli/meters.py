"""Histograms that are scraped, for a tenth of what a record costs in the SDK: which cleans and hashes anew each time.

Only `curator.telemetry`'s histograms, and only where nothing but Prometheus reads metrics: its sums are cumulative,
with the buckets that the instrument asks for. Everything else (counters, gauges, other libraries, OTLP with its views
and temporalities) is the SDK's.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import Histogram as Instrument
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from cli.spans import OURS

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.util.types import Attributes

BUCKETS: Final = (0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0)
"""The SDK's own, for an instrument that asks for none."""


class _Point:
    """The records of one set of attributes. `counts` has one place more than there are bounds."""

    __slots__ = ("count", "counts", "highest", "lowest", "total")

    def __init__(self, places: int) -> None:
        self.counts = [0] * places
        self.count = 0
        self.total = 0.0
        self.lowest, self.highest = float("inf"), float("-inf")


class LeanHistogram(Instrument):
    """A histogram whose buckets are counted here; `metric` tells them. Any thread may record."""

    def __init__(self, name: str, unit: str = "", description: str = "", bounds: Sequence[float] | None = None) -> None:
        self.name = name
        self._told = (name, description, unit)
        self._bounds = tuple(BUCKETS if bounds is None else bounds)
        self._points: dict[frozenset[tuple[str, object]], _Point] = {}
        self._known: dict[tuple[tuple[str, object], ...], _Point] = {}
        """The same by the attributes in the order in which they came, which is quicker to make."""
        self._lock = threading.Lock()
        self._since = time.time_ns()

    def record(self, amount: float, attributes: Attributes = None, context: Context | None = None) -> None:
        """One value, which must not be negative: as in the SDK, such a one is not counted."""
        key = tuple(attributes.items()) if attributes else ()
        point = self._known.get(key) or self._point(key)
        if amount < 0:
            return
        place = bisect_left(self._bounds, amount)
        with self._lock:
            point.counts[place] += 1
            point.count += 1
            point.total += amount
            point.lowest = min(point.lowest, amount)
            point.highest = max(point.highest, amount)

    def metrics(self) -> list[Metric]:
        """All records so far; nothing before the first one."""
        now = time.time_ns()
        with self._lock:
            points = [self._data(dict(key), point, now) for key, point in self._points.items() if point.count]
        name, description, unit = self._told
        data = Histogram(points, AggregationTemporality.CUMULATIVE)
        return [Metric(name, description, unit, data)] if points else []

    def _point(self, key: tuple[tuple[str, object], ...]) -> _Point:
        with self._lock:
            found = self._points.setdefault(frozenset(key), _Point(len(self._bounds) + 1))
            self._known[key] = found
        return found

    def _data(self, attributes: Mapping[str, object], point: _Point, now: int) -> HistogramDataPoint:
        return HistogramDataPoint(
            attributes,  # type: ignore[arg-type]
            self._since,
            now,
            point.count,
            point.total,
            list(point.counts),
            self._bounds,
            point.lowest,
            point.highest,
        )


class LeanMeterProvider(MeterProvider):
    """The SDK's provider for what Prometheus scrapes; our own meter makes `LeanHistogram`s."""

    def __init__(self, reader: ScrapeReader, resource: Resource) -> None:
        # What is scraped has no exemplars; to look for them takes a quarter of a record's time.
        super().__init__([reader], resource, AlwaysOffExemplarFilter(), shutdown_on_exit=False)
        self._reader = reader

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Meter:
        found = super().get_meter(name, version, schema_url, attributes)
        if name == OURS:
            # The SDK's meter goes on making the other instruments.
            vars(found)["create_histogram"] = self._create_histogram
        return found

    def _create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> Instrument:
        for made in self._reader.histograms:
            if made.name == name:
                return made
        made = LeanHistogram(name, unit, description, explicit_bucket_boundaries_advisory)
        self._reader.histograms.append(made)
        return made


class ScrapeReader(PrometheusMetricReader):
    """Tells Prometheus of `histograms` beside what the SDK counts."""

    def __init__(self) -> None:
        super().__init__(disable_target_info=True, scope_info_enabled=False)
        self.histograms: list[LeanHistogram] = []

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object) -> None:
        super()._receive_metrics(self._with_ours(metrics_data), timeout_millis, **kwargs)

    def _with_ours(self, found: MetricsData) -> MetricsData:
        first, *others = found.resource_metrics
        metrics = [metric for one in self.histograms for metric in one.metrics()]
        ours = ScopeMetrics(InstrumentationScope(OURS), metrics, "")
        scopes = [*first.scope_metrics, ours]
        return MetricsData([ResourceMetrics(first.resource, scopes, first.schema_url), *others])
