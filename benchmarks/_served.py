"""What one request was, as its spans tell it, and the figures of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from benchmarks._otlp import Received
from curator.types import JsonObject

SMALL, STRONG = "small", "strong"


@dataclass(frozen=True, slots=True)
class Seen:
    """One answered request: the label, seconds, money, tokens (in and out), and who served it."""

    label: str
    seconds: float
    cost: float
    tokens: tuple[int, int]
    tier: str
    request: str = ""


def told(spans: Sequence[Received]) -> Seen:
    """The same of one request from the spans of its trace; audits, which stand beside the workflow, left out."""
    (root,) = [span for span in spans if span.name == "invoke_workflow cascade"]
    below = [span for span in spans if span.parent == root.id and span.name.startswith("chat ")]
    (tier,) = root.attributes["cascade.tier"]
    answered = below[-1] if tier == STRONG else below[0]
    said = orjson.loads(str(answered.attributes["gen_ai.output.messages"]))[0]["parts"][0]["content"]
    return Seen(
        orjson.loads(said)["label"],
        root.end - root.start,
        sum(span.number("gen_ai.usage.cost.amount") for span in below),
        tokens_of(below),
        tier,
    )


def tokens_of(spans: Sequence[Received]) -> tuple[int, int]:
    """In and out, of all calls of models."""
    calls = [span for span in spans if "gen_ai.usage.input_tokens" in span.attributes]
    given, answered = (f"gen_ai.usage.{way}_tokens" for way in ("input", "output"))
    return int(sum(span.number(given) for span in calls)), int(sum(span.number(answered) for span in calls))


def figures(seen: Sequence[Seen], gold: Sequence[str]) -> JsonObject:
    """Accuracy, money per 1,000 requests, seconds, tokens, and the share that the small tier served."""
    seconds = np.asarray([one.seconds for one in seen])
    return {
        "accuracy": float(np.mean([one.label == label for one, label in zip(seen, gold, strict=True)])),
        "cost_per_1000": 1000 * sum(one.cost for one in seen) / len(seen),
        "p50": float(np.quantile(seconds, 0.5)),
        "p95": float(np.quantile(seconds, 0.95)),
        "mean": float(seconds.mean()),
        "tokens": [sum(one.tokens[0] for one in seen), sum(one.tokens[1] for one in seen)],
        "small_served": sum(one.tier == SMALL for one in seen) / len(seen),
    }
