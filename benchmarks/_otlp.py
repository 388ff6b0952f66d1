"""A receiver of OTLP over HTTP on loopback that keeps spans and metrics: what a gateway emits, as it went out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan

Value = str | bool | int | float | tuple[str, ...]

KINDS: Final = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")


@dataclass(frozen=True, slots=True)
class Received:
    """One span. Ids in hex, `parent` empty for a root; `start` and `end` are seconds since the epoch."""

    service: str
    trace: str
    id: str
    parent: str
    name: str
    kind: str
    start: float
    end: float
    attributes: dict[str, Value]
    events: tuple[str, ...] = ()

    def number(self, name: str) -> float:
        """An attribute that is a number. Raises: KeyError if there is none."""
        return float(self.attributes[name])  # type: ignore[arg-type]


@dataclass(slots=True)
class Collected:
    """What came so far; `url` is the value of OTEL_EXPORTER_OTLP_ENDPOINT."""

    url: str
    spans: list[Received] = field(default_factory=list)
    metrics: set[str] = field(default_factory=set)

    def traces(self) -> dict[str, list[Received]]:
        """Spans by trace, in the order in which they began."""
        found: dict[str, list[Received]] = {}
        for span in sorted(self.spans, key=lambda span: span.start):
            found.setdefault(span.trace, []).append(span)
        return found

    def until(self, holds: Callable[[Collected], bool], seconds: float = 30.0) -> None:
        """Wait for what is on its way. Raises: TimeoutError"""
        end = time.monotonic() + seconds
        while not holds(self):
            if time.monotonic() > end:
                names = sorted({span.name for span in self.spans})
                raise TimeoutError(f"not received within {seconds} s; spans so far: {names}")
            time.sleep(0.05)


@contextmanager
def receiving() -> Iterator[Collected]:
    """Receive until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    found = Collected(f"http://127.0.0.1:{server.server_address[1]}")
    server.collected = found  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, name="otlp", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        found: Collected = self.server.collected  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/traces":
            found.spans += _spans(ExportTraceServiceRequest.FromString(body))
        elif self.path == "/v1/metrics":
            found.metrics |= set(_metrics(ExportMetricsServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on stderr."""


def _spans(sent: ExportTraceServiceRequest) -> Iterator[Received]:
    for group in sent.resource_spans:
        service = str(_attributes(group.resource.attributes).get("service.name", ""))
        for scope in group.scope_spans:
            for span in scope.spans:
                yield _span(service, span)


def _span(service: str, span: SentSpan) -> Received:
    return Received(
        service,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.name,
        KINDS[span.kind],
        span.start_time_unix_nano / 1e9,
        span.end_time_unix_nano / 1e9,
        _attributes(span.attributes),
        tuple(event.name for event in span.events),
    )


def _metrics(sent: ExportMetricsServiceRequest) -> Iterator[str]:
    for group in sent.resource_metrics:
        for scope in group.scope_metrics:
            yield from (metric.name for metric in scope.metrics)


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Value:
    match value.WhichOneof("value"):
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case "array_value":
            return tuple(str(_value(one)) for one in value.array_value.values)
        case _:
            return value.string_value
