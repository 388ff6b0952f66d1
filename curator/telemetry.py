"""The only OpenTelemetry import: names of spans, attributes and metrics, and the helpers that use them.

API only: without an SDK nothing is recorded, kept or sent, and `recording()` lets the callers skip the work. The GenAI
conventions are in Development and their Python constants deprecated, so the strings stand here, as of semantic
conventions 1.38; `SCHEMA` is our own version of this list and changes with any of them.
Source: https://opentelemetry.io/docs/specs/semconv/gen-ai/ (gen-ai-spans, gen-ai-metrics).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from opentelemetry import context, metrics, propagate, trace
from opentelemetry.trace import Span as Span  # re-exported, as no other module imports OpenTelemetry
from opentelemetry.trace import SpanKind, Status, StatusCode

SCHEMA: Final = "goldless-3"
SEMCONV: Final = "1.38.0"

# Spans of curation; an engine call is `chat {model}`.
CURATE: Final = "curate"
STAGE: Final = "stage"
BATCH: Final = "batch"

# Spans of the cascade: a request, and the judgement of one tier's answer inside it.
WORKFLOW: Final = "invoke_workflow cascade"
DECIDE: Final = "cascade.decide"

# Attributes of the GenAI conventions.
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
REQUEST_TOP_P: Final = "gen_ai.request.top_p"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
REQUEST_SEED: Final = "gen_ai.request.seed"
REQUEST_CHOICES: Final = "gen_ai.request.choice.count"
REQUEST_STREAM: Final = "gen_ai.request.stream"
FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
RESPONSE_FINISH: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"

# Cost stands on attempt spans only, so that sums do not count it twice.
COST_AMOUNT: Final = "gen_ai.usage.cost.amount"
COST_CURRENCY: Final = "gen_ai.usage.cost.currency"
COST_SOURCE: Final = "gen_ai.usage.cost.source"

# The event on a judgement: what the score says of the answer.
EVALUATION: Final = "gen_ai.evaluation.result"
EVALUATION_NAME: Final = "gen_ai.evaluation.name"
EVALUATION_SCORE: Final = "gen_ai.evaluation.score.value"
EVALUATION_LABEL: Final = "gen_ai.evaluation.score.label"
EVALUATION_EXPLANATION: Final = "gen_ai.evaluation.explanation"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"

# Ours.
QUESTIONS: Final = "goldless.questions"
READOUT: Final = "goldless.readout"
STAGE_NAME: Final = "goldless.stage"
ROWS: Final = "goldless.rows"

# The cascade's. The totals stand on the workflow's span only, for the same reason as the cost on attempts.
TIER: Final = "cascade.tier"
OUTCOME: Final = "cascade.outcome"
CERTIFIED: Final = "cascade.certified"
QUESTION: Final = "cascade.question"
SIGNAL: Final = "cascade.signal."
"""Followed by the signal's name."""
SCORE: Final = "cascade.score"
THRESHOLD: Final = "cascade.threshold"
DECISION: Final = "cascade.decision"
"""`serve` or `escalate`."""
REASON: Final = "cascade.reason"
COST_TOTAL: Final = "cascade.cost.total"
COST_BASELINE: Final = "cascade.cost.baseline"
CURRENCY: Final = "cascade.cost.currency"

DURATION: Final = "gen_ai.client.operation.duration"
TOKENS: Final = "gen_ai.client.token.usage"
TO_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
DURATION_BUCKETS: Final = tuple(0.01 * 2**i for i in range(14))
"""Seconds: .01 .02 .04 ... 81.92, as the conventions ask."""
ABORTED: Final = "aborted"
"""`error.type` of a stream that its reader closed: no failure, so its status stays unset."""
REQUESTS: Final = "cascade.requests"
COST: Final = "cascade.cost"
CONFIDENCE: Final = "cascade.confidence"
CONFIDENCE_BUCKETS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
TOKEN_BUCKETS: Final = tuple(float(4**i) for i in range(14))
OVERHEAD: Final = "cascade.overhead.duration"
OVERHEAD_BUCKETS: Final = tuple(0.00025 * 2**i for i in range(14))
"""Seconds: .00025 .0005 .001 ... 2.048."""
DISAGREEMENT: Final = "cascade.audit.disagreement"
ENDPOINT: Final = "http.route"
STATUS: Final = "http.response.status_code"

