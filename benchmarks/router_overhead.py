"""What a cascade adds to its tiers: CPU time per request, for questions and prompts, with and without spans.

    python -m benchmarks.router_overhead --requests 2000 --repeats 5 --json out.json

Two scripted tiers that answer at once, in one process and one event loop, one request after another. Every request has
objects of its own, as a server that parses JSON makes them. `router` is the CPU time of a request less that of the
calls which its tiers took, themselves without the router. Spans go to the SDK's tracer provider, whose processor drops
them: three per request, four where it is escalated. BENCHMARKS.md, section 6, without the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

import orjson
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from cascade.fingerprint import prompt_fingerprint, question_fingerprint
from cascade.policy import Certificate, Policy, QuestionPolicy, Rule, Scorer, TierRecord, Verdict
from cascade.router import Cascade
from curator.engines.base import Engine, EngineIdentity, identity_text
from curator.engines.scripted import ScriptedEngine
from curator.engines.tracing import TracingEngine
from curator.types import (
    Completion,
    DecideRequest,
    Decision,
    Decisions,
    GenerateRequest,
    Message,
    Option,
    Question,
    Sample,
    Usage,
)

Kind = Literal["decide", "generate"]
Mode = Literal["off", "spans", "spans + metrics"]
KINDS: Final[tuple[Kind, ...]] = ("decide", "generate")
MODES: Final[tuple[Mode, ...]] = ("off", "spans", "spans + metrics")
ESCALATED: Final = (0, 30, 100)
"""Per cent of the requests."""
LIMIT: Final = 0.8


@dataclass(frozen=True, slots=True)
class Arm:
    """CPU milliseconds per request, of the cascade and of its tiers' calls alone: the least of the repeats, as CPU time
    too grows where other processes share the machine's caches."""

    kind: Kind
    escalated: int
    mode: Mode
    total: float
    tiers: float

    @property
    def router(self) -> float:
        return self.total - self.tiers


def engine(name: str, confidence: float) -> Engine:
    """A tier that gives the same answer to everything, at once."""
    sure, unsure = (Decision((a, b), 0.9, "scripted") for a, b in ((-0.05, -3.0), (-0.6, -0.8)))
    decisions = {True: Decisions((sure,), Usage(80, 1)), False: Decisions((unsure,), Usage(80, 1))}
    texts = {
        easy: Completion((Sample("fine", logprob=value, deciles=(value,) * 11),), Usage(80, 8))
        for easy, value in ((True, -0.05), (False, -1.0))
    }
    return TracingEngine(
        ScriptedEngine(
            decide=lambda request: decisions[confidence == 1 or "easy" in request.state],
            generate=lambda request: texts[confidence == 1 or "easy" in request.messages[0].content],
            identity=EngineIdentity("scripted", name),
        )
    )


def request(kind: Kind, number: int, escalated: int) -> DecideRequest | GenerateRequest:
    """Request number `number`, made of new objects."""
    state = f"{'hard' if number % 100 < escalated else 'easy'} text number {number}"
    if kind == "generate":
        return GenerateRequest((Message("user", state),))
    options = (Option("positive", "it praises"), Option("negative", "it complains"))
    return DecideRequest(state, (Question("mood", "choice", "Which mood?", options),))


def policy(tiers: dict[str, Engine]) -> Policy:
    """Serves what is sure enough."""
    who = [identity_text(one.identity) for one in tiers.values()]
    asked, prompt = request("decide", 0, 0), request("generate", 0, 0)
    assert isinstance(asked, DecideRequest)
    assert isinstance(prompt, GenerateRequest)
    return Policy(
        created=datetime(2026, 1, 1, tzinfo=UTC),
        tiers=tuple(TierRecord(name=name, identity=text) for name, text in zip(tiers, who, strict=True)),
        questions=(
            _entry("mood", question_fingerprint(asked, asked.questions[0], who), ("top_probability", "label_mass")),
            _entry("text", prompt_fingerprint(prompt, who), ("sequence_probability", "token_quantile:0.1")),
        ),
    )


def _entry(name: str, mark: str, signals: tuple[str, str]) -> QuestionPolicy:
    """A calibrated rule that fuses two signals."""
    scorer = Scorer(signals=signals, weights=(0.75, 0.25), knots=(0.0, 0.5, 0.9, 1.0), values=(0.1, 0.5, 0.9, 0.95))
    certificate = Certificate(
        basis="vs_teacher",
        verdict=Verdict.PASS,
        reason="made up",
        alpha=0.05,
        delta=0.1,
        rows=500,
        risk=0.02,
        bound=0.04,
        shares=(0.7, 0.3),
        baseline_cost=0.01,
    )
    rule = Rule(tier="small", scorer=scorer, threshold=LIMIT)
    return QuestionPolicy(name=name, fingerprint=mark, rules=(rule,), certificate=certificate)


async def measure(call: Callable[[int], Awaitable[object]], count: int) -> float:
    """CPU milliseconds per call, after a warm-up."""
    for number in range(count // 10):
        await call(number)
    gc.collect()
    began = time.process_time()
    for number in range(count):
        await call(number)
    return 1000 * (time.process_time() - began) / count


async def arm(kind: Kind, escalated: int, mode: Mode, count: int, repeats: int) -> Arm:
    tiers = {"small": engine("tiny", 0), "strong": engine("big", 1)}
    cascade = Cascade(tiers, policy(tiers))

    def ask(asked: Engine, given: DecideRequest | GenerateRequest) -> Awaitable[object]:
        return asked.decide(given) if isinstance(given, DecideRequest) else asked.generate(given)

    async def routed(number: int) -> object:
        return await ask(cascade, request(kind, number, escalated))

    async def alone(number: int) -> None:
        given = request(kind, number, escalated)
        await ask(tiers["small"], given)
        if number % 100 < escalated:
            await ask(tiers["strong"], given)

    runs = [(await measure(routed, count), await measure(alone, count)) for _ in range(repeats)]
    return Arm(kind, escalated, mode, *map(min, zip(*runs, strict=True)))


class _Dropping(SpanProcessor):
    """Spans are made in full, and go nowhere."""


def watch(mode: Mode) -> None:
    """Set up the SDK for this and all later arms of the process."""
    if mode == "spans":
        provider = TracerProvider()
        provider.add_span_processor(_Dropping())
        trace.set_tracer_provider(provider)
    elif mode == "spans + metrics":
        metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))


def table(arms: Sequence[Arm]) -> str:
    """One line per arm."""
    head = f"{'request':<10}{'escalated':>10}  {'telemetry':<17}{'CPU ms':>8}{'tiers':>8}{'router':>8}"
    lines = [
        f"{one.kind:<10}{one.escalated:>9}%  {one.mode:<17}{one.total:>8.3f}{one.tiers:>8.3f}{one.router:>8.3f}"
        for one in arms
    ]
    return "\n".join([head, *lines])


def run(count: int, repeats: int) -> list[Arm]:
    """All arms. An SDK cannot be taken away again, so those without come first."""
    arms = []
    for mode in MODES:
        watch(mode)
        for kind in KINDS:
            arms += [asyncio.run(arm(kind, escalated, mode, count, repeats)) for escalated in ESCALATED]
    return arms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    arms = run(given.requests, given.repeats)
    print(table(arms))
    if given.json:
        rows = [{**{name: getattr(one, name) for name in Arm.__slots__}, "router": one.router} for one in arms]
        given.json.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
