"""Two MiniLM heads as tiers, one taught by 100 questions and one by 1,500, through the server and the openai client."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import openai
import pytest
from gateway_builders import TEMPLATE, running
from route_builders import policy

from cascade.artifact import seal
from curator.engines import connect
from curator.types import DecideRequest, Option, Question

pytestmark = [pytest.mark.engine, pytest.mark.anyio, pytest.mark.timeout(900)]


def rows(folder: Path, split: str) -> list[dict[str, str]]:
    lines = (folder / "trec" / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


async def test_heads_are_served_as_they_answer_by_themselves(shared_data: Path, tmp_path: Path) -> None:
    classifier = pytest.importorskip("curator.training.classifier")
    from curator.training.supervision import Supervision

    train, test = rows(shared_data, "train")[:1500], rows(shared_data, "test")[:60]
    labels = sorted({row["label"] for row in train})
    question = Question("kind", "choice", "What does the question ask for?", tuple(map(Option, labels)))
    for name, count in (("small", 100), ("strong", 1500)):
        taught = Supervision.of_labels(question, [row["label"] for row in train[:count]])
        classifier.train_classifier([row["text"] for row in train[:count]], [taught], tmp_path / name)
    tiers = {name: connect(f"head:{tmp_path / name}") for name in ("small", "strong")}
    asked = [DecideRequest(row["text"], (question,), TEMPLATE) for row in test]
    alone = {name: [(await engine.decide(request)).answers[0] for request in asked] for name, engine in tiers.items()}
    found = seal(policy(tiers, replace(asked[0], state=""), {"kind": [0.7]}))
    body = {
        "type": "choice",
        "name": "kind",
        "instructions": question.instructions,
        "choices": [{"value": label} for label in labels],
    }
    async with (
        running(tmp_path, tiers, found, live={"share": 0}) as server,
        openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none") as client,
    ):
        ask = client.decisions.create
        served = await asyncio.gather(*(ask(model="cascade", input=row["text"], questions=[body]) for row in test))
    by_tier = {"small": 0, "strong": 0}
    for place, answer in enumerate(served):
        tier = answer.goldless["answers"][0]["tier"]
        by_tier[tier] += 1
        small, own = alone["small"][place], alone[tier][place]
        assert (max(small.probabilities) >= 0.7) == (tier == "small")
        assert answer.answers[0].choice == labels[own.top]
    assert min(by_tier.values()) >= 5, by_tier
    right = sum(answer.answers[0].choice == row["label"] for answer, row in zip(served, test, strict=True))
    assert right >= 36
