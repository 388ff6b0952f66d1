"""curator/taught.py: what labelling taught about a model is kept, and new texts are answered in the same way."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from curator import classify
from curator.engines import connect
from curator.engines.base import EngineIdentity
from curator.engines.scripted import ScriptedEngine
from curator.errors import ConfigError, InputError
from curator.methods.lookup import Retrieval
from curator.methods.zero_to_strong import Rounds, improve
from curator.pipeline import Plan, curate
from curator.screening import Screening
from curator.store import Store
from curator.taught import TaughtEngine, lesson_of, read_lesson
from curator.types import DecideRequest, Document, Question

TASK = classify(["bad", "good"], "Is the film good?")
PLAN = Plan(screening=Screening(exact=False, near=None))


def leaning(request: DecideRequest) -> dict[str, float]:
    """Reads the text, and leans to bad by two nats; with examples to good by one."""
    evidence = 1.5 * (("is good" in request.state) - ("is bad" in request.state))
    odds = math.exp((1.0 if request.demonstrations else -2.0) + evidence)
    return {"good": odds / (1 + odds), "bad": 1 / (1 + odds)}


@pytest.fixture
def store(tmp_path):
    found = Store(tmp_path / "store.duckdb")
    texts = [f"this film is {'bad' if i % 2 else 'good'} and long {i}" for i in range(60)]
    with found.run("test", {}) as run:
        found.add_documents([[Document(f"d{i}", text) for i, text in enumerate(texts)]], source="test", run_id=run.id)
    return found


def asked(text: str, question: Question = TASK.questions[0]) -> DecideRequest:
    return DecideRequest(text, (question,))


async def tops(engine, texts):
    return [(await engine.decide(asked(text))).answers[0].top for text in texts]


async def taught(store, tmp_path, *, rounds: int = 0, task=TASK) -> TaughtEngine:
    engine = ScriptedEngine(decide=leaning)
    if rounds:
        result = await improve(task, engine, store, plan=PLAN, rounds=Rounds(rounds, churn=0.0))
    else:
        result = await curate(task, engine, store, plan=PLAN)
    path = tmp_path / "lesson.json"
    lesson_of(result.learned).save(path, "transformers:nothing")
    return TaughtEngine(str(path), engine=ScriptedEngine(decide=leaning))


@pytest.mark.anyio
@pytest.mark.parametrize("rounds", [0, 2])
async def test_new_texts_are_answered_without_the_bias(store, tmp_path, rounds):
    engine = await taught(store, tmp_path, rounds=rounds)
    texts = ["a film that is good", "a film that is bad"]
    assert await tops(ScriptedEngine(decide=leaning), texts) == [0, 0]
    assert await tops(engine, texts) == [1, 0]
    assert [bool(request.demonstrations) for request in engine.inner.requests] == [rounds > 0] * 2


@pytest.mark.anyio
async def test_it_says_what_the_labels_say(store, tmp_path):
    result = await curate(TASK, ScriptedEngine(decide=leaning), store, plan=PLAN)
    engine = await taught(store, tmp_path)
    for row in list(result.rows())[:10]:
        (answer,) = (await engine.decide(asked(row.document.text))).answers
        assert answer.probabilities == pytest.approx(row.fields["label"]["probabilities"], abs=1e-6)


@pytest.mark.anyio
async def test_views_are_all_asked_and_averaged(store, tmp_path):
    engine = await taught(store, tmp_path, task=TASK.with_views(3))
    found = await engine.decide(asked("a film that is good"))
    assert (len(engine.inner.requests), found.usage.calls) == (3, 3)
    assert len({request.template for request in engine.inner.requests}) > 1
    assert found.answers[0].top == 1
    assert len(await engine.preview(asked("a film"))) == 3


@pytest.mark.anyio
async def test_options_in_another_order_and_another_name_are_the_same_question(store, tmp_path):
    engine = await taught(store, tmp_path, rounds=1)
    question = TASK.questions[0]
    turned = replace(question, name="verdict", options=question.options[::-1])
    (answer,) = (await engine.decide(asked("a film that is good", turned))).answers
    (straight,) = (await engine.decide(asked("a film that is good"))).answers
    assert answer.logprobs == straight.logprobs[::-1]
    assert "verdict" in engine.inner.requests[0].demonstrations[0].answers


@pytest.mark.anyio
async def test_other_questions_go_to_the_model_as_they_are(store, tmp_path):
    engine = await taught(store, tmp_path)
    other = classify(["bad", "good"], "Is the music good?").questions[0]
    both = DecideRequest("a film that is good", (replace(other, name="music"), TASK.questions[0]))
    music, film = (await engine.decide(both)).answers
    (own,) = (await ScriptedEngine(decide=leaning).decide(asked("a film that is good", other))).answers
    assert music.logprobs == own.logprobs
    assert (music.top, film.top) == (0, 1)


@pytest.mark.anyio
async def test_a_refusal_stays_one(store, tmp_path):
    engine = await taught(store, tmp_path)
    silent = TaughtEngine(str(tmp_path / "lesson.json"), engine=ScriptedEngine(decide=lambda request: None))
    assert (await silent.decide(asked("a film"))).answers == (None,)
    assert engine.identity != engine.inner.identity


@pytest.mark.anyio
async def test_another_model_is_refused(store, tmp_path):
    engine = await taught(store, tmp_path)
    # Behind another address, or with other weights, the same name is another model.
    for identity in (
        EngineIdentity("scripted", "other"),
        EngineIdentity("scripted", "scripted", revision="other"),
        EngineIdentity("scripted", "scripted", "http://127.0.0.1:1"),
    ):
        with pytest.raises(ConfigError, match="is about scripted:scripted, not scripted:"):
            TaughtEngine(str(tmp_path / "lesson.json"), engine=ScriptedEngine(decide=leaning, identity=identity))
    assert engine.lesson == read_lesson(tmp_path / "lesson.json")


@pytest.mark.anyio
async def test_a_file_that_is_no_lesson_is_refused(store, tmp_path):
    await taught(store, tmp_path)
    path = tmp_path / "lesson.json"
    whole = path.read_bytes()
    for content, said in ((whole[:100], "is no lesson"), (whole.replace(b'"version": 1', b'"version": 9'), "newer")):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=said):
            read_lesson(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        connect("taught:nowhere.json")
    with pytest.raises(ConfigError, match="say which lesson"):
        connect("taught:")


@pytest.mark.anyio
async def test_examples_that_are_looked_up_are_no_lesson(store, tiny_encoder):
    pytest.importorskip("torch")
    task = classify(["bad", "fair", "good"], "Is the film good?")
    rounds = Rounds(1, retrieval=Retrieval(shortlist=2, above=2, encoder=str(tiny_encoder)), churn=0.0)
    engine = ScriptedEngine(decide=lambda request: request.questions[0].labels[0])
    result = await improve(task, engine, store, plan=PLAN, rounds=rounds)
    with pytest.raises(InputError, match="looked up"):
        lesson_of(result.learned)


@pytest.mark.anyio
async def test_a_small_model_is_better_with_its_lesson(tmp_path, tiny_model):
    """A random language model answers as its lesson says, whichever engine serves it."""
    pytest.importorskip("torch")
    store = Store(tmp_path / "real.duckdb")
    with store.run("test", {}) as run:
        page = [Document(f"d{i}", f"{'a good great' if i % 2 else 'a bad poor'} film {i}") for i in range(40)]
        store.add_documents([page], source="test", run_id=run.id)
    # In bfloat16 a text's probabilities change in the third decimal with the texts that it shares a batch with.
    engine = connect(f"transformers:{tiny_model}", dtype="float32")
    result = await curate(TASK, engine, store, plan=PLAN)
    await engine.aclose()
    lesson_of(result.learned).save(tmp_path / "lesson.json", f"transformers:{tiny_model}")
    served = connect(f"taught:{tmp_path / 'lesson.json'}", dtype="float32")
    rows = list(result.rows())
    found = [(await served.decide(asked(row.document.text))).answers[0].probabilities for row in rows]
    await served.aclose()
    expected = [row.fields["label"]["probabilities"] for row in rows]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.anyio
async def test_a_lesson_that_cannot_be_written_is_said(store, tmp_path):
    result = await curate(TASK, ScriptedEngine(decide=leaning), store, plan=PLAN)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written.*name another --lesson"):
        lesson_of(result.learned).save(tmp_path / "file" / "lesson.json", "transformers:nothing")
