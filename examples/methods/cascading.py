"""Cascading inference: a small model that learned from a strong one goes first, and is certified without gold.

    python examples/methods/cascading.py --labelled 120 --traffic 120 --served 40

The strong model labels some reviews, a head on a text encoder learns from that, both answer more reviews, and a
threshold is certified on what they say: with probability 0.9, at most a share alpha of all reviews gets another answer
than the strong model's ("learn then test", Angelopoulos et al. 2021). `goldless certify` and `goldless serve` do this
for files.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime

import anyio
from film_reviews import ENCODER, PLAN, TASK, FilmReviews, film_reviews

from cascade.artifact import seal
from cascade.certify import Asked, CertifySettings, certify
from cascade.fingerprint import question_fingerprint
from cascade.policy import Policy, TierRecord
from cascade.record import record
from cascade.route import Tier
from cascade.router import Cascade
from curator import Engine, Price, TrainingSet, connect, curate, train_heads
from curator.engines.base import identity_text
from curator.types import DecideRequest

STRONG = "transformers:wheel:qwen2.5-coder-0.5b"
PRICES = {"head": Price(0.01, 0.01), "strong": Price(0.1, 0.1)}
"""Per million tokens: made up, of the usual proportions."""


async def certified(tiers: Sequence[Tier], requests: Sequence[DecideRequest], alpha: float) -> Policy:
    """Have both tiers answer the traffic, and certify the threshold from which on the first one may answer alone."""
    names = [identity_text(tier.engine.identity) for tier in tiers]
    recording = await record(tiers, requests)
    (question,) = TASK.questions
    asked = Asked(question.name, question_fingerprint(requests[0], question, names), question.labels)
    found = certify(recording.outcomes[question.name], asked, CertifySettings(alpha=alpha))
    records = tuple(TierRecord.of(tier.name, name, tier.price) for tier, name in zip(tiers, names, strict=True))
    return seal(Policy(created=datetime.now(UTC), tiers=records, questions=(found,)))


async def main(strong: Engine, sizes: tuple[int, int, int], alpha: float) -> None:
    """Label, train, certify, serve; `sizes` are the reviews for each of these."""
    labelled, traffic, served = sizes
    first, everything = film_reviews(labelled), film_reviews(sum(sizes))
    async with aclosing(strong):
        await curate(TASK, strong, first.store, source=first.source, plan=PLAN)
        train_heads(TrainingSet(first.store, TASK), first.store.path.with_suffix(".head"), ENCODER)
        async with aclosing(connect(f"head:{first.store.path.with_suffix('.head')}")) as head:
            tiers = [Tier("head", head, PRICES["head"]), Tier("strong", strong, PRICES["strong"])]
            policy = await certified(tiers, requests(everything, labelled, labelled + traffic), alpha)
            certificate = policy.questions[0].certificate
            print(f"{certificate.verdict}: {certificate.reason}")
            cascade = Cascade({tier.name: tier.engine for tier in tiers}, policy)
            routed = [await cascade.route(one) for one in requests(everything, labelled + traffic, sum(sizes))]
    alone = sum(found.answers[0].tier == "head" for found in routed)
    print(f"{alone} of {served} answered by the head alone, {sum(found.cost or 0 for found in routed):.6f} spent")


def requests(reviews: FilmReviews, start: int, end: int) -> list[DecideRequest]:
    """Reviews `start` to `end` as questions to a model."""
    documents = [document for batch in reviews.source.batches() for document in batch]
    return [TASK.decide_request(document) for document in documents[start:end]]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--strong", default=STRONG)
    parser.add_argument("--labelled", type=int, default=120)
    parser.add_argument("--traffic", type=int, default=120)
    parser.add_argument("--served", type=int, default=40)
    parser.add_argument("--alpha", type=float, default=0.2)
    given = parser.parse_args()
    anyio.run(main, connect(given.strong), (given.labelled, given.traffic, given.served), given.alpha)