_API_METERS: Final = "opentelemetry.metrics"
Attribute = str | bool | int | float | tuple[str, ...]
Attributes = Mapping[str, Attribute]

tracer = trace.get_tracer("goldless", SCHEMA)
_meter = metrics.get_meter("goldless", SCHEMA)


def _histogram(name: str, unit: str, description: str, buckets: Sequence[float]) -> metrics.Histogram:
    return _meter.create_histogram(
        name, unit=unit, description=description, explicit_bucket_boundaries_advisory=buckets
    )


_duration = _histogram(DURATION, "s", "Duration of one call of a model.", DURATION_BUCKETS)
_tokens = _histogram(TOKENS, "{token}", "Tokens of one call of a model.", TOKEN_BUCKETS)
_first_chunk = _histogram(TO_FIRST_CHUNK, "s", "Time to the first piece of a streamed answer.", DURATION_BUCKETS)
_confidence = _histogram(CONFIDENCE, "1", "Confidence of the answers served, by tier.", CONFIDENCE_BUCKETS)
_overhead = _histogram(OVERHEAD, "s", "A request's time in the gateway, its tiers' time taken off.", OVERHEAD_BUCKETS)
_disagreement = _histogram(DISAGREEMENT, "1", "1 where an audit disagreed, 0 where not, by tier.", (0.0,))


class _Found:
    """What is set up. It is asked for on every call, as an SDK may be set up late; once there, it stays."""

    spans = False
    meters = False
    propagator: object = None
    fields: tuple[str, ...] = ()  # the headers that the propagator reads


def tracing() -> bool:
    """Whether an SDK (or anything else but the API's own stand-ins) is set up for spans."""
    # The API's own way to ask takes 10 microseconds as long as there is none, and this is asked per span.
    if not _Found.spans and getattr(trace, "_TRACER_PROVIDER", trace) is not None:
        _Found.spans = not type(trace.get_tracer_provider()).__module__.startswith("opentelemetry.trace")
    return _Found.spans


def recording() -> bool:
    """The same for spans or for metrics."""
    if not _Found.meters:
        _Found.meters = not type(metrics.get_meter_provider()).__module__.startswith(_API_METERS)
    return _Found.meters or tracing()


class span:  # noqa: N801
    """A current span, CLIENT for a call over the network, else INTERNAL.

    A failure sets the status and `error.type` to the class of the error; its message, which may quote a document, is
    not recorded. (The API's `start_as_current_span` does it with three generators, which take half of a span's time.)
    """

    __slots__ = ("_asked", "_current", "_token")

    def __init__(self, name: str, attributes: Mapping[str, Attribute], *, client: bool = False) -> None:
        self._asked = name, attributes, SpanKind.CLIENT if client else SpanKind.INTERNAL
        self._current: Span | None = None

    def __enter__(self) -> Span:
        if not tracing():
            return trace.INVALID_SPAN
        name, attributes, kind = self._asked
        now = context.get_current()  # each of the calls below would ask for it again
        self._current = current = tracer.start_span(name, now, kind, attributes)
        self._token = context.attach(trace.set_span_in_context(current, now))
        return current

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if (current := self._current) is not None:
            if error is not None:
                fail(current, error)
            context.detach(self._token)
            current.end()


@contextmanager
def held_span(name: str, attributes: Mapping[str, Attribute], *, client: bool = False) -> Iterator[Span]:
    """As `span`, but not the current one, for what is open while its caller goes on: a generator must not change the
    context of who reads it. `active` makes it current for a step."""
    kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
    current = tracer.start_span(name, kind=kind, attributes=attributes)
    try:
        yield current
    except GeneratorExit:
        current.set_attribute(ERROR_TYPE, ABORTED)
        raise
    except BaseException as error:
        fail(current, error)
        raise
    finally:
        current.end()


