"""Our own histograms at a tenth of what a record costs in the SDK, which cleans and hashes anew each time.

Only those of `curator.telemetry`, and only where every reader wants them as they are counted here: sums since the
start, in the buckets that the instrument asks for. All readers are told the same counts; they, and the exporters behind
them, are the SDK's, as is everything else (counters, gauges, other libraries, histograms in other temporalities).
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from opentelemetry.metrics import Histogram as Instrument
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    Exemplar,
    ExemplarFilter,
    MeterProvider,
)
from opentelemetry.sdk.metrics._internal.instrument import _Histogram
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricReader,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.metrics.view import DefaultAggregation, ExplicitBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, TraceFlags, get_current_span

from cli.spans import OURS

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.util.types import Attributes

BUCKETS: Final = (0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0)
"""The SDK's own, for an instrument that asks for none."""

FRESH: Final = 1_000_000_000
"""Nanoseconds for which an exemplar is good enough: to look for the current span takes longer than to count."""


class _Point:
    """The records of one set of attributes. `counts` has one place more than there are bounds; `latest` has for a place
    a record that was made in a sampled span, at most `FRESH` older than the last one."""

    __slots__ = ("count", "counts", "highest", "latest", "lowest", "total")

    def __init__(self, places: int) -> None:
        self.counts = [0] * places
        self.count = 0
        self.total = 0.0
        self.lowest, self.highest = float("inf"), float("-inf")
        self.latest: dict[int, tuple[float, int, SpanContext]] = {}

    def exemplars(self) -> list[Exemplar]:
        """`latest` as the SDK tells it. They are not forgotten when told: the counts are not, either."""
        found = [self.latest[place] for place in sorted(self.latest)]
        return [Exemplar({}, amount, when, ids.span_id, ids.trace_id) for amount, when, ids in found]


class LeanHistogram(Instrument):
    """A histogram whose buckets are counted here; `metric` tells them. Any thread may record. With `exemplars` records
    that are made in a sampled span lead to it."""

    def __init__(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        bounds: Sequence[float] | None = None,
        *,
        exemplars: bool = False,
    ) -> None:
        self.name = name
        self._told = (name, description, unit)
        self._bounds = tuple(BUCKETS if bounds is None else bounds)
        self._exemplars = exemplars
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
            if amount < point.lowest:
                point.lowest = amount
            if amount > point.highest:
                point.highest = amount
        if self._exemplars:
            now, known = time.time_ns(), point.latest.get(place)
            if known is None or now - known[1] > FRESH:
                ids = get_current_span(context).get_span_context()
                if ids.trace_flags & TraceFlags.SAMPLED:
                    point.latest[place] = amount, now, ids

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
            point.exemplars(),
        )


class LeanMeterProvider(MeterProvider):
    """The SDK's provider; our own meter makes `LeanHistogram`s, if that is what all `readers` want. Without `exemplars`
    nobody looks for any: that takes a quarter of a record's time in the SDK."""

    def __init__(self, readers: Sequence[MetricReader], resource: Resource, *, exemplars: bool = True) -> None:
        super().__init__(readers, resource, None if exemplars else AlwaysOffExemplarFilter(), shutdown_on_exit=False)
        wanted: ExemplarFilter = self._sdk_config.exemplar_filter
        self._exemplars = not isinstance(wanted, AlwaysOffExemplarFilter)
        self._lean = not isinstance(wanted, AlwaysOnExemplarFilter) and all(map(_countable, readers))
        self._histograms: dict[str, LeanHistogram] = {}
        self._scope = InstrumentationScope(OURS)
        for reader in readers:
            reader._set_collect_callback(self._collected)  # type: ignore[arg-type]

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> Meter:
        found = super().get_meter(name, version, schema_url, attributes)
        if name == OURS and self._lean:
            self._scope = InstrumentationScope(name, version, schema_url, attributes)
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
        bounds = explicit_bucket_boundaries_advisory
        made = LeanHistogram(name, unit, description, bounds, exemplars=self._exemplars)
        return self._histograms.setdefault(name, made)

    def _collected(self, reader: MetricReader, timeout_millis: float = 10_000) -> MetricsData | None:
        """What the SDK counted and, in the same scope, what was counted here; None where there is nothing."""
        found = self._measurement_consumer.collect(reader, timeout_millis)
        metrics = [metric for one in list(self._histograms.values()) for metric in one.metrics()]
        if not metrics:
            return found
        told = [] if found is None else [scope for one in found.resource_metrics for scope in one.scope_metrics]
        same = [metric for scope in told if scope.scope == self._scope for metric in scope.metrics]
        others = [scope for scope in told if scope.scope != self._scope]
        ours = ScopeMetrics(self._scope, [*same, *metrics], self._scope.schema_url or "")
        return MetricsData([ResourceMetrics(self._sdk_config.resource, [*others, ours], "")])


def _countable(reader: MetricReader) -> bool:
    """Whether histograms are counted here as `reader` wants them."""
    wanted = reader._instrument_class_aggregation[_Histogram]
    explicit = isinstance(wanted, ExplicitBucketHistogramAggregation) and wanted._boundaries is None
    cumulative = reader._instrument_class_temporality[_Histogram] is AggregationTemporality.CUMULATIVE
    return cumulative and (explicit or isinstance(wanted, DefaultAggregation))
