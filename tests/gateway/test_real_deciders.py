"""`goldless serve` in front of two `sparrow-decider` servers: real models, real processes, real faults."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import openai
import pytest
import typesafe_sdk
from route_builders import FUN, MOOD, row
from serving_process import cascade_of, saved, started
from sparrow_decider import Decider
from sparrow_process import GENERAL, ROBOT, serving_sparrow

from curator.task import DEFAULT_TEMPLATE

ASKED = replace(row("", MOOD, FUN), template=DEFAULT_TEMPLATE)
CHOICE = {
    "type": "choice",
    "name": "mood",
    "instructions": MOOD.instructions,
    "choices": [{"value": "good"}, {"value": "bad"}],
}
PREDICATE = {"type": "predicate", "name": "fun", "instructions": FUN.instructions}
STATES = [
    "What a wonderful sunny day, I love it",
    "The room was dirty and the staff were rude",
    "It was fine",
    "We laughed all night long",
    "My order never came and nobody answers",
]


@dataclass
class Served:
    url: str
    small: subprocess.Popen[str]
    strong: subprocess.Popen[str]


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """The robots' model before the general one; sure answers of the first are served."""
    with serving_sparrow(ROBOT) as (small, one), serving_sparrow(GENERAL) as (strong, other):
        specs = {"small": f"{one}#robot?dialect=systemone", "strong": f"{other}#general?dialect=systemone"}
        saved(folder, cascade_of(specs, {ASKED: {"mood": [0.7], "fun": [0.7]}}))
        with started(folder) as (_, url):
            yield Served(url, small, strong)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("served")) as found:
        yield found


def chances(model: Decider, state: str) -> dict[str, float]:
    """Its own library's word: of good, and of yes."""
    mood = {"type": "choice", "instructions": MOOD.instructions, "criteria": {"good": None, "bad": None}}
    said = model.ask(state, {"mood": mood, "fun": {"type": "noul", "instructions": FUN.instructions}})
    return {"mood": said["mood"]["probabilities"]["good"], "fun": said["fun"]["noul"]}


def test_each_question_is_answered_by_the_tier_that_the_policy_wants(served: Served) -> None:
    models = {"small": Decider.load(ROBOT), "strong": Decider.load(GENERAL)}
    tiers = []
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        for state in STATES:
            said = client.decisions.create(model="cascade", input=state, questions=[CHOICE, PREDICATE])
            found = {"mood": said.answers[0].probabilities[0].probability, "fun": said.answers[1].probability}
            small = chances(models["small"], state)
            for told in said.goldless["answers"]:
                name = told["question"]
                sure = max(small[name], 1 - small[name]) >= 0.7
                assert told["tier"] == ("small" if sure else "strong")
                # What both libraries print is rounded to four places.
                assert found[name] == pytest.approx(chances(models[told["tier"]], state)[name], abs=2e-4)
                tiers.append(told["tier"])
    assert 2 <= tiers.count("small") <= len(tiers) - 2, tiers


def test_system_ones_own_client_is_answered_as_the_model_by_itself(served: Served) -> None:
    levels = ["can wait", "today", "now"]
    asked = {"urgency": typesafe_sdk.Score(instructions="How urgent?", criteria=levels)}
    with typesafe_sdk.TypeSafeClient(api_key="none", base_url=served.url, model="cascade:strong") as client:
        said = client.system_one(state=STATES[4], questions=asked).scores["urgency"]
    question = {"type": "score", "instructions": "How urgent?", "criteria": levels}
    alone = Decider.load(GENERAL).ask(STATES[4], {"urgency": question})["urgency"]
    assert list(said.probabilities.values()) == pytest.approx(list(alone["probabilities"].values()), abs=2e-4)
    assert said.score == pytest.approx(alone["score"], abs=1e-3)


def test_a_server_that_knows_no_chat_is_named_as_such_and_goes_on_deciding(served: Served) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        for _ in range(12):
            with pytest.raises(openai.InternalServerError) as failed:
                client.chat.completions.create(model="cascade:small", messages=[{"role": "user", "content": "Hello"}])
        assert (failed.value.status_code, failed.value.code) == (502, "upstream_failed")
        said = client.decisions.create(model="cascade:small", input="fine", questions=[CHOICE])
    assert said.goldless["answers"][0]["tier"] == "small"


def test_what_dies_is_gone_around(tmp_path: Path) -> None:
    body = {"model": "cascade", "input": STATES[0], "questions": [CHOICE, PREDICATE]}
    with serving(tmp_path) as served:
        served.small.kill()
        served.small.wait()
        said = httpx.post(f"{served.url}/v1/decisions", json=body, timeout=60).json()["goldless"]
        served.strong.kill()
        served.strong.wait()
        gone = httpx.post(f"{served.url}/v1/decisions", json=body, timeout=60)
    assert [one["tier"] for one in said["attempts"]] == ["small", "strong"]
    assert said["attempts"][0]["error"] == "ServerError"
    assert said["answers"][0]["outcome"] == "teacher"
    assert (gone.status_code, gone.json()["error"]["code"]) == (503, "upstream_failed")
    assert "127.0.0.1" not in gone.text, "addresses are nobody's business"