def active(held: Span | None) -> AbstractContextManager[object]:
    """`held`, if there is one, as the current span of what happens inside; never across a `yield`."""
    if held is None:
        return nullcontext()
    return trace.use_span(held, end_on_exit=False, record_exception=False, set_status_on_exception=False)


@contextmanager
def stage_span(name: str, **attributes: Attribute) -> Iterator[Span]:
    """A span of curation: `curate`, then `stage ingest`, then `batch`. Counts of rows go under `rows`.

        with stage_span("annotate", rows=512) as current: ...

    Keyword names become attributes under `goldless.`; row ids only where the user asked for them.
    """
    title = name if name in (CURATE, BATCH) else f"{STAGE} {name}"
    found: dict[str, Attribute] = {f"goldless.{key}": value for key, value in attributes.items()}
    with span(title, {STAGE_NAME: name, **found}) as current:
        yield current


def fail(current: Span, error: BaseException) -> None:
    """Mark a span as failed by `error`."""
    current.set_attribute(ERROR_TYPE, type(error).__name__)
    current.set_status(Status(StatusCode.ERROR, type(error).__name__))


def record_call(seconds: float, tokens: Mapping[str, int], attributes: Mapping[str, Attribute]) -> None:
    """One model call into the two GenAI histograms; `tokens` is per `gen_ai.token.type` (`input`, `output`)."""
    _duration.record(seconds, attributes)
    for kind, count in tokens.items():
        _tokens.record(count, {**attributes, TOKEN_TYPE: kind})


def record_first_chunk(seconds: float, attributes: Mapping[str, Attribute]) -> None:
    """How long the first piece of a streamed answer took."""
    _first_chunk.record(seconds, attributes)


def record_confidence(tier: str, confidence: float) -> None:
    """How sure one answer of a cascade is."""
    _confidence.record(confidence, {TIER: tier})


def record_overhead(seconds: float, route: str, status: int) -> None:
    """What one request took in the gateway itself."""
    _overhead.record(seconds, {ENDPOINT: route, STATUS: status})


def record_audit(tier: str, disagreed: bool) -> None:
    """The outcome of one audit of an answer of `tier`. Sum over count is the share that disagreed."""
    _disagreement.record(float(disagreed), {TIER: tier})


def observe(
    name: str,
    unit: str,
    description: str,
    read: Callable[[], Iterable[tuple[float, Attributes]]],
    *,
    sums: bool = False,
) -> None:
    """A gauge, or a counter of `sums`, whose values and attributes are read when somebody collects."""

    def callback(_: metrics.CallbackOptions) -> Iterator[metrics.Observation]:
        return (metrics.Observation(value, attributes) for value, attributes in read())

    create = _meter.create_observable_counter if sums else _meter.create_observable_gauge
    create(name, [callback], unit=unit, description=description)


def _names_a_trace(headers: Mapping[str, str]) -> bool:
    """Whether headers hold anything for the configured propagators, which take longer to see that."""
    now = propagate.get_global_textmap()
    if now is not _Found.propagator:
        _Found.propagator, _Found.fields = now, tuple(now.fields)
    return any(field in headers for field in _Found.fields)


def continuing(headers: Mapping[str, str]) -> AbstractContextManager[None]:
    """Spans inside belong to the trace that the caller's headers name, if any."""
    return _inside(propagate.extract(headers)) if tracing() and _names_a_trace(headers) else nullcontext()


@contextmanager
def _inside(found: context.Context) -> Iterator[None]:
    token = context.attach(found)
    try:
        yield
    finally:
        context.detach(token)


def trace_headers() -> dict[str, str]:
    """`traceparent` (and what else the propagators say) of the current span; empty where none is recorded."""
    headers: dict[str, str] = {}
    now = context.get_current()
    if trace.get_current_span(now).is_recording():
        propagate.inject(headers, now)
    return headers
