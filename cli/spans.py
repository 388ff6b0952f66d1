"""Our own spans at a third of what the SDK's cost, which was most of a traced request: one dict of attributes, no lock.

A `LeanProvider` is the SDK's provider: its sampler, ids, resource, processors and exporters do their work, and other
libraries in the process get the SDK's own tracers. Only what `curator.telemetry` asks for is made here; its attributes
are known to be of the right types, and a span is used by one task at a time.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace import Tracer as SDKTracer
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, StaticSampler, TraceIdRatioBased
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import Attributes, AttributeValue

if TYPE_CHECKING:
    from opentelemetry.context import Context

OURS: Final = "goldless"
"""The tracer of `curator.telemetry`."""

RANDOM: Final = 0x02
"""The flag of a trace id that was drawn at random (W3C Trace Context, level 2)."""

HEREDITARY: Final = (StaticSampler, TraceIdRatioBased, ParentBased)
"""Samplers that decide about a span as about its local parent; others are asked for every span."""

ENDING: Final = ("end_on_exit", "record_exception", "set_status_on_exception")
"""What `use_span` is told of a span's end."""

UNSET: Final = Status(StatusCode.UNSET)


class LeanProvider(TracerProvider):
    """The SDK's provider, but for the spans of our own tracer: of those, processors hear the end, not the start."""

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        found = super().get_tracer(instrumenting_module_name, instrumenting_library_version, schema_url, attributes)
        if instrumenting_module_name != OURS or not isinstance(found, SDKTracer):
            return found
        scope = InstrumentationScope(OURS, instrumenting_library_version, schema_url, attributes)
        return LeanTracer(found, scope)


class LeanTracer(trace.Tracer):
    """Makes `LeanSpan`s where the sampler wants a span. `sdk` is the SDK's tracer in whose place it stands."""

    def __init__(self, sdk: SDKTracer, scope: InstrumentationScope) -> None:
        self.scope = scope
        self.resource = sdk.resource
        self.processor = sdk.span_processor
        self.limits = SpanLimits()
        self._sampler = sdk.sampler
        self._ids = sdk.id_generator
        self._inherits = isinstance(sdk.sampler, HEREDITARY)
        self._fresh = RANDOM if isinstance(sdk.id_generator, RandomIdGenerator) else 0

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        """As the API says. Links are not ours to make: none is kept."""
        current = trace.get_current_span(context)
        trace_id, _, _, flags, state, _ = parent = current.get_span_context()
        if self._inherits and type(current) is LeanSpan:  # `isinstance` takes long with the API's abstract classes
            ids = SpanContext(trace_id, self._ids.generate_span_id(), False, flags, state)
            return LeanSpan(self, name, ids, parent, kind, dict(attributes or {}))
        known = parent if parent.is_valid else None
        trace_id = trace_id if known is not None else self._ids.generate_trace_id()
        result = self._sampler.should_sample(context, trace_id, name, kind, attributes, links)
        told = self._fresh if known is None else flags & RANDOM
        if result.decision is Decision.RECORD_AND_SAMPLE:
            told |= TraceFlags.SAMPLED
        ids = SpanContext(trace_id, self._ids.generate_span_id(), False, TraceFlags(told), result.trace_state)
        if result.decision is Decision.DROP:
            return trace.NonRecordingSpan(ids)
        return LeanSpan(self, name, ids, known, kind, dict(result.attributes or {}))

    @contextmanager
    def start_as_current_span(  # type: ignore[override]
        self, name: str, *arguments: object, **options: object
    ) -> Iterator[Span]:
        """As the API says; `curator.telemetry.span` does the same with one generator less."""
        ending = {key: bool(options.pop(key, True)) for key in ENDING}
        with trace.use_span(self.start_span(name, *arguments, **options), **ending) as current:  # type: ignore[arg-type]
            yield current


class LeanSpan(Span):
    """A span on its way. At its end it is read only, and the processors get it as the SDK's own."""

    __slots__ = ("_attributes", "_began", "_events", "_ids", "_kind", "_name", "_open", "_parent", "_status", "_tracer")

    def __init__(
        self,
        tracer: LeanTracer,
        name: str,
        ids: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: dict[str, AttributeValue],
    ) -> None:
        self._tracer = tracer
        self._name = name
        self._ids = ids
        self._parent = parent
        self._kind = kind
        self._attributes = attributes
        self._events: list[Event] = []
        self._status = UNSET
        self._open = True
        self._began = time.time_ns()

    def get_span_context(self) -> SpanContext:
        return self._ids

    def is_recording(self) -> bool:
        return self._open

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        if self._open:
            self._attributes.update(attributes)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        if self._open:
            self._attributes[key] = value

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        if self._open:
            limits = self._tracer.limits
            kept = bounded(attributes or {}, limits.max_event_attributes, limits.max_attribute_length)
            self._events.append(Event(name, kept, timestamp))

    def update_name(self, name: str) -> None:
        if self._open:
            self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        found = status if isinstance(status, Status) else Status(status, description)
        if self._open and self._status.status_code is not StatusCode.OK and not found.is_unset:
            self._status = found

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        found: dict[str, AttributeValue] = {
            "exception.type": type(exception).__qualname__,
            "exception.message": str(exception),
            "exception.stacktrace": "".join(traceback.format_exception(exception)),
            "exception.escaped": str(escaped),
        }
        self.add_event("exception", {**found, **(attributes or {})}, timestamp)

    def end(self, end_time: int | None = None) -> None:
        if not self._open:
            return
        self._open = False
        tracer, limits = self._tracer, self._tracer.limits
        ended = ReadableSpan(
            self._name,
            self._ids,
            self._parent,
            tracer.resource,
            bounded(self._attributes, limits.max_span_attributes, limits.max_span_attribute_length),
            BoundedList.from_seq(limits.max_events, self._events) if self._events else (),
            (),
            self._kind,
            None,
            self._status,
            self._began,
            time.time_ns() if end_time is None else end_time,
            tracer.scope,
        )
        tracer.processor.on_end(ended)


def bounded(
    attributes: Mapping[str, AttributeValue], most: int | None, longest: int | None
) -> Mapping[str, AttributeValue]:
    """The attributes within the SDK's limits: as they are where none is reached."""
    if longest is None and (most is None or len(attributes) <= most):
        return attributes
    return BoundedAttributes(most, attributes, max_value_len=longest)
