"""The spans of one request as a tree of lines: who did what, how long it took, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from cli.output import clip, show
from curator import telemetry

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

MILLION: Final = 1_000_000
WIDTH: Final = 44
"""Of a span's name with the branches before it."""


def tree(spans: Sequence[ReadableSpan]) -> list[str]:
    """One line per span of one trace, in the order in which they began. A span whose parent is not there is a root."""
    known = {span.context.span_id for span in spans if span.context is not None}
    ordered = sorted(spans, key=lambda span: span.start_time or 0)
    roots = [span for span in ordered if span.parent is None or span.parent.span_id not in known]
    return [line for root in roots for line in _lines(root, ordered, "", "")]


def _lines(span: ReadableSpan, spans: Sequence[ReadableSpan], branch: str, below: str) -> list[str]:
    own = None if span.context is None else span.context.span_id
    inner = [one for one in spans if one.parent is not None and one.parent.span_id == own]
    found = [f"{branch + clip(span.name, WIDTH - len(branch)):<{WIDTH}} {_took(span):>9}  {_told(span)}".rstrip()]
    for place, one in enumerate(inner):
        last = place == len(inner) - 1
        found += _lines(one, spans, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "))
    return found


def _took(span: ReadableSpan) -> str:
    nanoseconds = (span.end_time or 0) - (span.start_time or 0)
    return f"{nanoseconds / MILLION:,.1f} ms"


def _told(span: ReadableSpan) -> str:
    """What a person wants to know of a span."""
    if span.name == telemetry.WORKFLOW:
        return _workflow(span)
    return _decided(span) if span.name == telemetry.DECIDE else _called(span)


def _workflow(span: ReadableSpan) -> str:
    given = span.attributes or {}
    sure = "certified" if given.get(telemetry.CERTIFIED) else "not certified"
    parts = [f"served by {show(given.get(telemetry.TIER))}", show(given.get(telemetry.OUTCOME)), sure]
    if telemetry.COST_TOTAL in given:
        parts.append(_money(given[telemetry.COST_TOTAL], given.get(telemetry.CURRENCY)))
    if telemetry.COST_BASELINE in given:
        parts.append(f"the last tier alone {_money(given[telemetry.COST_BASELINE], given.get(telemetry.CURRENCY))}")
    return ", ".join(parts)


def _decided(span: ReadableSpan) -> str:
    given = span.attributes or {}
    parts = [f"{show(given.get(telemetry.DECISION))}: {show(given.get(telemetry.REASON))}"]
    if telemetry.SCORE in given and telemetry.THRESHOLD in given:
        parts.append(f"score {show(given[telemetry.SCORE])}, threshold {show(given[telemetry.THRESHOLD])}")
    signals = [
        f"{name.removeprefix(telemetry.SIGNAL)} {show(value)}"
        for name, value in given.items()
        if name.startswith(telemetry.SIGNAL)
    ]
    return "; ".join([*parts, *signals])


def _called(span: ReadableSpan) -> str:
    given = span.attributes or {}
    parts = [f"{show(given[telemetry.INPUT_TOKENS])} tokens in"] if telemetry.INPUT_TOKENS in given else []
    if output := given.get(telemetry.OUTPUT_TOKENS):
        parts.append(f"{show(output)} out")
    if telemetry.COST_AMOUNT in given:
        parts.append(_money(given[telemetry.COST_AMOUNT], given.get(telemetry.COST_CURRENCY)))
    if telemetry.ERROR_TYPE in given:
        parts.append(f"failed: {show(given[telemetry.ERROR_TYPE])}")
    return ", ".join(parts)


def _money(value: object, currency: object) -> str:
    return f"{value:.2g} {currency}" if isinstance(value, int | float) else show(value)
