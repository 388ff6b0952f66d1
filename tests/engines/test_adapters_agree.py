"""A LoRA adapter answers alike in transformers, in vLLM in process, and merged into its base."""

from __future__ import annotations

import asyncio
import itertools
import math

import pytest

from curator.engines import connect
from curator.training.merge import merge
from curator.types import DecideRequest, Option, Question

pytestmark = [pytest.mark.engine, pytest.mark.anyio, pytest.mark.timeout(1800)]

SMOL = "wheel:smollm2-135m"
LABELS = ("abbreviation", "description", "entity", "human", "location", "number")
SUBJECTS = ("The night train", "My new phone", "A small bakery", "The tax office", "Our football team", "This novel")
PREDICATES = ("arrived late.", "is better than I hoped!", "costs 40 euros now.", "was moved to Lisbon in 1998.")


@pytest.fixture(scope="module")
def adapter(smol, tmp_path_factory):
    """An adapter of random weights on every projection, which turns many answers: nothing is trained for it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(smol, dtype=torch.float32)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.mul_(0.5)
    folder = tmp_path_factory.mktemp("adapter")
    adapted.save_pretrained(folder)
    return folder


async def answers(spec: str, **settings: object) -> list[tuple[float, ...]]:
    question = Question("kind", "choice", "Which one fits this text?", tuple(map(Option, LABELS)))
    texts = [f"{subject} {predicate}" for subject, predicate in itertools.product(SUBJECTS, PREDICATES)]
    engine = connect(spec, dtype="float32", **settings)
    try:
        found = await asyncio.gather(*(engine.decide(DecideRequest(text, (question,))) for text in texts))
    finally:
        await engine.aclose()
    return [answer.answers[0].logprobs for answer in found]


def gaps(ours, theirs) -> list[float]:
    """Differences of all log-probabilities, in nats."""
    return [abs(a - b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True)]


async def test_an_adapter_answers_alike_everywhere(adapter, tmp_path):
    pytest.importorskip("vllm", reason="vLLM is not installed")
    base = await answers(f"transformers:{SMOL}")
    ours = await answers(f"transformers:{SMOL}", adapter=str(adapter))
    theirs = await answers(
        f"vllm:{SMOL}",
        adapter=str(adapter),
        max_model_len=512,
        enforce_eager=True,
        kv_cache_memory_bytes=128 << 20,
    )
    merged = await answers(f"transformers:{merge(adapter, tmp_path / 'merged', base=SMOL, dtype='float32')}")
    assert max(gaps(ours, theirs)) < 0.01
    assert max(gaps(ours, merged)) < 0.01
    moved = gaps(ours, base)
    assert math.fsum(moved) / len(moved) > 0.1
