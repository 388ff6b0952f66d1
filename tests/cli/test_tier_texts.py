"""Sampled fields in `goldless certify`: what the tiers wrote, as outcomes, and a policy for the prompt."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import cast

import numpy as np
import orjson
import pytest
from aiohttp import web

from benchmarks import mock_model
from benchmarks.mock_server import MockServer
from cascade.opening import open_cascade
from cascade.outcomes import NO_ANSWER
from cli.tier_answers import TierAnswers
from cli.tier_texts import text_outcomes
from curator.task import solve
from curator.types import Completion, Document, JsonObject, Sample, Usage
from tests.cli.conftest import Project, Serve
from tests.cli.test_certification import TIERS, Large

pytestmark = pytest.mark.anyio


def wrote(name: str, **texts: tuple[str, ...]) -> TierAnswers:
    """Document -> its samples. None costs where the first one says nothing."""
    made = {
        document: Completion(tuple(Sample(text, "stop", -0.5) for text in said), Usage(9, 3), 0.25, 0.1)
        for document, said in texts.items()
    }
    return TierAnswers(name, name, {}, {}, {}, {}, made)


async def test_first_samples_are_compared_and_their_agreement_is_a_signal() -> None:
    task = solve(int, "How many?", samples=3)
    small = wrote("small", a=("Answer: 7", "Answer: 7", "Answer: 8"), b=("Answer: 9", "Answer: 1", "Answer: 2"))
    large = wrote("large", a=("It is 7.0\nAnswer: 7.0", "x", "y"), b=("Answer: 4", "z", "z"), c=("Answer: 1",) * 3)
    found = await text_outcomes(task, [Document(name, name) for name in "abc"], [small, large])
    assert found.ids == ("a", "b", "c")
    assert (found.answers[:, 0] == found.answers[:, 1]).tolist() == [True, False, False]
    assert found.answers[2, 0] == NO_ANSWER
    assert found.signals["agreement:3"][:2, 0] == pytest.approx([2 / 3, 1 / 3])
    assert found.signals["sequence_probability"][0, 0] == pytest.approx(math.exp(-0.5))
    assert found.cost[:, 0].tolist()[:2] == [0.25, 0.25]
    assert np.isnan(found.cost[2, 0])
    assert found.latency[0, 1] == 0.1


async def test_one_sample_has_no_agreement() -> None:
    task = solve(int, "How many?", samples=1)
    found = await text_outcomes(
        task, [Document("a", "a")], [wrote("t", a=("Answer: 7",)), wrote("u", a=("Answer: 7",))]
    )
    assert not any(name.startswith("agreement") for name in found.signals)


class Writer(MockServer):
    """Writes a number where JSON is wanted: the likeliest of five, which another model than `Strong` sees blurred."""

    def _answer(self, request: web.BaseRequest, raw: bytes) -> web.Response:
        said = orjson.loads(raw)
        if "response_format" not in said:
            return super()._answer(request, raw)
        chances = mock_model.distribution(said["messages"][-1]["content"], "12345")
        return web.json_response(self.written(said, chances))

    def written(self, said: JsonObject, chances: list[float]) -> dict[str, object]:
        sure = max(chances)
        number = int(np.argmax(chances)) + 1
        token = {"token": "x", "logprob": math.log(sure), "bytes": [], "top_logprobs": []}
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": f'{{"count": {self.seen(number, sure)}}}'},
            "finish_reason": "stop",
            "logprobs": {"content": [token]},
        }
        usage = {"prompt_tokens": 40, "completion_tokens": 1, "total_tokens": 41}
        return {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}

    def seen(self, number: int, sure: float) -> int:
        return number if sure > 0.4 else 9


class Strong(Writer, Large):
    """Always right."""

    def seen(self, number: int, sure: float) -> int:
        return number


COUNT = '[task.fields.count]\nkind = "number"\n'


@pytest.fixture
def writers(project: Project, serve: Serve) -> Project:
    """Documents, and two models that write."""
    project.texts = [f"film number {i} was seen" for i in range(240)]
    project.write(TIERS.replace("SMALL", serve(Writer()).url).replace("LARGE", serve(Strong()).url))
    project.ok("ingest")
    return project


def ask(project: Project, fields: str, settings: str = "samples = 1\ntemperature = 0.0") -> None:
    """Settings with other fields."""
    text = project.settings.read_text(encoding="utf-8")
    label = '[task.fields.label]\nkind = "choice"\nlabels = ["positive", "negative"]\n'
    text = text.replace(label, fields.replace("LABEL", label)).replace("[task]\n", f"[task]\n{settings}\n")
    project.settings.write_text(text, encoding="utf-8")


def made(project: Project, *arguments: str) -> tuple[dict, str]:
    path = project.folder / "policy.json"
    done = project.run("certify", "--out", str(path), *arguments)
    assert done.exit_code in (0, 3), done.stderr
    return cast(dict, orjson.loads(path.read_bytes())), done.stderr


def test_a_policy_for_a_prompt_is_made_and_curates(writers: Project) -> None:
    ask(writers, COUNT)
    found, said = made(writers)
    assert "certified is the prompt for count as one question, 'text', by its first sample" in said
    (question,) = found["questions"]
    certificate = question["certificate"]
    assert (question["name"], certificate["verdict"], certificate["rows"]) == ("text", "PASS", 120)
    assert 0.1 < certificate["shares"][0] < 1
    assert certificate["notes"][-1] == "the gate asks closed questions only"

    path = writers.folder / "policy.json"
    text = writers.settings.read_text(encoding="utf-8")
    engine = re.sub(r'\[engine\]\nspec = "[^"]*"', f'[engine]\nspec = "cascade:{path}"', text)
    writers.settings.write_text(engine, encoding="utf-8")
    (report,) = writers.json("curate")
    served = report["annotation"]["served_by"]
    assert served.keys() == {"small", "large"}
    assert served["small"] / 240 == pytest.approx(certificate["shares"][0], abs=0.1)
    (life,) = writers.json("why", "d0")
    assert [one["served_by"] for one in life["annotations"] if "served_by" in one] in ([["small"]], [["large"]])


async def test_the_policy_answers_such_prompts_in_python(writers: Project) -> None:
    import asyncio

    from cli.build import task_of
    from cli.config import read_settings

    ask(writers, COUNT)
    await asyncio.to_thread(made, writers)
    task = task_of(read_settings(writers.settings), writers.folder)
    cascade = open_cascade(writers.folder / "policy.json", uncertified="refuse")
    routed = [await cascade.route_text(task.generate_request(Document("", f"a new one: {n}"))) for n in range(40)]
    await cascade.aclose()
    assert {one.answers[0].tier for one in routed} == {"small", "large"}
    assert all(one.answers[0].certified for one in routed)


def test_a_task_that_mixes_closed_and_sampled_fields_has_both_certified(writers: Project) -> None:
    ask(writers, f"LABEL{COUNT}")
    found, said = made(writers, "--no-gate")
    assert "certified are label each, and the prompt for count as one question, 'text'" in said
    assert [question["name"] for question in found["questions"]] == ["label", "text"]
    assert {question["certificate"]["verdict"] for question in found["questions"]} == {"PASS"}
    assert found["questions"][1]["certificate"]["notes"] == []


def test_people_check_closed_fields_only(writers: Project) -> None:
    ask(writers, f"LABEL{COUNT}")
    sheet = writers.folder / "sheet.csv"
    done = writers.ok("certify", "--draw", "60", "--sheet", str(sheet))
    assert "count is left out: only closed fields are checked by people" in done.stderr
    assert sheet.read_text(encoding="utf-8-sig").splitlines()[0] == "document_id,text,label,draw"


@pytest.mark.parametrize(
    ("fields", "arguments", "message"),
    [
        (f'[task.fields.thought]\nkind = "reasoning"\n{COUNT}', [], "answers that hold reasoning are never alike"),
        (f'[task.fields.text]\nkind = "predicate"\n{COUNT}', [], "a field is called 'text'"),
        (COUNT, ["--audits"], "only closed fields are checked by people; count is sampled"),
    ],
)
def test_what_cannot_be_certified_says_so(project: Project, fields: str, arguments: list[str], message: str) -> None:
    project.write(TIERS.replace("SMALL", project.url).replace("LARGE", project.url))
    ask(project, fields)
    done = project.run("certify", *arguments, "--out", str(Path(project.folder) / "policy.json"))
    assert done.exit_code == 2
    assert message in done.stderr
