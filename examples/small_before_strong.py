"""A cascade without gold labels: a small head learns from a stronger model, and answers what it is sure of.

    python examples/small_before_strong.py --strong transformers:wheel:qwen2.5-coder-0.5b

The strong model answers some of the reviews; a head on a small encoder learns from these answers; on the next ones
both are asked, which shows from which confidence on the head agrees; the rest goes through the cascade. The threshold
is only as good as the few reviews it was read off: `goldless certify` finds one with a stated risk.
"""

from __future__ import annotations

import argparse
import math
from contextlib import aclosing
from pathlib import Path

import anyio
import numpy as np

from cascade.drafting import draft_policy
from cascade.outcomes import Outcomes
from cascade.record import record
from cascade.route import Tier
from cascade.router import Cascade
from curator import Engine, classify, connect, open_source
from curator.training.classifier import train_classifier
from curator.training.supervision import Supervision
from curator.types import DecideRequest

REVIEWS = Path(__file__).with_name("reviews.jsonl")
TASK = classify(["negative", "positive"], "Did the reviewer like the film?")


async def main(strong: Engine, encoder: str, source: Path, folder: Path) -> None:
    """Teach the head, read off a threshold, and answer the rest."""
    requests = [TASK.decide_request(document) for batch in open_source(source).batches() for document in batch]
    taught, watched, rest = requests[:24], requests[24:40], requests[40:]
    async with aclosing(strong):
        await teach(strong, taught, encoder, folder)
        tiers = {"head": connect(f"head:{folder}"), "strong": strong}
        async with aclosing(tiers["head"]):
            recording = await record([Tier(name, engine) for name, engine in tiers.items()], watched)
            threshold = agreeing_from(recording.outcomes["label"])
            if math.isinf(threshold):
                print("the head agrees too rarely: the strong model alone is the better choice")
                return
            policy = draft_policy(tiers, requests[0], {"head": threshold})
            cascade = Cascade(tiers, policy, uncertified="rules")
            print(f"the head answers from a probability of {threshold:.2f} on")
            served = [0, 0]
            for request in rest:
                (answer,) = (await cascade.route(request)).answers
                served[answer.tier == "strong"] += 1
                label = "refused" if answer.answer is None else request.questions[0].labels[answer.answer.top]
                print(f"{answer.tier:6}  {answer.confidence:.2f} {answer.basis}  {label:8}  {request.state[:50]}")
    print(f"{served[0]} answered by the head alone, {served[1]} by the strong model")


async def teach(strong: Engine, requests: list[DecideRequest], encoder: str, folder: Path) -> None:
    """Train a head on what the strong model says, as probabilities."""
    answers = [(await strong.decide(request)).answers[0] for request in requests]
    pairs = [(request.state, answer) for request, answer in zip(requests, answers, strict=True) if answer is not None]
    targets = np.array([answer.probabilities for _, answer in pairs])
    field = Supervision(requests[0].questions[0], targets, np.ones(len(pairs)))
    train_classifier([text for text, _ in pairs], [field], folder, encoder)


def agreeing_from(outcomes: Outcomes, share: float = 0.9) -> float:
    """The lowest confidence from which on the head says, on this share of the recorded rows, what the strong model
    says; infinity where there is none."""
    sure, same = outcomes.signals["top_probability"][:, 0], outcomes.answers[:, 0] == outcomes.answers[:, 1]
    return min((float(limit) for limit in sure if same[sure >= limit].mean() >= share), default=math.inf)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--strong", default="transformers:wheel:qwen2.5-coder-0.5b")
    parser.add_argument("--encoder", default="wheel:all-minilm-l6-v2")
    parser.add_argument("--source", type=Path, default=REVIEWS)
    parser.add_argument("--folder", type=Path, default=Path("cascade-head"))
    given = parser.parse_args()
    anyio.run(main, connect(given.strong), given.encoder, given.source, given.folder)
