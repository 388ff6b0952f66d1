"""`goldless serve` with a model in its own process before vLLM with the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import openai
import pytest
from route_builders import MOOD, row
from serving_process import cascade_of, saved, started

from curator.task import DEFAULT_TEMPLATE
from curator.types import GenerateRequest, Message, Sampling

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SHORT = GenerateRequest((Message("user", ""),), Sampling(max_tokens=12, temperature=0.0))
LONG = GenerateRequest((Message("user", ""),), Sampling(max_tokens=13, temperature=0.0))
CHOICES = [{"value": "good"}, {"value": "bad"}]
QUESTION = {"type": "choice", "name": "mood", "instructions": MOOD.instructions, "choices": CHOICES}
ASKED = {"model": "cascade", "messages": [{"role": "user", "content": "Say hello to Ann."}], "temperature": 0}


@pytest.fixture(scope="module")
def client(smol: Path, vllm_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """Texts of 12 tokens are always served by the model in the process; decisions, and texts of 13, never."""
    folder = tmp_path_factory.mktemp("served")
    specs = {"small": f"transformers:{smol}", "strong": f"{vllm_server}#smol?dialect=chat"}
    decided = replace(row(""), template=DEFAULT_TEMPLATE)
    rules = {decided: {"mood": [1.0]}, SHORT: {"text": [0.0]}, LONG: {"text": [1.0]}}
    saved(folder, cascade_of(specs, rules, {"small": {"dtype": "float32"}}))
    table = f'[[cascade.tiers]]\nname = "small"\nspec = "{specs["small"]}"\nsettings = {{ dtype = "float32" }}\n'
    (folder / "goldless.toml").write_text(table)
    with (
        started(folder) as (_, url),
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=300) as found,
    ):
        yield found


def test_both_say_the_same_text_whole_and_streamed(client: openai.OpenAI) -> None:
    told = {}
    for tokens, tier in ((12, "small"), (13, "strong")):
        whole = client.chat.completions.create(**ASKED, max_tokens=tokens)
        pieces = list(client.chat.completions.create(**ASKED, max_tokens=tokens, stream=True))
        told[tier] = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        assert told[tier] == whole.choices[0].message.content
        assert whole.goldless["tier"] == pieces[-1].goldless["tier"] == tier
        assert whole.usage.completion_tokens == tokens
    assert told["strong"].startswith(told["small"])


def test_both_decide_alike(client: openai.OpenAI) -> None:
    body = {"input": "I laughed all day", "questions": [QUESTION]}
    said = client.decisions.create(model="cascade", **body)
    assert [one["tier"] for one in said.goldless["attempts"]] == ["small", "strong"]
    alone = client.decisions.create(model="cascade:small", **body)
    assert said.answers[0].choice == alone.answers[0].choice
    found = [answer.answers[0].probabilities[0].probability for answer in (said, alone)]
    assert found[0] == pytest.approx(found[1], abs=0.01)


def test_what_the_process_cannot_heed_is_refused_and_the_server_may_take_it(client: openai.OpenAI) -> None:
    asked = {**ASKED, "max_tokens": 4, "extra_body": {"min_p": 0.1}}
    assert client.chat.completions.create(**asked).goldless["tier"] == "strong"
    with pytest.raises(openai.BadRequestError, match="min_p"):
        client.chat.completions.create(**{**asked, "model": "cascade:small"})
