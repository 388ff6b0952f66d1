"""A cascade without gold labels: a small model answers what it is sure of, a strong one the rest.

    python examples/small_before_strong.py --small transformers:wheel:smollm2-135m

Both models answer some reviews, which shows from which confidence on the small one says what the strong one says; the
rest goes through the cascade. The threshold is only as good as the few reviews that it was read off: `goldless certify`
finds one with a stated risk.
"""

from __future__ import annotations

import argparse
import math
from contextlib import aclosing
from pathlib import Path

import anyio

from cascade.drafting import draft_policy
from cascade.outcomes import Outcomes
from cascade.record import record
from cascade.route import Tier
from cascade.router import Cascade
from curator import Engine, Price, classify, connect, open_source

REVIEWS = Path(__file__).with_name("reviews.jsonl")
TASK = classify(["negative", "positive"], "Did the reviewer like the film?")
PRICES = {"small": Price(0.02, 0.02), "strong": Price(0.5, 0.5)}
"""Per million tokens: what you pay, or what your machines cost."""


async def main(small: Engine, strong: Engine, source: Path, watched: int = 30) -> None:
    """Read a threshold off the first `watched` reviews, answer the others, and say what it took."""
    requests = [TASK.decide_request(document) for batch in open_source(source).batches() for document in batch]
    tiers = [Tier(name, engine, PRICES[name]) for name, engine in (("small", small), ("strong", strong))]
    async with aclosing(small), aclosing(strong):
        recording = await record(tiers, requests[:watched])
        threshold = agreeing_from(recording.outcomes["label"])
        if math.isinf(threshold):
            print("the small model agrees too rarely: the strong one alone is the better choice")
            return
        print(f"the small model answers from a probability of {threshold:.2f} on")
        engines = {tier.name: tier.engine for tier in tiers}
        policy = draft_policy(engines, requests[0], {"small": threshold}, prices=PRICES)
        cascade = Cascade(engines, policy, uncertified="rules")
        routed = [await cascade.route(request) for request in requests[watched:]]
    for request, found in zip(requests[watched:], routed, strict=True):
        (served,) = found.answers
        label = "refused" if served.answer is None else request.questions[0].labels[served.answer.top]
        print(f"{served.tier:6}  {served.confidence:.2f} {served.basis}  {label:8}  {request.state[:50]}")
    alone = sum(found.answers[0].tier == "small" for found in routed)
    cost = sum(found.cost or 0.0 for found in routed)
    print(f"{alone} of {len(routed)} answered by the small model alone; {cost * 1000:.4f} thousandths spent")


def agreeing_from(outcomes: Outcomes, share: float = 0.9, rows: int = 6) -> float:
    """The lowest confidence from which on the small model says, on this share of at least so many recorded rows, what
    the strong one says; infinity where there is none."""
    sure, same = outcomes.signals["top_probability"][:, 0], outcomes.answers[:, 0] == outcomes.answers[:, 1]
    accepted = {float(limit): same[sure >= limit] for limit in sure}
    fitting = (limit for limit, right in accepted.items() if len(right) >= rows and right.mean() >= share)
    return min(fitting, default=math.inf)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--small", default="transformers:wheel:smollm2-135m")
    parser.add_argument("--strong", default="transformers:wheel:qwen2.5-coder-0.5b")
    parser.add_argument("--source", type=Path, default=REVIEWS)
    given = parser.parse_args()
    anyio.run(main, connect(given.small), connect(given.strong), given.source)
