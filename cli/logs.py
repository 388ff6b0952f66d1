"""Logging to stderr, and the OpenTelemetry SDK where the user has configured one."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, TextIO

from curator.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from rich.console import Console

log = logging.getLogger("goldless.cli")
LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)


class StderrHandler(logging.Handler):
    """Writes records above a progress bar, not through it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        from rich.text import Text

        from cli.output import clean

        style = "yellow" if record.levelno >= logging.WARNING else "dim"
        line = f"{record.levelname.lower()}: {record.name}: {self.format(record)}"
        self.console.print(Text(clean(line, keep_lines=True), style=style), soft_wrap=True)


@contextlib.contextmanager
def logging_to(console: Console, *, verbose: int = 0, quiet: bool = False) -> Iterator[None]:
    """Send records to stderr: ours from the level that was asked for, others' warnings only.

    `-vv` shows everything, the libraries' records too.
    """
    root, handler = logging.getLogger(), StderrHandler(console)
    root.addHandler(handler)
    root.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose > 1 else logging.WARNING)
    ours = logging.ERROR if quiet else LEVELS[min(verbose, 2)]
    for name in ("goldless", "curator", "cascade", "cli"):
        logging.getLogger(name).setLevel(ours)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)


@contextlib.contextmanager
def telemetry(*, scraped: bool = False) -> Iterator[None]:
    """Export spans and metrics for the duration of a command, if `OTEL_*` variables ask for it. With `scraped`, metrics
    are also kept for `scraper`, where the `serve` extra is installed.

    Nothing is exported otherwise. Raises: ConfigError for an exporter that is not installed.
    """
    from cli.config import Exporters, telemetry_exporters

    exporters = telemetry_exporters()
    readers = _scraped() if scraped else []
    if exporters is None and not readers:
        yield
        return
    exporters = exporters or Exporters((), (), "goldless")
    try:
        from opentelemetry.sdk.resources import Resource
    except ImportError:
        log.warning("OTEL_* variables are set but nothing is exported: pip install 'goldless[otel]'")
        yield
        return
    resource = Resource.create({"service.name": exporters.service} if exporters.service else {})
    with _tracing(exporters.traces, resource), _metrics(exporters.metrics, resource, readers):
        yield


def scraper() -> Callable[[], bytes] | None:
    """What renders the metrics as Prometheus reads them; None where `telemetry(scraped=True)` could not keep them."""
    if find_spec("opentelemetry.exporter") is None or find_spec("opentelemetry.exporter.prometheus") is None:
        return None
    from prometheus_client import generate_latest

    return generate_latest


@contextlib.contextmanager
def remembered() -> Iterator[Callable[[], Sequence[ReadableSpan]]]:
    """Keep the spans that end inside, for whoever calls what is yielded; beside other exporters, where there are any.

    Raises: ImportError without the SDK.
    """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    memory, provider = InMemorySpanExporter(), trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider(shutdown_on_exit=False)
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    try:
        yield memory.get_finished_spans
    finally:
        # A processor cannot be taken away again; from now on it keeps nothing.
        memory.shutdown()
        memory.clear()


def _scraped() -> list[MetricReader]:
    try:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
    except ImportError:
        return []
    return [PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False)]


@contextlib.contextmanager
def _tracing(names: tuple[str, ...], resource: Resource) -> Iterator[None]:
    if not names:
        yield
        return
    from opentelemetry import trace
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from cli.spans import LeanProvider

    provider = LeanProvider(resource=resource, shutdown_on_exit=False)
    for name in names:
        provider.add_span_processor(BatchSpanProcessor(_exporter("traces", name).load()(**_stream(name))))
    trace.set_tracer_provider(provider)
    with _encoding(names):
        try:
            yield
        finally:
            provider.shutdown()


def _encoding(names: Sequence[str]) -> contextlib.AbstractContextManager[None]:
    if "otlp_proto_http" not in names:
        return contextlib.nullcontext()
    from cli.otlp import lean_encoding

    return lean_encoding()


@contextlib.contextmanager
def _metrics(names: tuple[str, ...], resource: Resource, scraped: Sequence[MetricReader]) -> Iterator[None]:
    if not names and not scraped:
        yield
        return
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    from cli.meters import LeanMeterProvider

    readers = [PeriodicExportingMetricReader(_exporter("metrics", name).load()(**_stream(name))) for name in names]
    # What is scraped has no exemplars.
    provider = LeanMeterProvider([*readers, *scraped], resource, exemplars=bool(names))
    metrics.set_meter_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()


def _exporter(signal: str, name: str) -> EntryPoint:
    """The exporter that the SDK's own entry points know by this name."""
    found = tuple(entry_points(group=f"opentelemetry_{signal}_exporter", name=name))
    if not found:
        raise ConfigError(
            f"OTEL_{signal.upper()}_EXPORTER asks for {name!r}, which is not installed",
            hint="use otlp, console or none, or install that exporter",
        )
    return found[0]


def _stream(name: str) -> dict[str, TextIO]:
    """The console exporter writes to stdout by default, which belongs to the data."""
    return {"out": sys.stderr} if name == "console" else {}
